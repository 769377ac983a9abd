//! Step 01: a program started as a child, and a program that takes this process over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use insta::assert_snapshot;
use lab::{ProcessTree, Transcript, callers, picture, snapshots};
use nix::sys::signal::Signal;
use predicates::prelude::*;

fn step() -> &'static Path {
    cargo_bin!("01-exec-vs-command")
}

lab::refusal_tests!(step());

/// The whole lesson: as a child the shell has a PID of its own, and its parent is the step; after
/// exec it has the step's PID, and the step's parent.
#[test]
fn command_gives_a_new_pid_and_exec_keeps_the_old_one() {
    for step in callers(step()) {
        let both = step.transcript::<&str>([]);
        let said = both.numbers(r"pid: (\d+)");
        let pids = both.numbers(r"PID is (\d+),");
        let parents = both.numbers(r"parent's PID is (\d+)");
        assert_eq!(said[0], said[1], "one process said both");
        assert_ne!(pids[0], said[0], "command: another PID");
        assert_eq!(parents[0], said[0], "command: our child");
        assert_eq!(pids[1], said[1], "exec: the same PID");
        assert_ne!(parents[1], said[1], "exec: not our child");
        snapshots(|| {
            assert_snapshot!("both", both.renamed(&[r"pid: (\d+)", r"PID is (\d+)"]));
        });
    }
}

#[test]
fn while_command_runs_there_are_two_processes() {
    for step in callers(step()) {
        let mut shell = step.session(["command", "/bin/sh"]);
        let tree = shell.tree();
        let [parent, child] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_ne!(parent.pids, child.pids);
        assert_eq!(shell.ask("echo $$"), child.pids[0].to_string());
        assert_eq!(shell.ask("echo $PPID"), parent.pids[0].to_string());
        let (ended, said) = shell.end();
        assert_eq!(said, format!("pid: {}\n", parent.pids[0]));
        assert_eq!(ended.nothing_left().status.code(), Some(0));
        let before = tree.before(["01-exec-vs-command", "command", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        snapshots(|| {
            assert_snapshot!("command_tree", tree.renamed());
            let caption = "command: a second process, with a PID of its own";
            assert_snapshot!("command_picture", picture(caption, &moments));
        });
    }
}

#[test]
fn while_exec_runs_there_is_one_process_and_the_step_is_gone_from_it() {
    for step in callers(step()) {
        let mut shell = step.session(["exec", "/bin/sh"]);
        let tree = shell.tree();
        let [process] = tree.processes()[..] else { panic!("not one: {}", tree.text()) };
        assert_eq!(process.argv, ["/bin/sh"]);
        assert_eq!(shell.ask("echo $$"), process.pids[0].to_string());
        let (ended, said) = shell.end();
        assert_eq!(
            said,
            format!("pid: {}\n", process.pids[0]),
            "said before exec, and the same PID"
        );
        assert_eq!(ended.nothing_left().status.code(), Some(0));
        let before = tree.before(["01-exec-vs-command", "exec", "/bin/sh"]);
        let moments = [("before exec", &before), ("after exec", &tree)];
        snapshots(|| {
            assert_snapshot!("exec_tree", tree.renamed());
            let caption = "exec: the same process, with another program in it";
            assert_snapshot!("exec_picture", picture(caption, &moments));
        });
    }
}

/// `go run` stays as a parent: three processes in the original's first table. `cargo run` execs what
/// it has built: two here, and one in the second table, where the original has two.
#[test]
fn cargo_run_execs_the_step_and_go_run_does_not() {
    let cargo = |verb: &str| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--bin", "01-exec-vs-command", "--", verb, "/bin/sh"]);
        command.current_dir(lab::root()).stderr(Stdio::null());
        lab::Held::start(command).expect("start cargo")
    };
    let (spawned, execed) = (cargo("command"), cargo("exec"));
    let [parent, child] = spawned.tree.processes()[..] else { panic!("not two") };
    assert_eq!(parent.pids, [spawned.pid], "cargo's own process is the step now");
    assert_ne!(child.pids, parent.pids);
    let [shell] = execed.tree.processes()[..] else { panic!("not one") };
    assert_eq!(shell.pids, [execed.pid], "cargo's own process is the shell now");
    let named = |tree: &ProcessTree| {
        let mut tree = tree.clone();
        // Cargo starts what it built by its path.
        tree.root.argv[0] = tree.root.argv[0].rsplit('/').next().unwrap_or_default().to_owned();
        tree
    };
    snapshots(|| {
        assert_snapshot!("cargo_run_command_tree", named(&spawned.tree).renamed());
        assert_snapshot!("cargo_run_exec_tree", execed.tree.renamed());
    });
}

/// The calls behind the two ways: exec lacks the child and the wait.
#[test]
fn command_makes_a_process_and_waits_and_exec_does_neither() {
    let lesson = [r"^(execve|clone3?|v?fork|wait4|exit_group)\("];
    for step in callers(step()) {
        let Some(command) = step.trace(&["command", "/bin/true"], &lesson) else { return };
        let [ours, childs] = command.by_process();
        assert_eq!(ours.len(), 4, "execve, clone, wait4, exit_group: {ours:?}");
        assert!(childs[0].starts_with("execve(\"/bin/true\""), "{childs:?}");
        let exec = step.trace(&["exec", "/bin/true"], &lesson).expect("strace is there");
        // There is no other process.
        let [ours] = exec.by_process();
        assert!(ours[1].starts_with("execve(\"/bin/true\""), "{ours:?}");
        snapshots(|| {
            assert_snapshot!("command_trace", command.renamed());
            assert_snapshot!("exec_trace", exec.renamed());
        });
    }
}

#[test]
fn the_exit_status_is_the_programs_own() {
    for step in callers(step()) {
        for verb in ["command", "exec"] {
            let run = |args: &[&str]| step.command([&[verb], args].concat()).assert();
            run(&["true"]).code(0).stdout("");
            run(&["sh", "-c", "exit 7"]).code(7);
            run(&["nosuch"]).code(127).stderr(predicate::str::contains(
                "01-exec-vs-command: exec nosuch: No such file or directory (ENOENT)\n",
            ));
            run(&["/etc/passwd"]).code(126).stderr(predicate::str::contains(
                "01-exec-vs-command: exec /etc/passwd: Permission denied (EACCES)\n",
            ));
        }
        step.command(["command", "sh", "-c", "kill -9 $$"]).assert().code(128 + 9);
        // After exec nobody is left to make up a status: the signal has killed the step's process.
        step.command(["exec", "sh", "-c", "kill -9 $$"]).assert().interrupted();
        step.command(["--odd"]).assert().code(2).stderr(predicate::str::contains("--odd"));
        step.command(["nosuch-subcommand"]).assert().code(2);
    }
}

#[test]
fn arguments_arrive_byte_for_byte() {
    for step in callers(step()) {
        for verb in ["command", "exec"] {
            let words = ["printf", "[%s]", "a  b", "", "-x", "--", "--help", "$HOME"];
            let expected = "[a  b][][-x][--][--help][$HOME]";
            step.command([&[verb], &words[..]].concat()).assert().code(0).stdout(expected);
            let bytes = [b"printf" as &[u8], b"%s", b"\xff\xfe"].map(OsStr::from_bytes);
            step.command([&[OsStr::new(verb)], &bytes[..]].concat())
                .assert()
                .code(0)
                .stdout(predicate::eq(b"\xff\xfe" as &[u8]));
            step.command([verb, "--", "-odd"]).assert().code(127);
        }
    }
}

/// Rust's runtime ignores SIGPIPE, and what is ignored stays so after exec. The program must not
/// inherit that.
#[test]
fn the_program_finds_its_surroundings_as_they_were() {
    let question = "pwd; umask; env | sort; ls -l /proc/self/fd/7 | sed 's/.* //'; \
        grep '^SigIgn' /proc/self/status";
    let prepare = "umask 027; trap '' USR1; exec 7</etc; exec \"$@\"";
    for step in callers(step()) {
        let asked = |with: &[&str]| {
            let args = [&["-c", prepare, "sh"], with, &["sh", "-c", question]].concat();
            let printed = Transcript::of(step.watch_other("sh", args).env("ODD", "a  b")).printed;
            let lines = printed.lines().filter(|line| !line.starts_with("pid: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let without = asked(&[]);
        for line in ["0027", "ODD=a  b", "/etc"] {
            assert!(without.iter().any(|seen| seen == line), "{line}: {without:?}");
        }
        let ignored = without.iter().find_map(|line| line.strip_prefix("SigIgn:\t"));
        let ignored = u64::from_str_radix(ignored.expect("a line"), 16).expect("a mask");
        assert_eq!(ignored & 0x1200, 0x0200, "SIGUSR1 (10) is ignored, SIGPIPE (13) is not");
        for verb in ["command", "exec"] {
            assert_eq!(asked(&[&step.path().to_string_lossy(), verb]), without);
            // A shell would clear the signal mask.
            let grep = step.watch([verb, "grep", "^SigBlk", "/proc/self/status"]);
            let printed = Transcript::of(grep.blocking(Signal::SIGUSR2)).printed;
            assert!(printed.ends_with("SigBlk:\t0000000000000800\n"), "{printed}");
        }
    }
}

#[test]
fn a_closed_standard_error_is_no_reason_to_stop() {
    for step in callers(step()) {
        let line = "\"$0\" command sh -c 'exit 7' 2>&-";
        step.other("sh", ["-c", line, &step.path().to_string_lossy()]).assert().code(7);
        let line = "\"$0\" exec nosuch 2>/dev/full";
        step.other("sh", ["-c", line, &step.path().to_string_lossy()]).assert().code(127);
    }
}

/// A shell has an exec, too.
#[test]
fn a_shells_exec_keeps_the_pid_too() {
    for step in callers(step()) {
        let line = "echo pid: $$; exec sh -c 'echo pid: $$'";
        let pids = Transcript::of(step.watch_other("sh", ["-c", line])).numbers(r"pid: (\d+)");
        assert_eq!(pids.len(), 2);
        assert_eq!(pids[0], pids[1]);
    }
}

#[test]
fn two_hundred_runs_with_victims_leave_nothing() {
    for step in callers(step()) {
        let kept = lab::contract::two_hundred_runs_with_victims_leave_nothing(&step);
        kept.unwrap_or_else(|broken| panic!("{broken}"));
    }
}
