//! Step 01: a program starts another one as its child, or becomes it.

use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{
    assert_checks_pass, environment, programs_for_each_caller, shell_diagram,
};
use harness::test_support::{require_tools, with_tools};
use harness::{
    Caller, ProcessTree, Program, Result, Session, Transcript, assert_snapshot, diagram,
};

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("01-exec-vs-command"))
}

/// The promises that learners are graded by: statuses, arguments, failures.
#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("01-exec-vs-command"));
}

/// A signal to the parent kills only the parent, so a server never learns that its wrapper was stopped.
#[test]
fn signal_to_the_wrapper_misses_its_child() -> Result {
    for program in programs() {
        let script = r#"kill -TERM $PPID; echo "still running""#;
        let wrapper = Transcript::run(program.supervise(["command", "sh", "-c", script]))?;
        assert!(wrapper.printed.ends_with("\nstill running\n"), "{}", wrapper.text);
        assert!(wrapper.text.ends_with("[killed by signal 15]\n"), "{}", wrapper.text);
        let text = wrapper.redacted(&[r"pid: (\d+)"])?;
        assert_snapshot!("wrapper_killed", text);
    }
    Ok(())
}

/// After exec there is no wrapper: the signal meets the program.
#[test]
fn signal_after_exec_reaches_the_program() -> Result {
    for program in programs() {
        let script = r#"kill -TERM $$; echo "still running""#;
        let server = Transcript::run(program.supervise(["exec", "sh", "-c", script]))?;
        let text = server.redacted(&[r"pid: (\d+)"])?;
        assert_snapshot!("server_killed", text);
    }
    Ok(())
}

/// The whole lesson in six numbers.
#[test]
fn command_changes_the_pid_and_exec_keeps_it() -> Result {
    for program in programs() {
        let demo = program.transcript::<&str>([])?;
        let printed = demo.captures(r"pid: (\d+)")?;
        let pids = demo.captures(r"PID is (\d+),")?;
        let parents = demo.captures(r"parent's PID is (\d+)")?;
        assert_eq!(printed[0], printed[1], "one process printed both");
        assert_ne!(pids[0], printed[0], "command: another PID");
        assert_eq!(parents[0], printed[0], "command: our child");
        assert_eq!(pids[1], printed[1], "exec: the same PID");
        assert_ne!(parents[1], printed[1], "exec: not our child");
        let text = demo.redacted(&[r"pid: (\d+)", r"PID is (\d+)"])?;
        assert_snapshot!("demo", text);
    }
    Ok(())
}

#[test]
fn command_runs_two_processes() -> Result {
    for program in programs() {
        let mut shell = program.session(["command", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [parent, child] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_ne!(parent.pids, child.pids);
        assert_eq!(shell.run("echo $$ $PPID")?, format!("{} {}", child.pids[0], parent.pids[0]));
        let (exit, stderr) = shell.end()?;
        exit.assert_clean();
        assert_eq!(stderr, format!("pid: {}\n", parent.pids[0]));
        assert_snapshot!("command_tree", tree.redacted());
        let caption = "command: a second process, with its own PID";
        let argv = ["01-exec-vs-command", "command", "/bin/sh"];
        assert_snapshot!("command_diagram", shell_diagram(caption, &tree, &argv));
    }
    Ok(())
}

#[test]
fn exec_leaves_one_process_with_the_same_pid() -> Result {
    for program in programs() {
        let mut shell = program.session(["exec", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [process] = tree.processes()[..] else { panic!("not one: {}", tree.text()) };
        assert_eq!(process.argv, ["/bin/sh"]);
        assert_eq!(shell.run("echo $$")?, process.pids[0].to_string());
        let (exit, stderr) = shell.end()?;
        exit.assert_clean();
        assert_eq!(stderr, format!("pid: {}\n", process.pids[0]), "printed before exec");
        let before = tree.before(["01-exec-vs-command", "exec", "/bin/sh"]);
        let moments = [("before exec", &before), ("after exec", &tree)];
        assert_snapshot!("exec_tree", tree.redacted());
        let caption = "exec: the same process, with another program in it";
        assert_snapshot!("exec_diagram", diagram(caption, &moments));
    }
    Ok(())
}

/// `go run` stays as the parent, so the Go lesson counts three processes and two. `cargo run` execs.
#[test]
fn cargo_run_execs_the_step() -> Result {
    let cargo = |subcommand: &str| {
        let args = ["run", "--quiet", "--bin", "01-exec-vs-command", "--", subcommand, "/bin/sh"];
        let cargo = environment().supervise(env!("CARGO"), args);
        // The manifest's directory is a member of the workspace, which is enough for cargo.
        Session::start(cargo.in_directory(Path::new(env!("CARGO_MANIFEST_DIR"))))
    };
    // Cargo starts what it built by its path.
    let with_file_name = |tree: &ProcessTree| {
        let mut tree = tree.clone();
        tree.root.argv[0] = tree.root.argv[0].rsplit('/').next().unwrap_or_default().to_owned();
        tree
    };
    let (command, exec) = (cargo("command")?, cargo("exec")?);
    let (spawned, execed) = (command.tree()?, exec.tree()?);
    assert_eq!(spawned.processes().len(), 2, "{}", spawned.text());
    assert_eq!(spawned.root.pids, [command.pid()], "what was cargo is the step");
    assert_eq!(execed.processes().len(), 1, "{}", execed.text());
    assert_eq!(execed.root.pids, [exec.pid()], "what was cargo is the shell");
    assert_snapshot!("cargo_run_command_tree", with_file_name(&spawned).redacted());
    assert_snapshot!("cargo_run_exec_tree", execed.redacted());
    command.end()?.0.assert_clean();
    exec.end()?.0.assert_clean();
    Ok(())
}

#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [r"^(execve|clone3?|v?fork|wait4|exit_group)\("];
    for program in with_tools(&["strace"], programs()) {
        let command = program.trace(&["command", "/bin/true"], &lesson)?;
        let exec = program.trace(&["exec", "/bin/true"], &lesson)?;
        assert_snapshot!("command_trace", command.redacted()?);
        assert_snapshot!("exec_trace", exec.redacted()?);
    }
    Ok(())
}

/// `exec` is execvp(3), which falls back to /bin/sh. `command` is posix_spawn(3), which doesn't.
#[test]
fn only_exec_runs_a_script_without_shebang() -> Result {
    for program in programs() {
        let create = "echo 'echo run by a shell' >script; chmod +x script";
        Transcript::run(program.environment().supervise("sh", ["-c", create]))?;
        let shell = program.environment().supervise::<&str>("sh", []);
        let lines = [
            "cat script",
            "01-exec-vs-command exec ./script",
            "01-exec-vs-command command ./script",
        ];
        let (both, exit) = Transcript::type_lines(shell, &lines)?;
        exit.assert_clean();
        let text = both.redacted(&[r"pid: (\d+)"])?;
        assert_snapshot!("no_interpreter", text);
    }
    Ok(())
}

/// EACCES says that a directory can't be searched, and not that the program was found.
#[test]
fn unsearchable_path_directory_is_not_found() -> Result {
    for program in programs() {
        // Root may search every directory, so it has to give up that power first.
        let bounding_set = ["--bounding-set", "-dac_override,-dac_read_search"];
        let root = program.caller() == Caller::Root;
        if root && !require_tools(&["setpriv"]) {
            continue;
        }
        let mkdir = "mkdir closed; chmod 000 closed";
        Transcript::run(program.environment().supervise("sh", ["-c", mkdir]))?;
        let closed = program.directory().join("closed");
        for subcommand in ["command", "exec"] {
            let step = [&program.path().to_string_lossy(), subcommand, "nosuch"];
            let wrapped: Vec<&str> = if root {
                [&["setpriv"], &bounding_set[..], &step[..]].concat()
            } else {
                [&["env"], &step[..]].concat()
            };
            let path = format!("/usr/bin:/bin:{}", closed.display());
            let supervisor = program.environment().supervise(wrapped[0], &wrapped[1..]);
            let printed = Transcript::run(supervisor.env("PATH", path))?;
            assert_eq!(printed.status.code(), Some(127), "{}", printed.text);
            assert!(printed.printed.ends_with("nosuch: No such file or directory (ENOENT)\n"));
        }
    }
    Ok(())
}

/// The posix_spawn of glibc 2.36 (Debian 12) ignores its internal signals in every child, and that of 2.41 (Debian 13)
/// doesn't. Most test runners are started that way themselves, and then the baseline has them too: so this one sets
/// them back with the bare system call.
#[test]
fn spawned_child_ignores_signals_32_and_33() -> Result {
    let number = match std::env::consts::ARCH {
        "x86_64" => "13",
        "aarch64" => "134",
        _ => return Ok(()),
    };
    if cfg!(not(target_env = "gnu")) || !require_tools(&["perl"]) {
        return Ok(());
    }
    let default = r#"$d = "\0" x 32; for $s (32, 33) { syscall($ARGV[0] + 0, $s + 0, $d, 0, 8) == 0 or die $! }
        exec @ARGV[1 .. $#ARGV]"#;
    for program in programs() {
        let shell = program.environment().supervise("sh", [""; 0]);
        let shell = shell.wrapped_by(&["perl", "-e", default, number]);
        let lines = [
            "01-exec-vs-command exec grep SigIgn /proc/self/status",
            "01-exec-vs-command command grep SigIgn /proc/self/status",
        ];
        let (masks, exit) = Transcript::type_lines(shell, &lines)?;
        exit.assert_clean();
        let text = masks.redacted(&[r"pid: (\d+)"])?;
        if text.matches("SigIgn:\t0000000000000000\n").count() < 2 {
            assert_snapshot!("internal_signals", text);
        }
    }
    Ok(())
}

/// `eprintln!` would panic.
#[test]
fn tolerates_closed_stderr() -> Result {
    for program in programs() {
        for (args, streams, status) in [
            ("command sh -c 'exit 7'", "2>&-", 7),
            ("exec sh -c 'exit 7'", "2>&-", 7),
            ("exec nosuch", "2>/dev/full", 127),
        ] {
            let line = format!("exec \"$0\" {args} {streams}");
            let shell = program.script(&line);
            assert_eq!(Transcript::run(shell)?.status.code(), Some(status), "{line}");
        }
    }
    Ok(())
}

#[test]
fn shells_builtin_exec_keeps_the_pid() -> Result {
    for program in programs() {
        let script = "echo pid: $$; exec sh -c 'echo pid: $$'";
        let shell = program.environment().supervise("sh", ["-c", script]);
        let pids = Transcript::run(shell)?.captures(r"pid: (\d+)")?;
        assert_eq!(pids.len(), 2);
        assert_eq!(pids[0], pids[1]);
    }
    Ok(())
}
