//! What is new in each step.

use harness::{Program, Session, Transcript};
use nix::sys::signal::Signal;

use super::result::{CheckResult, RunOutput, during, ensure, ensure_clean};

fn command_line(program: &Program, args: &[&str]) -> String {
    format!("{} {}", program.name(), args.join(" "))
}

/// Runs a command in the container, and compares its standard output.
fn prints(program: &Program, command: &[&str], expected: &str) -> CheckResult {
    RunOutput::of_program(program, [&["run"], command].concat())?
        .has_stdout(expected.as_bytes())?;
    Ok(())
}

/// The command replaces `init`, and keeps its PID.
pub(super) fn command_is_pid_1(program: &Program) -> CheckResult {
    prints(program, &["sh", "-c", "echo $$ $PPID"], "1 0\n")?;
    let args = ["run", "--ti", "/bin/sh"];
    let command = command_line(program, &args);
    let shell = program.session(args).map_err(during(&command))?;
    let tree = shell.tree().map_err(during(&command))?;
    let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
    ensure(pids == [1, 2], command, "`run`, and below it a shell with two PIDs", tree.text())
}

/// The container sees its own processes and no others.
pub(super) fn ps_shows_only_the_container(program: &Program) -> CheckResult {
    // No arguments, because a wrong answer would show other people's.
    prints(program, &["ps", "-e", "-o", "pid=,comm="], "      1 ps\n")
}

/// The container's /proc doesn't cover the host's.
pub(super) fn host_proc_is_unharmed(program: &Program) -> CheckResult {
    let args = ["-c", "\"$0\" run true && ps -o comm= -p $$; :", &program.path().to_string_lossy()];
    let shell = program.environment().supervise("sh", args).on_scratch_host();
    let run = command_line(program, &["run", "true"]);
    let command = format!("{run}, and then `ps`, on a host with a shared `/`");
    let (transcript, exit) = Transcript::run_with_exit(shell).map_err(during(&command))?;
    let shown = transcript.printed.ends_with("sh\n");
    ensure(shown, &command, "`ps` on the host shows sh", &transcript.printed)?;
    ensure_clean(&command, &exit)
}

/// /proc has the mount flags that it needs no program, device or set-user-ID bit for.
pub(super) fn proc_is_nosuid_nodev_noexec(program: &Program) -> CheckResult {
    let command = ["sh", "-c", "grep '^proc /proc ' /proc/mounts | tail -n 1"];
    prints(program, &command, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n")
}

/// `init` stays, and the command has a parent in the container.
pub(super) fn command_is_child_of_init(program: &Program) -> CheckResult {
    prints(program, &["sh", "-c", "echo $PPID"], "1\n")
}

/// The command gets the signal, and its exit ends everything.
pub(super) fn signal_to_run_reaches_command(program: &Program) -> CheckResult {
    let script = "trap 'exit 42' TERM; sleep 1000 </dev/null >/dev/null 2>&1 & echo up; wait";
    let args = ["run", "sh", "-c", script];
    let command = format!("{}, and SIGTERM to `run`", command_line(program, &args));
    let session = Session::ready(program.supervise(args), "up").map_err(during(&command))?;
    session.signal(Signal::SIGTERM).map_err(during(&command))?;
    let (exit, _) = session.wait().map_err(during(&command))?;
    let status = exit.status.to_string();
    ensure(
        exit.status.code() == Some(42),
        command,
        "exit status: 42, from the command's trap",
        status,
    )
}

/// No zombie stays.
pub(super) fn dead_orphan_is_reaped(program: &Program) -> CheckResult {
    // PID 1 may need a moment. The shell can't wait for it, because the orphan isn't its child.
    let script = "(true &); n=0; \
        while ps -e -o stat= | grep -q ^Z && [ $n -lt 100 ]; do n=$((n+1)); done; \
        ps -e -o stat= | grep -c ^Z; :";
    prints(program, &["sh", "-c", script], "0\n")
}

/// A reader sees EOF when the command has closed its end, and not only when `run` and `init` exit.
pub(super) fn pipe_closed_by_command_is_closed(program: &Program) -> CheckResult {
    let command = "echo words; exec >&- 8>&-; exec sleep 1000";
    let script = format!(
        "rm -f out; mkfifo out; \"$0\" run sh -c '{command}' >out 2>/dev/null 8>&1 & \
         cat out; kill -KILL $!; wait; rm out"
    );
    let quoted = format!("'{command}'");
    let args = ["run", "sh", "-c", &quoted, ">out 8>&1 & cat out"];
    let path = program.path().to_string_lossy();
    let shell = program.environment().supervise("sh", ["-c", &script, &path]);
    RunOutput::of(command_line(program, &args), shell)?.has_stdout(b"words\n")?;
    Ok(())
}

/// The clock that counts from boot counts from the container's start.
pub(super) fn clock_starts_at_zero(program: &Program) -> CheckResult {
    let command = "test $(cut -d. -f1 /proc/uptime) -lt 60 && echo yes";
    prints(program, &["sh", "-c", command], "yes\n")
}

/// What is the host's can't be read.
pub(super) fn masks_host_paths(program: &Program) -> CheckResult {
    let command = "for file in /proc/keys /proc/timer_list; do test -e $file && stat -c %F $file; done \
        | sort -u";
    prints(program, &["sh", "-c", command], "character special file\n")
}

/// What can be read can't be written.
pub(super) fn proc_sys_is_read_only(program: &Program) -> CheckResult {
    let command = "grep -c '^proc /proc/sys proc ro,nosuid,nodev,noexec,' /proc/mounts";
    prints(program, &["sh", "-c", command], "1\n")
}
