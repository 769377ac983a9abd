//! Step 02: a command that is PID 1 of its own PID namespace, and still sees the host's /proc.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::process;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{assert_checks_pass, programs_for_each_caller, shell_diagram};
use harness::test_support::{inspectable, require_tools, with_tools};
use harness::{
    Caller, Exit, ProcessTree, Program, Requirement, Result, Session, Supervisor, Terminal,
    Transcript, assert_snapshot,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("02-init-pid1"))
}

fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

/// Runs a command in the container, and returns its exit status and standard output.
fn run(program: &Program, command: &[&str]) -> Result<(Exit, String)> {
    let captured = program.supervise([&["run"], command].concat()).output()?;
    captured.exit.assert_clean();
    Ok((captured.exit, String::from_utf8_lossy(&captured.stdout).into_owned()))
}

const RUN_PID: &str = r"run PID: (\d+)";

/// The promises that learners are graded by.
#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("02-init-pid1"));
}

/// The same command line, outside and inside. No shell has a handler for SIGTERM unless it's interactive.
#[test]
fn pid_1_survives_the_sigterm_that_kills_others() -> Result {
    let script = r#"kill -TERM $$; echo "still here""#;
    for program in programs() {
        let outside = program.environment().supervise("sh", ["-c", script]);
        assert_snapshot!("term_outside", Transcript::run(outside)?.text);
        let inside = program.transcript(["run", "sh", "-c", script])?;
        assert!(inside.text.ends_with("\nstill here\n"), "{}", inside.text);
        assert_snapshot!("term_inside", inside.redacted(&[RUN_PID])?);
    }
    Ok(())
}

/// `init PID: 1` is printed before the exec. Only the shell can tell that it is PID 1 itself.
#[test]
fn shell_is_pid_1_and_has_no_parent_inside() -> Result {
    for program in programs() {
        let (typed, exit) = Transcript::type_lines(shell(&program), &["echo $$ $PPID"])?;
        exit.assert_clean();
        assert!(typed.text.contains("\n# echo $$ $PPID\n1 0\n"), "{}", typed.text);
        assert_ne!(typed.captures(RUN_PID)?, [1]);
        assert_snapshot!("narration", typed.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn kernel_drops_signals_to_pid_1() -> Result {
    for program in programs() {
        let (typed, _) = Transcript::type_lines(shell(&program), &["kill -KILL 1", "echo $$"])?;
        assert!(typed.text.ends_with("\n# kill -KILL 1\n# echo $$\n1\n"), "{}", typed.text);
        assert_snapshot!("survives_sigkill", typed.redacted(&[RUN_PID])?);
        let lines = ["kill -INT 1", "kill -TERM 1", "echo $$"];
        let (typed, _) = Transcript::type_lines(shell(&program), &lines)?;
        let answers = "\n# kill -INT 1\n# kill -TERM 1\n# echo $$\n1\n";
        assert!(typed.text.ends_with(answers), "{}", typed.text);
        assert_snapshot!("deaf_pid_1", typed.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn pid_1_with_a_handler_receives_sigterm() -> Result {
    for program in programs() {
        let script = "trap 'exit 42' TERM; kill -TERM $$; echo unreached";
        let (exit, stdout) = run(&program, &["sh", "-c", script])?;
        assert_eq!((exit.shell_status(), stdout.as_str()), (42, ""));
    }
    Ok(())
}

/// SIGTERM from outside is dropped as well. The shell answers afterwards, so it was sent and had no effect.
#[test]
fn only_kill_reaches_pid_1_from_outside() -> Result {
    for program in programs() {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let pid = Pid::from_raw(tree.pid_1().expect("a PID 1").pids[0]);
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            kill(pid, signal).expect("it can be sent");
        }
        assert_eq!(shell.run("echo $$")?, "1");
        kill(pid, Signal::SIGKILL).expect("it can be sent");
        let (exit, _) = shell.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(137));
    }
    Ok(())
}

/// The lines that a reader types on the host to answer the chapter's questions.
#[test]
fn host_sees_run_and_command_and_kills_pid_1() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs() {
        let host = program.environment().supervise("sh", ["-c", "exec sh 2>&1"]);
        let mut host = Session::start(host)?;
        let start = "02-init-pid1 run sleep 1000 &";
        let first = host.run(start)?;
        let tree = host.wait_for_tree(|tree| {
            tree.pid_1().is_some_and(|pid_1| pid_1.argv.first().is_some_and(|name| name == "sleep"))
        })?;
        let printed = format!("{first}\n{}", host.run(":")?);
        let mut text = format!("$ {start}\n{}\n", printed.trim());
        let [_, run, sleep] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        let [run, sleep] = [run.pids[0], sleep.pids[0]];
        // The width of this column depends on the largest PID that the host allows.
        let aligned = |line: &str| {
            let (pid, args) = line.trim_start().split_once(' ').expect("two columns");
            format!("{pid:>7} {args}\n")
        };
        let ps = "ps -o pid,args --pid $! --ppid $!";
        text += &format!("$ {ps}\n");
        text.extend(host.run(ps)?.lines().map(aligned));
        for line in [
            format!("kill -TERM {sleep}"),
            format!("ps -o args= --pid {sleep}"),
            format!("kill -KILL {sleep}; wait $!; echo $?"),
        ] {
            text += &format!("$ {line}\n");
            text.extend(host.run(&line)?.lines().flat_map(|line| [line, "\n"]));
        }
        host.end()?.0.assert_clean();
        for (pid, name) in [(run, "HOST_A"), (sleep, "HOST_B")] {
            text = text.replace(&format!("{pid:>7} "), &format!("{name:>7} "));
            text = text.replace(&format!(" {pid}"), &format!(" {name}"));
        }
        assert!(text.contains("\n$ ps -o args= --pid HOST_B\nsleep 1000\n"), "{text}");
        assert!(text.ends_with("; echo $?\n137\n"), "{text}");
        assert_snapshot!("seen_from_the_host", text);
    }
    Ok(())
}

#[test]
fn command_has_one_pid_inside_and_one_outside() -> Result {
    for program in inspectable(programs()) {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let [run_outside] = run.pids[..] else { panic!("run is in one PID namespace") };
        let [outside, inside] = command.pids[..] else { panic!("the command is in two") };
        assert_eq!(inside, 1);
        assert!(outside != 1 && outside != run_outside);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        assert_eq!(command.argv, ["/bin/sh"], "it replaced init");
        // This /proc is the host's, and shows both PIDs.
        assert_eq!(shell.run("grep NSpid /proc/self/status | wc -w")?, "3");
        shell.end()?.0.assert_clean();
        assert_snapshot!("tree", tree.redacted());
        let caption = "Two processes: run, and the command, which has two PIDs";
        let argv = ["02-init-pid1", "run", "--ti", "/bin/sh"];
        assert_snapshot!("diagram", shell_diagram(caption, &tree, &argv));
    }
    Ok(())
}

/// Root needs only a PID namespace. An ordinary user also gets a user namespace, and is root there, with their IDs
/// mapped.
#[test]
fn only_ordinary_users_get_a_user_namespace() -> Result {
    for program in inspectable(programs()) {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let ours = ProcessTree::of(process::id().cast_signed())?.root;
        let [_, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let is_root = program.caller() == Caller::Root;
        for (kind, shared) in [("pid", false), ("user", is_root), ("mnt", true), ("net", true)] {
            // Root's supervisor has private mounts.
            let run = &tree.root.namespaces;
            let outside = if kind == "mnt" { run } else { &ours.namespaces };
            assert_eq!(command.namespaces[kind] == outside[kind], shared, "{kind}");
        }
        shell.end()?.0.assert_clean();
        let (_, ids) = run(&program, &["sh", "-c", "id -u; id -g; cat /proc/self/setgroups"])?;
        assert_eq!(ids, if is_root { "0\n0\nallow\n" } else { "0\n0\ndeny\n" });
    }
    Ok(())
}

/// User 0 inside has no more power over the host's files than its owner.
#[test]
fn root_inside_reads_what_the_caller_can_read() -> Result {
    for program in programs() {
        let (exit, uid) = run(&program, &["sh", "-c", "id -u; cat /etc/shadow >/dev/null 2>&1"])?;
        assert_eq!(uid, "0\n");
        assert_eq!(exit.status.success(), program.caller() == Caller::Root);
    }
    Ok(())
}

/// The PID namespace is new, but a procfs shows the namespace of the process that mounted it.
#[test]
fn proc_shows_the_hosts_pids() -> Result {
    for program in programs() {
        let (typed, _) =
            Transcript::type_lines(shell(&program), &["echo $$", "readlink /proc/self"])?;
        let run_pid = typed.captures(RUN_PID)?[0];
        assert!(typed.text.contains("\n# echo $$\n1\n"), "{}", typed.text);
        // In the container, readlink would be PID 2.
        let readlink = typed.captures(r"(?m)^(\d+)$")?[1];
        assert!(readlink > 2 && readlink != run_pid, "{}", typed.text);
        // It also lists what can't be seen from inside, such as this test.
        let script = format!("test -e /proc/{}", process::id());
        assert!(run(&program, &["sh", "-c", &script])?.0.status.success());
        let pids = [RUN_PID, r"readlink /proc/self\n(\d+)"];
        assert_snapshot!("proc_is_the_hosts", typed.redacted(&pids)?);
    }
    Ok(())
}

/// `ps` runs as PID 1 here, so that it finds itself on every host: see the next test.
#[test]
fn ps_lists_the_hosts_processes() -> Result {
    for program in with_tools(&["ps"], programs()) {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let pid = shell.pid().to_string();
        let ps = |column: &str, pid: &str| run(&program, &["ps", "-o", column, "-p", pid]);
        assert_eq!(ps("args=", &pid)?.1, "02-init-pid1 run --ti /bin/sh\n");
        shell.end()?.0.assert_clean();
        let host_init = fs::read_to_string("/proc/1/comm").expect("the host's PID 1");
        assert_eq!(ps("comm=", "1")?.1, host_init, "the container's PID 1 is ps");
    }
    Ok(())
}

/// `ps` first looks up itself in /proc, by its PID inside the container. A host with few processes has no such PID.
#[test]
fn process_may_not_find_itself_in_the_hosts_proc() -> Result {
    for program in with_tools(&["ps", "unshare"], programs()) {
        let host = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let args = [&host[..], &["/bin/sh"]].concat();
        let mut host = Session::start(program.environment().supervise("unshare", args))?;
        // Use up PID 2, so that no later process on this host has it.
        host.run("/bin/true")?;
        let step = program.path().display();
        let itself = "sh -c \"echo \\$\\$; ls -d /proc/\\$\\$\"; exit $?";
        let (pid, status) = host.run_with_status(&format!("{step} run sh -c '{itself}' 2>&-"))?;
        assert_eq!(pid, "2", "and there is no /proc/2");
        assert_ne!(status, "0");
        assert_eq!(host.run(&format!("{step} run ps -o args= -p 1 2>&-"))?, "/bin/sh");
        host.end()?.0.assert_clean();
    }
    Ok(())
}

/// `init` refuses, and makes no call that could change anything.
#[test]
fn init_on_the_host_touches_nothing() -> Result {
    for program in programs() {
        let refusal = program.transcript(["init", "/bin/sh"])?;
        assert_eq!(refusal.status.code(), Some(125));
        assert_snapshot!("init_outside", refusal.redacted(&[r"our PID is (\d+)"])?);
        if !require_tools(&["strace"]) {
            continue;
        }
        let changes = "--trace=unshare,mount,prctl,clone,clone3,fork,vfork,execve,setns,kill";
        let args = ["--quiet=all", "--output=calls", changes, "02-init-pid1", "init", "/bin/sh"];
        Transcript::run(program.environment().supervise("strace", args))?;
        let calls = fs::read_to_string(program.directory().join("calls")).expect("a trace");
        let calls: Vec<_> = calls.lines().filter(|line| !line.contains("PR_SET_VMA")).collect();
        assert_eq!(calls.len(), 1, "only the execve of strace: {calls:?}");
    }
    Ok(())
}

/// `init` accepts a parent whose children are created in the PID namespace that `init` is in. This is true for
/// `unshare`, too.
#[test]
fn init_accepts_any_parent_with_the_namespace() -> Result {
    for program in programs() {
        let path = program.path().to_string_lossy();
        let args = ["--user", "--map-root-user", "--pid", "--fork", &path, "init", "echo", "hi"];
        let captured = program.environment().supervise("unshare", args).output()?;
        assert_eq!(captured.exit.assert_clean().status.code(), Some(0));
        assert_eq!(captured.stdout, b"hi\n");
    }
    Ok(())
}

#[test]
fn missing_command_is_named() -> Result {
    for program in programs() {
        let not_found = program.transcript(["run", "nosuch"])?;
        assert_eq!(not_found.status.code(), Some(127));
        assert_snapshot!("not_found", not_found.redacted(&[RUN_PID])?);
    }
    Ok(())
}

/// EACCES says that a directory can't be searched, and not that the command was found.
#[test]
fn unsearchable_path_directory_is_not_found() -> Result {
    // Only root can create a directory that no ordinary user may search, and that isn't theirs.
    if !Requirement::Caller(Caller::Root).is_met_or_skip() || !require_tools(&["setpriv"]) {
        return Ok(());
    }
    for program in programs() {
        let closed = program.directory().join("closed");
        fs::DirBuilder::new().mode(0o000).create(&closed).expect("mkdir");
        let powers = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
        let powers: &[&str] = if program.caller() == Caller::Root { &powers } else { &[] };
        let path = format!("/usr/bin:/bin:{}", closed.display());
        let step = program.supervise(["run", "nosuch"]).wrapped_by(powers).env("PATH", path);
        let failed = Transcript::run(step)?;
        assert_eq!(failed.status.code(), Some(127), "{}", failed.text);
        assert!(failed.printed.ends_with("nosuch: No such file or directory (ENOENT)\n"));
    }
    Ok(())
}

/// The kernel kills every other process in the namespace.
#[test]
fn container_ends_with_pid_1() -> Result {
    for program in programs() {
        let script = "sleep 1000 </dev/null >/dev/null 2>&1 & exit 7";
        let (exit, _) = run(&program, &["sh", "-c", script])?;
        assert_eq!(exit.status.code(), Some(7));
    }
    Ok(())
}

/// The first child after `unshare` is PID 1. Once it's dead, the kernel creates no more processes there.
#[test]
fn dead_pid_1_allows_no_more_processes() -> Result {
    // Other shells don't say why they can't fork.
    for program in with_tools(&["bash", "unshare"], programs()) {
        let options: &[&str] = match program.caller() {
            Caller::Root => &["--pid"],
            Caller::Rootless => &["--user", "--map-root-user", "--pid"],
        };
        let args = [options, &["bash", "-c", "/bin/true; /bin/true; echo unreached"]].concat();
        let refusal = Transcript::run(program.environment().supervise("unshare", args))?;
        assert!(refusal.printed.contains("fork: Cannot allocate memory\n"), "{}", refusal.text);
        if program.caller() == Caller::Rootless {
            assert_snapshot!("fork_refused", refusal.text);
        }
    }
    Ok(())
}

#[test]
fn nested_container_has_three_pids() -> Result {
    for program in programs() {
        let step = program.name();
        let outer = ["run", "--ti", step, "run", "--ti", "/bin/sh"];
        let mut shell = Session::start(program.environment().supervise(step, outer))?;
        let tree = shell.tree()?;
        let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
        assert_eq!(pids, [1, 2, 3], "{}", tree.text());
        let [_, run, command] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!((&run.pids[1..], &command.pids[2..]), (&[1][..], &[1][..]));
        assert_eq!(shell.run("echo $$")?, "1");
        shell.end()?.0.assert_clean();
        assert_snapshot!("nested_tree", tree.redacted());
    }
    Ok(())
}

/// If a caller ignores SIGCHLD, the kernel keeps no exit status for it, and exec passes that on.
#[test]
fn ignored_sigchld_loses_the_status() -> Result {
    for program in programs() {
        let env = |option: &str, command: &[&str]| {
            let args = [&[option, "02-init-pid1", "run"], command].concat();
            Transcript::run(program.environment().supervise("env", args))
        };
        let lost = env("--ignore-signal=CHLD", &["true"])?;
        assert_eq!(lost.status.code(), Some(125), "{}", lost.text);
        assert_snapshot!("status_lost", lost.redacted(&[RUN_PID])?);
        let kept = env("--default-signal=CHLD", &["sh", "-c", "exit 7"])?;
        assert_eq!(kept.status.code(), Some(7), "{}", kept.text);
    }
    Ok(())
}

/// Ctrl-C goes to the terminal's foreground process group, which an interactive shell sets for each job.
#[test]
fn ctrl_c_ends_the_inner_shells_job_only() -> Result {
    for program in programs() {
        let mut terminal = Terminal::start(shell(&program).env("PS1", "ready> "))?;
        terminal.expect("ready> ")?;
        terminal.send_keys("sh -c 'echo \"running\"; exec sleep 1000'\r")?;
        terminal.expect("\nrunning\r\n")?;
        terminal.send_keys("\u{3}")?;
        terminal.expect("ready> ")?;
        terminal.send_keys("echo \"my PID is\" $$\r")?;
        terminal.expect("\nmy PID is 1\r\n")?;
        terminal.send_keys("exit\r")?;
        let (exit, shown) = terminal.end()?;
        exit.assert_clean();
        // dash and busybox sh want to give the terminal back to a process group that has no PID here.
        let complains = shown.contains("process group");
        assert_eq!(exit.status.code(), Some(if complains { 2 } else { 0 }), "{shown}");
    }
    Ok(())
}

/// The kernel answers a read from the background with SIGTTIN. PID 1 has no handler, so the signal is dropped, and
/// the read starts again: PID 1 uses all the CPU it gets. `run` is stopped. After `fg`, the read succeeds.
#[test]
fn background_read_makes_pid_1_spin() -> Result {
    for program in programs() {
        // If this test is killed, the kernel kills the spinning process after 60 s of CPU time.
        let script = "set -m; ulimit -t 60; \"$0\" run --ti cat & echo \"job\"; read _; fg; echo \"status $?\"";
        let shell = program.script(script);
        let mut terminal = Terminal::start(shell)?;
        terminal.expect("job\r\n")?;
        let spins = |tree: &ProcessTree| {
            let run = tree.root.children.first();
            run.is_some_and(|run| run.state == 'T')
                && tree.pid_1().is_some_and(|cat| {
                    cat.argv == ["cat"] && cat.state == 'R' && cpu_ticks(cat.pids[0]) >= 10
                })
        };
        let tree = terminal.wait_for_tree(spins)?;
        let run = ProcessTree { root: tree.root.children[0].clone() };
        let name = |mut tree: ProcessTree| {
            tree.root.argv[0] = "02-init-pid1".to_owned();
            tree
        };
        assert_snapshot!("background_read", name(run).redacted());
        terminal.send_keys("\r")?;
        terminal.expect("run --ti cat\r\n")?;
        terminal.send_keys("hello\r")?;
        terminal.expect("hello\r\nhello\r\n")?;
        // At the start of a line, Ctrl-D is end-of-file.
        terminal.send_keys("\u{4}")?;
        terminal.expect("status 0\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// The CPU time of a process: utime and stime in /proc/PID/stat, proc(5). A hundredth of a second each.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// An interactive shell takes the terminal, and can't give it back to a process group outside. A shell with job
/// control would take it from the job. A script doesn't, so it reads from the background.
#[test]
fn script_cannot_read_the_terminal_afterwards() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let script = |command: &str| {
            format!("02-init-pid1 run --ti {command}; head -n 1 2>/dev/null; echo \"head: $?\"")
        };
        let start =
            |script: &str| Terminal::start(program.environment().supervise("sh", ["-c", script]));
        // A command that leaves the terminal as it is does no harm.
        let mut terminal = start(&script("true"))?;
        terminal.send_keys("an answer\r")?;
        terminal.expect("head: 0\r\n")?;
        terminal.end()?.0.assert_clean();

        let script = script("bash --norc");
        let mut terminal = start(&script)?;
        let mut screen = format!("$ sh -c '{script}'\n") + &terminal.expect("# ")?;
        terminal.send_keys("exit\r")?;
        let (exit, rest) = terminal.end()?;
        exit.assert_clean();
        screen += &rest;
        assert!(screen.ends_with("head: 1\r\n"), "{screen}");
        let after = |mark: &str| screen.split_once(mark).map_or("", |(_, rest)| rest);
        let pid = after("run PID: ").split('\r').next().unwrap_or_default();
        // bash puts its version into the prompt.
        let version = after("bash --norc\r\n").split('#').next().unwrap_or_default();
        let shown = screen.replace(pid, "HOST_A").replace(version, "").replace('\r', "");
        assert_snapshot!("script_loses_terminal", shown);
    }
    Ok(())
}

/// For an ordinary user there are more calls: the one that fails, and the user namespace.
#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|unshare|prctl\(PR_SET_PDEATHSIG|wait4|exit_group)\b",
        r"^write\(.*/(setgroups|uid_map|gid_map)>",
        r"^readlink.*/ns/pid",
        r"^openat.*/proc/self/status",
        r"^getpid",
    ];
    for program in with_tools(&["strace"], programs()) {
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
