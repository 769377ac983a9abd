//! Step 02: a command that is PID 1 of a PID namespace of its own, and still sees the host's /proc.

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use course::test_support::{assert_checks_pass, programs_for_each_caller};
use harness::test_support::{AssertClean, require_tools};
use harness::{
    Caller, ProcessTree, Program, Result, Session, Supervisor, Transcript, assert_snapshot, diagram,
};
use predicates::prelude::*;

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("02-init-pid1"))
}

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("02-init-pid1"));
}

fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

/// What the original lesson shows. `init PID: 1` is printed before the exec; that the shell is PID 1
/// only the shell can say.
#[test]
fn init_and_its_shell_report_pid_1() -> Result {
    for program in programs() {
        let (narration, exit) =
            Transcript::type_lines(shell(&program), &["echo $$", "echo $PPID"])?;
        exit.assert_clean();
        // The shell's parent is outside, and has no number in here.
        assert!(
            narration.text.ends_with("\n# echo $$\n1\n# echo $PPID\n0\n"),
            "{}",
            narration.text
        );
        assert_ne!(narration.captures(r"run PID: (\d+)")?, [1]);
        assert_snapshot!("narration", narration.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

#[test]
fn command_is_pid_1_only_inside() -> Result {
    for program in programs() {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let [run_outside] = run.pids[..] else { panic!("run is in one PID namespace") };
        let [outside, inside] = command.pids[..] else { panic!("the command is in two") };
        assert_eq!(inside, 1);
        assert_ne!(outside, 1);
        assert_ne!(outside, run_outside);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        assert_eq!(command.argv, ["/bin/sh"], "init is gone: the command has taken its place");
        assert_eq!(shell.run("echo $$ $PPID")?, "1 0");
        // This /proc is the host's, and shows both numbers.
        assert_eq!(shell.run("grep NSpid /proc/self/status | wc -w")?, "3");
        shell.end()?.0.assert_clean();
        let before = tree.before(["02-init-pid1", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        assert_snapshot!("tree", tree.redacted());
        let caption = "run, and the command: one process with two PIDs";
        assert_snapshot!("diagram", diagram(caption, &moments));
    }
    Ok(())
}

/// The namespaces that `run` makes: for root the PID namespace alone.
#[test]
fn only_rootless_creates_user_namespace() -> Result {
    for program in programs() {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let ours = ProcessTree::of(std::process::id().cast_signed())?.root;
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let root = program.caller() == Caller::Root;
        // The supervisor has its own mount namespace.
        assert_eq!(command.namespaces["mnt"], run.namespaces["mnt"]);
        for (namespace, shared) in [("pid", false), ("user", root), ("net", true)] {
            let same = command.namespaces[namespace] == ours.namespaces[namespace];
            assert_eq!(same, shared, "{namespace}");
        }
        shell.end()?.0.assert_clean();
        let id =
            program.command(["run", "sh", "-c", "id -u; id -g; cat /proc/self/setgroups"]).assert();
        id.stdout(if root { "0\n0\nallow\n" } else { "0\n0\ndeny\n" });
    }
    Ok(())
}

/// The PID namespace is new, but /proc is still the one that the host mounted: it has the host's
/// numbers.
#[test]
fn proc_stays_the_hosts() -> Result {
    for program in programs() {
        let (proc, _) =
            Transcript::type_lines(shell(&program), &["echo $$", "readlink /proc/self"])?;
        let run = proc.captures(r"run PID: (\d+)")?[0];
        assert!(proc.text.contains("\n# echo $$\n1\n"), "{}", proc.text);
        // The readlink that asks has a number of the host's. Not always a higher one than run: numbers start
        // again. In the container it would be 2.
        let readlink = proc.captures(r"(?m)^(\d+)$")?[1];
        assert!(readlink > 2 && readlink != run, "{}", proc.text);
        // And it lists what is outside, and could not be seen from inside: this test.
        let line = format!("test -e /proc/{}", std::process::id());
        program.command(["run", "sh", "-c", &line]).assert().code(0);
        let pids = [r"run PID: (\d+)", r"readlink /proc/self\n(\d+)"];
        assert_snapshot!("proc_is_the_hosts", proc.redacted(&pids)?);
    }
    Ok(())
}

/// `ps` is PID 1 here, so that it finds itself on every host: see the next test.
#[test]
fn ps_shows_the_host() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs() {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let run = shell.pid().to_string();
        let ps =
            |what: &str, pid: &str| program.command(["run", "ps", "-o", what, "-p", pid]).assert();
        ps("args=", &run).stdout("02-init-pid1 run --ti /bin/sh\n");
        shell.end()?.0.assert_clean();
        let host_init = std::fs::read_to_string("/proc/1/comm").expect("the host's PID 1");
        // The container's own PID 1 would be ps.
        ps("comm=", "1").stdout(host_init);
    }
    Ok(())
}

/// Most hosts have some process with a number as small as those inside. This one has its PID 1, `run` and what
/// that started; and `ps`, which looks itself up by its number before all else, can only be PID 1.
#[test]
fn inner_pid_may_be_missing_in_host_proc() -> Result {
    if !require_tools(&["ps", "unshare"]) {
        return Ok(());
    }
    for program in programs() {
        let host = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let host = program.environment().supervise("unshare", [&host[..], &["/bin/sh"]].concat());
        let mut host = Session::start(host)?;
        // The number 2 is used up.
        host.run("/bin/true")?;
        let run = program.path().display();
        let itself = "sh -c \"echo \\$\\$; ls -d /proc/\\$\\$\"; exit $?";
        let (number, status) =
            host.run_with_status(&format!("{run} run sh -c '{itself}' 2>/dev/null"))?;
        assert_eq!(number, "2", "and no /proc/2");
        assert_ne!(status, "0");
        assert_eq!(host.run(&format!("{run} run ps -o args= -p 1 2>/dev/null"))?, "/bin/sh");
        host.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn init_outside_exits_125() -> Result {
    for program in programs() {
        let refusal = program.transcript(["init", "/bin/sh"])?;
        assert_eq!(refusal.status.code(), Some(125));
        assert_snapshot!("init_outside", refusal.redacted(&[r"this is PID (\d+)"])?);
    }
    Ok(())
}

#[test]
fn names_command_not_found() -> Result {
    for program in programs() {
        let not_found = program.transcript(["run", "nosuch"])?;
        assert_eq!(not_found.status.code(), Some(127));
        assert_snapshot!("not_found", not_found.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// PID 1 gets no signal that it has no handler for: from inside, not even KILL.
#[test]
fn kernel_protects_pid_1_from_signals() -> Result {
    for program in programs() {
        let (deaf, _) =
            Transcript::type_lines(shell(&program), &["kill -KILL 1", "kill -TERM 1", "echo $$"])?;
        assert!(
            deaf.text.ends_with("\n# kill -KILL 1\n# kill -TERM 1\n# echo $$\n1\n"),
            "{}",
            deaf.text
        );
        let line = "trap 'exit 42' TERM; kill -TERM $$; echo unreached";
        program
            .command(["run", "sh", "-c", line])
            .assert()
            .code(42)
            .stdout(predicate::str::is_empty());
        assert_snapshot!("deaf_pid_1", deaf.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// Everything that is left in the namespace ends with its PID 1.
#[test]
fn container_dies_with_pid_1() -> Result {
    for program in programs() {
        let line = "sleep 1000 </dev/null >/dev/null 2>&1 & exit 7";
        let (_, exit) = Transcript::run_with_exit(program.supervise(["run", "sh", "-c", line]))?;
        assert_eq!(exit.assert_clean().status.code(), Some(7));
    }
    Ok(())
}

/// The uid is 0 inside, and what it may do to the host's files is what its owner may.
#[test]
fn inner_root_reads_only_what_caller_may() {
    for program in programs() {
        let root = program.caller() == Caller::Root;
        let code = if root { 0 } else { 1 };
        program
            .command(["run", "sh", "-c", "id -u; test -r /etc/shadow"])
            .assert()
            .code(code)
            .stdout("0\n");
    }
}

/// A process has a number in each PID namespace from its own up.
#[test]
fn nested_container_has_three_pids() -> Result {
    for program in programs() {
        let outer = ["run", "--ti", program.name(), "run", "--ti", "/bin/sh"];
        let mut shell = Session::start(program.environment().supervise(program.name(), outer))?;
        let tree = shell.tree()?;
        let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
        assert_eq!(pids, [1, 2, 3], "{}", tree.text());
        let [_, run, command] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!(run.pids[1..], [1]);
        assert_eq!(command.pids[2..], [1]);
        assert_eq!(shell.run("echo $$")?, "1");
        shell.end()?.0.assert_clean();
        assert_snapshot!("nested_tree", tree.redacted());
    }
    Ok(())
}

/// At a terminal, Ctrl-C goes to the job in the foreground, and not to the shell that started it.
#[test]
fn ctrl_c_kills_the_job_and_not_the_shell() -> Result {
    for program in programs() {
        let mut terminal = program.terminal(["run", "--ti", "/bin/sh"])?;
        terminal.expect("/bin/sh\r\n")?;
        terminal.expect("# ")?;
        terminal.send_keys("sh -c 'echo \"running\"; exec sleep 1000'\r")?;
        terminal.expect("\r\nrunning\r\n")?;
        terminal.send_keys("\u{3}")?;
        terminal.expect("# ")?;
        terminal.send_keys("echo I am $$\r")?;
        terminal.expect("I am 1\r\n")?;
        terminal.send_keys("exit\r")?;
        let (exit, shown) = terminal.end()?;
        assert_eq!(exit.leaked_processes, [""; 0]);
        // dash wants to give the terminal back to those from whom it has it. They have no number here.
        let dash = std::fs::canonicalize("/bin/sh").is_ok_and(|shell| shell.ends_with("dash"));
        let complains = shown.contains("Cannot set tty process group (No such process)");
        assert_eq!(complains, dash, "{shown}");
        assert_eq!(exit.status.code(), Some(if dash { 2 } else { 0 }));
    }
    Ok(())
}

/// `init` asks whether its parent's children are born in this namespace. That is so of `run`, and of
/// whoever else made a namespace for it alone.
#[test]
fn init_accepts_parent_that_made_its_namespace() {
    for program in programs() {
        let path = program.path().to_string_lossy();
        let args = ["--user", "--map-root-user", "--pid", "--fork", &path, "init", "echo", "hi"];
        program.environment().command("unshare", args).assert().code(0).stdout("hi\n");
    }
}

/// The calls of the lesson. Without root there are more: the refusal, and the user namespace.
#[test]
fn makes_the_calls_of_the_lesson() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|unshare|prctl|wait4|exit_group)\(",
        r"^write\(.*/(setgroups|uid_map|gid_map)>",
        r"^readlink.*/ns/pid",
        r"^openat.*/proc/self/status",
        r"^getpid",
    ];
    for program in programs() {
        if !require_tools(&["strace"]) {
            return Ok(());
        }
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let [run, init] = trace.by_process()?;
        let tries = run.iter().filter(|call| call.starts_with("unshare(")).count();
        assert!(init.iter().any(|call| call.starts_with("getpid()") && call.ends_with("= 1")));
        match program.caller() {
            Caller::Root => {
                assert_eq!(tries, 1);
                assert_snapshot!("trace_root", trace.redacted()?);
            }
            Caller::Rootless => {
                assert_eq!(tries, 2);
                assert_snapshot!("trace_rootless", trace.redacted()?);
            }
        }
    }
    Ok(())
}

/// The kernel keeps no exit status for who ignores SIGCHLD, and exec passes that on. The command has run; what
/// it came to, nobody knows.
#[test]
fn reports_ignored_sigchld() -> Result {
    for program in programs() {
        let env = |option: &str, command: &[&str]| -> Result<Transcript> {
            let words = [&[option, "02-init-pid1", "run"], command].concat();
            Transcript::run(program.environment().supervise("env", words))
        };
        let refused = env("--ignore-signal=CHLD", &["true"])?;
        assert_snapshot!("status_lost", refused.redacted(&[r"run PID: (\d+)"])?);
        let told = env("--default-signal=CHLD", &["sh", "-c", "exit 7"])?;
        assert_eq!(told.status.code(), Some(7), "{}", told.text);
    }
    Ok(())
}

/// The first child of a process that has made a PID namespace is its PID 1. When that is dead, nobody
/// can be born there.
#[test]
fn fork_fails_after_pid_1_has_died() -> Result {
    // Other shells do not say why they cannot fork.
    if !require_tools(&["bash", "unshare"]) {
        return Ok(());
    }
    for program in programs() {
        let options: &[&str] = match program.caller() {
            Caller::Root => &["--pid"],
            Caller::Rootless => &["--user", "--map-root-user", "--pid"],
        };
        let line = [options, &["bash", "-c", "/bin/true; /bin/true; echo unreached"]].concat();
        let refusal = program.environment().supervise("unshare", line);
        let refusal = Transcript::run(refusal)?;
        assert!(refusal.printed.contains("fork: Cannot allocate memory\n"), "{}", refusal.text);
        if program.caller() == Caller::Rootless {
            assert_snapshot!("fork_refused", refusal.text);
        }
    }
    Ok(())
}
