//! Step 01: a program started as a child, and a program that takes this process over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use course::checks;
use course::test_support::{programs_for_each_caller, step_at};
use harness::test_support::{AssertClean, require_tools};
use harness::{
    Environment, ProcessTree, Program, Result, Session, Transcript, assert_snapshot, diagram,
};
use nix::sys::signal::Signal;
use predicates::prelude::*;

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("01-exec-vs-command"))
}

/// The whole lesson: as a child the shell has a PID of its own, and its parent is the step; after
/// exec it has the step's PID, and the step's parent.
#[test]
fn command_gets_new_pid_and_exec_keeps_it() -> Result {
    for program in programs() {
        let both = program.transcript::<&str>([])?;
        let said = both.captures(r"pid: (\d+)")?;
        let pids = both.captures(r"PID is (\d+),")?;
        let parents = both.captures(r"parent's PID is (\d+)")?;
        assert_eq!(said[0], said[1], "one process said both");
        assert_ne!(pids[0], said[0], "command: another PID");
        assert_eq!(parents[0], said[0], "command: our child");
        assert_eq!(pids[1], said[1], "exec: the same PID");
        assert_ne!(parents[1], said[1], "exec: not our child");
        assert_snapshot!("both", both.redacted(&[r"pid: (\d+)", r"PID is (\d+)"])?);
    }
    Ok(())
}

#[test]
fn command_creates_second_process() -> Result {
    for program in programs() {
        let mut shell = program.session(["command", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [parent, child] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_ne!(parent.pids, child.pids);
        assert_eq!(shell.run("echo $$")?, child.pids[0].to_string());
        assert_eq!(shell.run("echo $PPID")?, parent.pids[0].to_string());
        let (exit, said) = shell.end()?;
        assert_eq!(said, format!("pid: {}\n", parent.pids[0]));
        assert_eq!(exit.assert_clean().status.code(), Some(0));
        let before = tree.before(["01-exec-vs-command", "command", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        assert_snapshot!("command_tree", tree.redacted());
        let caption = "command: a second process, with a PID of its own";
        assert_snapshot!("command_diagram", diagram(caption, &moments));
    }
    Ok(())
}

#[test]
fn exec_replaces_program_in_same_process() -> Result {
    for program in programs() {
        let mut shell = program.session(["exec", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [process] = tree.processes()[..] else { panic!("not one: {}", tree.text()) };
        assert_eq!(process.argv, ["/bin/sh"]);
        assert_eq!(shell.run("echo $$")?, process.pids[0].to_string());
        let (exit, said) = shell.end()?;
        assert_eq!(
            said,
            format!("pid: {}\n", process.pids[0]),
            "said before exec, and the same PID"
        );
        assert_eq!(exit.assert_clean().status.code(), Some(0));
        let before = tree.before(["01-exec-vs-command", "exec", "/bin/sh"]);
        let moments = [("before exec", &before), ("after exec", &tree)];
        assert_snapshot!("exec_tree", tree.redacted());
        let caption = "exec: the same process, with another program in it";
        assert_snapshot!("exec_diagram", diagram(caption, &moments));
    }
    Ok(())
}

/// `go run` stays as a parent: three processes in the original's first table. `cargo run` execs what
/// it has built: two here, and one in the second table, where the original has two.
#[test]
fn cargo_run_execs_the_step() -> Result {
    let environment = Environment::inherited();
    let cargo = |verb: &str| -> Result<(i32, ProcessTree)> {
        let args = ["run", "--quiet", "--bin", "01-exec-vs-command", "--", verb, "/bin/sh"];
        let session = Session::start(environment.supervise(env!("CARGO"), args))?;
        let tree = session.tree()?;
        let pid = session.pid();
        session.end()?.0.assert_clean();
        Ok((pid, tree))
    };
    let ((spawned_pid, spawned), (execed_pid, execed)) = (cargo("command")?, cargo("exec")?);
    let [parent, child] = spawned.processes()[..] else { panic!("not two") };
    assert_eq!(parent.pids, [spawned_pid], "cargo's own process is the step now");
    assert_ne!(child.pids, parent.pids);
    let [shell] = execed.processes()[..] else { panic!("not one") };
    assert_eq!(shell.pids, [execed_pid], "cargo's own process is the shell now");
    let named = |tree: &ProcessTree| {
        let mut tree = tree.clone();
        // Cargo starts what it built by its path.
        tree.root.argv[0] = tree.root.argv[0].rsplit('/').next().unwrap_or_default().to_owned();
        tree
    };
    assert_snapshot!("cargo_run_command_tree", named(&spawned).redacted());
    assert_snapshot!("cargo_run_exec_tree", execed.redacted());
    Ok(())
}

/// The calls behind the two ways: exec lacks the child and the wait.
#[test]
fn command_clones_and_waits_but_exec_does_not() -> Result {
    let lesson = [r"^(execve|clone3?|v?fork|wait4|exit_group)\("];
    for program in programs() {
        if !require_tools(&["strace"]) {
            return Ok(());
        }
        let command = program.trace(&["command", "/bin/true"], &lesson)?;
        let [ours, childs] = command.by_process()?;
        assert_eq!(ours.len(), 4, "execve, clone, wait4, exit_group: {ours:?}");
        assert!(childs[0].starts_with("execve(\"/bin/true\""), "{childs:?}");
        let exec = program.trace(&["exec", "/bin/true"], &lesson)?;
        // There is no other process.
        let [ours] = exec.by_process()?;
        assert!(ours[1].starts_with("execve(\"/bin/true\""), "{ours:?}");
        assert_snapshot!("command_trace", command.redacted()?);
        assert_snapshot!("exec_trace", exec.redacted()?);
    }
    Ok(())
}

#[test]
fn passes_on_exit_status() {
    for program in programs() {
        for verb in ["command", "exec"] {
            let run = |args: &[&str]| program.command([&[verb], args].concat()).assert();
            run(&["true"]).code(0).stdout("");
            run(&["sh", "-c", "exit 7"]).code(7);
            run(&["nosuch"]).code(127).stderr(predicate::str::contains(
                "01-exec-vs-command: exec nosuch: No such file or directory (ENOENT)\n",
            ));
            run(&["/etc/passwd"]).code(126).stderr(predicate::str::contains(
                "01-exec-vs-command: exec /etc/passwd: Permission denied (EACCES)\n",
            ));
        }
        program.command(["command", "sh", "-c", "kill -9 $$"]).assert().code(128 + 9);
        // After exec nobody is left to make up a status: the signal has killed the step's process.
        program.command(["exec", "sh", "-c", "kill -9 $$"]).assert().interrupted();
        program.command(["--odd"]).assert().code(2).stderr(predicate::str::contains("--odd"));
        program.command(["nosuch-subcommand"]).assert().code(2);
    }
}

#[test]
fn arguments_arrive_byte_for_byte() {
    for program in programs() {
        for verb in ["command", "exec"] {
            let words = ["printf", "[%s]", "a  b", "", "-x", "--", "--help", "$HOME"];
            let expected = "[a  b][][-x][--][--help][$HOME]";
            program.command([&[verb], &words[..]].concat()).assert().code(0).stdout(expected);
            let bytes = [b"printf" as &[u8], b"%s", b"\xff\xfe"].map(OsStr::from_bytes);
            program
                .command([&[OsStr::new(verb)], &bytes[..]].concat())
                .assert()
                .code(0)
                .stdout(predicate::eq(b"\xff\xfe" as &[u8]));
            program.command([verb, "--", "-odd"]).assert().code(127);
        }
    }
}

/// Rust's runtime ignores SIGPIPE, and what is ignored stays so after exec. The program must not
/// inherit that.
#[test]
fn program_inherits_environment_unchanged() -> Result {
    let question = "pwd; umask; env | sort; ls -l /proc/self/fd/7 | sed 's/.* //'; \
        grep '^SigIgn' /proc/self/status";
    let prepare = "umask 027; trap '' USR1; exec 7</etc; exec \"$@\"";
    for program in programs() {
        let asked = |with: &[&str]| -> Result<Vec<String>> {
            let args = [&["-c", prepare, "sh"], with, &["sh", "-c", question]].concat();
            let printed =
                Transcript::run(program.environment().supervise("sh", args).env("ODD", "a  b"))?
                    .printed;
            let lines = printed.lines().filter(|line| !line.starts_with("pid: "));
            Ok(lines.map(str::to_owned).collect())
        };
        let without = asked(&[])?;
        for line in ["0027", "ODD=a  b", "/etc"] {
            assert!(without.iter().any(|seen| seen == line), "{line}: {without:?}");
        }
        let ignored = without.iter().find_map(|line| line.strip_prefix("SigIgn:\t"));
        let ignored = u64::from_str_radix(ignored.expect("a line"), 16).expect("a mask");
        assert_eq!(ignored & 0x1200, 0x0200, "SIGUSR1 (10) is ignored, SIGPIPE (13) is not");
        for verb in ["command", "exec"] {
            assert_eq!(asked(&[&program.path().to_string_lossy(), verb])?, without);
            // A shell would clear the signal mask.
            let grep = program.supervise([verb, "grep", "^SigBlk", "/proc/self/status"]);
            let printed = Transcript::run(grep.blocking(Signal::SIGUSR2))?.printed;
            assert!(printed.ends_with("SigBlk:\t0000000000000800\n"), "{printed}");
        }
    }
    Ok(())
}

#[test]
fn tolerates_closed_stderr() {
    for program in programs() {
        let line = "\"$0\" command sh -c 'exit 7' 2>&-";
        program
            .environment()
            .command("sh", ["-c", line, &program.path().to_string_lossy()])
            .assert()
            .code(7);
        let line = "\"$0\" exec nosuch 2>/dev/full";
        program
            .environment()
            .command("sh", ["-c", line, &program.path().to_string_lossy()])
            .assert()
            .code(127);
    }
}

/// A shell has an exec, too.
#[test]
fn shell_exec_keeps_the_pid() -> Result {
    for program in programs() {
        let line = "echo pid: $$; exec sh -c 'echo pid: $$'";
        let pids = Transcript::run(program.environment().supervise("sh", ["-c", line]))?
            .captures(r"pid: (\d+)")?;
        assert_eq!(pids.len(), 2);
        assert_eq!(pids[0], pids[1]);
    }
    Ok(())
}

#[test]
fn killed_runs_leak_nothing() {
    for program in programs() {
        let config = step_at(cargo_bin!("01-exec-vs-command")).soak_config();
        checks::soak(&program, config).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
