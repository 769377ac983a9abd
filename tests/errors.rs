//! Everyday errors, as the page "Explain this error" shows them: here the kernel refuses nothing unusual. The refusals
//! of a restricted place are in refusals.rs.

use course::test_support::{programs_for_each_caller, step_program};
use harness::test_support::{with_tools, write_program};
use harness::{
    Caller, Context, Program, Result, ScratchDir, Supervisor, Transcript, assert_snapshot,
};

const RUN_PID: &str = r"(?:run PID|pid): (\d+)";

fn programs(step: u32) -> Vec<Program> {
    programs_for_each_caller(step_program(step))
}

/// Without root, the container is in a user namespace with a single user.
fn rootless_programs(step: u32) -> impl Iterator<Item = Program> {
    programs(step).into_iter().filter(|program| program.caller() == Caller::Rootless)
}

/// A script without `#!`, executable or not.
fn script(mode: u32) -> Result<ScratchDir> {
    let directory = ScratchDir::new("errors")?;
    let file = directory.path().join("script");
    write_program(&file, "echo the script runs\n", mode);
    Ok(directory)
}

fn in_directory(program: &Program, directory: &ScratchDir, args: &[&str]) -> Supervisor {
    program.supervise(args).in_directory(directory.path())
}

/// execvp(3) gives such a file to /bin/sh, and posix_spawnp(3) doesn't. Step 04 spawns its command, step 05 becomes it.
#[test]
fn script_without_interpreter_needs_exec() -> Result {
    let directory = script(0o755)?;
    for (step, subcommand, works) in [
        (1, "command", false),
        (1, "exec", true),
        (2, "run", true),
        (4, "run", false),
        (5, "run", true),
    ] {
        for program in programs(step) {
            let supervisor = in_directory(&program, &directory, &[subcommand, "./script"]);
            let (said, exit) = Transcript::run_with_exit(supervisor)?;
            let status = exit.assert_clean().status.code();
            assert_eq!(status, Some(if works { 0 } else { 126 }), "{}", said.text);
            assert_eq!(said.printed.contains("the script runs"), works, "{}", said.text);
            if (step, subcommand) == (1, "command") {
                assert_snapshot!("no_interpreter", said.redacted(&[RUN_PID])?);
            }
        }
    }
    Ok(())
}

#[test]
fn file_without_permission_exits_126() -> Result {
    let directory = script(0o644)?;
    for program in programs(2) {
        let said = Transcript::run(in_directory(&program, &directory, &["run", "./script"]))?;
        assert!(said.text.ends_with("[exit status 126]\n"), "{}", said.text);
        assert_snapshot!("not_executable", said.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn su_needs_setgroups() -> Result {
    for program in with_tools(&["su"], rootless_programs(2)) {
        let said = program.transcript(["run", "su", "-c", "id", "nobody"])?;
        // In Docker and Podman, PAM refuses before su gets that far.
        if said.printed.contains("su: Authentication failure\n") {
            continue;
        }
        assert!(said.printed.contains("su: cannot set groups: Operation not permitted\n"));
        assert_snapshot!("su", said.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn unmapped_user_is_invalid() -> Result {
    for program in with_tools(&["setpriv"], rootless_programs(2)) {
        let said = program.transcript(["run", "setpriv", "--reuid=1000", "id"])?;
        assert!(said.printed.contains("setpriv: setresuid failed: Invalid argument\n"));
        assert_snapshot!("unmapped_user", said.redacted(&[RUN_PID])?);
    }
    Ok(())
}

/// 65534 is the kernel's number for users and groups that aren't mapped.
#[test]
fn host_files_belong_to_overflow_ids() -> Result {
    for program in rootless_programs(2) {
        let output = program
            .command(["run", "stat", "-c", "%u %g", "/"])
            .output()
            .context("start the step")?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "65534 65534\n");
    }
    Ok(())
}

#[test]
fn bash_without_terminal_has_no_job_control() -> Result {
    for program in with_tools(&["bash"], programs(2)) {
        let said = program.transcript(["run", "bash", "--norc", "-i"])?.printed;
        assert!(
            said.contains(
                "cannot set terminal process group (-1): Inappropriate ioctl for device\n"
            ),
            "{said}"
        );
        assert!(said.contains("bash: no job control in this shell\n"), "{said}");
    }
    Ok(())
}

/// With a new /proc, `init` doesn't see a parent, because that is outside.
#[test]
fn init_as_command_of_container_is_refused() -> Result {
    for program in programs(3) {
        let said = program.transcript(["run", "03-proc-mount", "init", "true"])?;
        assert!(said.text.ends_with("[exit status 125]\n"), "{}", said.text);
        assert_snapshot!("init_without_run", said.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn habits_from_docker_are_usage_errors() -> Result {
    for program in programs(2) {
        let command = program.transcript(["ps"])?;
        assert!(command.text.ends_with("[exit status 2]\n"), "{}", command.text);
        assert_snapshot!("no_subcommand", command.text);
        let option = program.transcript(["run", "--rm", "ps"])?;
        assert!(option.text.ends_with("[exit status 2]\n"), "{}", option.text);
        assert_snapshot!("unknown_option", option.text);
    }
    Ok(())
}
