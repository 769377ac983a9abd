//! Step 04: `init` stays PID 1, starts the command as its child, and waits for everything that dies.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{
    assert_checks_pass, in_parallel, programs_for_each_caller, shell_diagram, step_program,
};
use harness::test_support::{inspectable, require_tools, with_tools, write_program};
use harness::{
    Caller, Process, ProcessTree, Program, Result, Session, Terminal, Transcript, assert_snapshot,
    procfs, send_signal, shell_status,
};
use nix::sys::signal::Signal;

fn step() -> &'static Path {
    cargo_bin!("04-reap-zombies")
}

fn programs() -> Vec<Program> {
    programs_for_each_caller(step())
}

/// The step before, in which the command is PID 1.
fn programs_03() -> Vec<Program> {
    programs_for_each_caller(step_program(3))
}

#[test]
fn passes_every_check() {
    assert_checks_pass(step());
}

// Zombies: the problem, and the fix.

/// A PID 1 that waits only for its own child, as most programs do that start one.
const TIMEOUT: [&str; 4] = ["timeout", "--foreground", "600", "sh"];

/// Whether `timeout` stays PID 1, as GNU's does. That of busybox becomes the program, here a shell, which reaps.
fn timeout_stays(program: &Program) -> bool {
    let version = program.environment().command("timeout", ["--version"]).output();
    require_tools(&["timeout"]) && version.is_ok_and(|version| version.status.success())
}

fn zombies(tree: &ProcessTree) -> usize {
    tree.processes().iter().filter(|process| process.state == 'Z').count()
}

/// Finds the process with this name in argv\[0\].
fn named<'a>(tree: &'a ProcessTree, name: &str) -> Option<&'a Process> {
    let is = |process: &&Process| process.argv.first().is_some_and(|word| word == name);
    tree.processes().into_iter().find(is)
}

/// Types into a shell below `timeout`: three orphans that die, and `ps` as soon as they're `settled`.
fn three_dead_orphans(program: &Program, settled: impl Fn(&ProcessTree) -> bool) -> Result<String> {
    let args = [&["run", "--ti"], &TIMEOUT[..]].concat();
    let mut shell = program.session(&args)?;
    let mut typed = String::new();
    for line in ["(sleep 0 &)"; 3] {
        typed += &format!("# {line}\n{}", shell.run(line)?);
    }
    shell.wait_for_tree(settled)?;
    let ps = "ps -e -o pid,ppid,state,args";
    // On a busy machine, `ps` can look before the others wait: the shell for it, and PID 1 for what died.
    let waiting = |line: &str| {
        let state = if line.ends_with(ps) { " R " } else { " S " };
        line.replacen(" R ", state, 1) + "\n"
    };
    let shown: String = shell.run(ps)?.lines().map(waiting).collect();
    typed += &format!("# {ps}\n{shown}");
    let run = format!("run PID: {}", shell.pid());
    let (exit, said) = shell.end()?;
    exit.assert_clean();
    let said = said.replace(&run, "run PID: HOST_A");
    Ok(format!("$ {} {}\n{said}{typed}", program.name(), args.join(" ")))
}

#[test]
fn step_03_collects_zombies() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs_03().iter().filter(|program| timeout_stays(program)) {
        let text = three_dead_orphans(program, |tree| zombies(tree) == 3)?;
        assert_eq!(text.matches(" 1 Z [sleep] <defunct>\n").count(), 3, "{text}");
        assert_snapshot!("zombies_under_step_03", text);
    }
    Ok(())
}

#[test]
fn init_leaves_no_zombies() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs().iter().filter(|program| timeout_stays(program)) {
        // `run`, `init`, `timeout`, and the shell.
        let text = three_dead_orphans(program, |tree| tree.processes().len() == 4)?;
        assert!(!text.contains("defunct"), "{text}");
        assert_snapshot!("no_zombies", text);
    }
    Ok(())
}

fn with_zombie(program: &Program) -> Result<(Session, ProcessTree)> {
    let mut shell = program.session([&["run", "--ti"], &TIMEOUT[..]].concat())?;
    shell.run("(sleep 0 &)")?;
    let tree = shell.wait_for_tree(|tree| zombies(tree) == 1)?;
    Ok((shell, tree))
}

/// A zombie runs no code any more, so a signal has no effect on it.
#[test]
fn zombie_survives_sigkill() -> Result {
    for program in with_tools(&["ps"], programs_03()).filter(timeout_stays) {
        let (mut shell, tree) = with_zombie(&program)?;
        let zombie = tree.processes().into_iter().find(|process| process.state == 'Z').cloned();
        let zombie = zombie.expect("there is one");
        let kill = format!("kill -KILL {}", zombie.pids[1]);
        assert_eq!(shell.run_with_status(&kill)?, (String::new(), "0".to_owned()));
        let ps = format!("ps -o pid,ppid,state,args {}", zombie.pids[1]);
        let text = format!("# {kill}\n# {ps}\n{}\n", shell.run(&ps)?);
        let after = shell.tree()?;
        let same = after.processes().into_iter().find(|process| process.pids == zombie.pids);
        assert_eq!(same.map(|process| process.state), Some('Z'), "{}", after.text());
        shell.end()?.0.assert_clean();
        assert_snapshot!("killed_zombie", text);
    }
    Ok(())
}

/// The kernel keeps a zombie's PID and exit status for its parent, and has freed its memory and arguments.
#[test]
fn zombie_has_a_pid_but_no_memory() -> Result {
    for program in programs_03().iter().filter(|program| timeout_stays(program)) {
        let (shell, tree) = with_zombie(program)?;
        for process in tree.processes() {
            let is_zombie = process.state == 'Z';
            let memory = procfs::status_field(process.pids[0], "VmSize");
            assert_eq!((memory.is_none(), process.argv.is_empty()), (is_zombie, is_zombie));
        }
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

/// A hundred orphans die at the same moment. `kill -1` means every process except PID 1 and the sender.
fn hundred_deaths_leave_no_zombie(program: &Program, prefix: &[&str]) -> Result {
    let script = "(n=0; while [ $n -lt 100 ]; do sleep 1000 & n=$((n+1)); done); echo ready; \
        read go; kill -s KILL -- -1; echo done; exec cat";
    let args = [prefix, &["sh", "-c", script]].concat();
    let mut session = Session::ready(program.supervise(args), "ready")?;
    let tree = session.wait_for_tree(|tree| tree.processes().len() == 3 + 100)?;
    assert_eq!(tree.pid_1().map(|init| init.children.len()), Some(1 + 100), "{}", tree.text());
    session.send("go\n")?;
    session.wait_for_tree(|tree| tree.processes().len() == 3)?;
    session.end()?.0.assert_clean();
    Ok(())
}

#[test]
fn reaps_hundred_orphans_that_die_at_once() -> Result {
    programs()
        .iter()
        .try_for_each(|program| hundred_deaths_leave_no_zombie(program, &["run", "--ti"]))
}

/// Sends a real-time signal, for which nix has no name.
fn send_34(program: &Program, pids: &str) {
    let kill = program.environment().command("sh", ["-c", &format!("kill -34 {pids}")]).status();
    assert!(kill.is_ok_and(|kill| kill.success()));
}

/// nix's `waitpid` would return `EINVAL` for this death.
#[test]
fn reaps_orphan_killed_by_signal_34() -> Result {
    for program in programs() {
        let script = "(sleep 1000 & sleep 1001 & echo ready); exec cat";
        let session =
            Session::ready(program.supervise(["run", "--ti", "sh", "-c", script]), "ready")?;
        let tree = session.wait_for_tree(|tree| {
            tree.processes()
                .iter()
                .filter(|one| one.argv.first().is_some_and(|it| it == "sleep"))
                .count()
                == 2
        })?;
        let sleep = named(&tree, "sleep").expect("one of them");
        send_34(&program, &sleep.pids[0].to_string());
        session.wait_for_tree(|tree| tree.processes().len() == 4 && zombies(tree) == 0)?;
        let (exit, said) = session.end()?;
        assert_eq!(exit.assert_clean().status.code(), Some(0), "{said}");
    }
    Ok(())
}

// Processes and system calls.

#[test]
fn init_stays_and_command_is_pid_2() -> Result {
    for program in inspectable(programs()) {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [_, init, command] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!((&init.pids[1..], &command.pids[1..]), (&[1][..], &[2][..]));
        assert_eq!(init.namespaces, command.namespaces);
        assert_eq!(shell.run("echo $$ $PPID")?, "2 1");
        shell.end()?.0.assert_clean();
        assert_snapshot!("tree", tree.redacted());
        let caption = "run, then init, which stays PID 1, and the command below it";
        let argv = ["04-reap-zombies", "run", "--ti", "/bin/sh"];
        assert_snapshot!("diagram", shell_diagram(caption, &tree, &argv));
    }
    Ok(())
}

/// The system calls that step 04 adds. The processes run at the same time, so the trace is grouped by process.
#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [r"^(execve|clone3?|v?fork|waitid|wait4|exit_group)\("];
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let calls = trace.by_process()?.map(|calls: Vec<&str>| {
            let names = calls.into_iter().filter_map(|call| call.split('(').next());
            names.map(|name| if name.starts_with("clone") { "clone" } else { name }).collect()
        });
        let [run, init, command]: [Vec<_>; 3] = calls;
        assert_eq!(run, ["execve", "clone", "wait4", "exit_group"]);
        assert_eq!(init, ["execve", "clone", "wait4", "exit_group"]);
        assert_eq!(command, ["execve", "exit_group"]);
        let text = trace.grouped_by_process().redacted()?;
        assert_snapshot!("trace", text);
    }
    Ok(())
}

/// `init` occupies this memory for as long as the container runs.
#[test]
fn init_has_under_1_mib_of_private_memory() -> Result {
    for program in inspectable(programs()) {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [_, private] = procfs::memory(tree.pid_1().expect("init").pids[0])?;
        assert!(private < 1024, "{private} KiB");
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

// The exit status.

/// Checks the exit statuses 0 to 255. For an ordinary user, and for tini, every 17th is enough: the step's code is the
/// same for both users.
fn passes_on_each_status(program: &Program, prefix: &[&str]) -> Result {
    let ours = program.caller() == Caller::Root && prefix == ["run"];
    let by = if ours { "1" } else { "17" };
    let script = "by=$1; shift; n=0; while [ $n -lt 256 ]; do \"$@\" sh -c \"exit $n\"; s=$?; \
        [ $s = $n ] || echo \"exit $n: $s\"; n=$((n+by)); done 2>/dev/null; echo \"below $n\"";
    let path = program.path().to_string_lossy();
    let args = [&["-c", script, "sh", by, &path], prefix].concat();
    let printed = Transcript::run(program.environment().supervise("sh", args))?.printed;
    assert_eq!(printed, if by == "1" { "below 256\n" } else { "below 272\n" });
    Ok(())
}

#[test]
fn passes_on_each_of_256_statuses() -> Result {
    programs().iter().try_for_each(|program| passes_on_each_status(program, &["run"]))
}

#[test]
fn death_by_signal_34_exits_162() -> Result {
    for program in programs() {
        let transcript = program.transcript(["run", "sh", "-c", "kill -34 $$"])?;
        assert_eq!(shell_status(transcript.status), 128 + 34, "{}", transcript.text);
    }
    Ok(())
}

/// `init` has 300 deaths by signal 34 to work through while the command exits.
#[test]
fn status_survives_300_deaths_by_signal_34() -> Result {
    // A subshell that waits for its input costs a tenth of a `sleep`. All of them are dead before
    // the line comes, so only the command reads it.
    let script = "exec 3<&0; (n=0; while [ $n -lt 300 ]; do read line <&3 & n=$((n+1)); done); \
        echo ready; read line; exit 42";
    in_parallel(programs(), |program| {
        let args = ["run", "--ti", "sh", "-c", script];
        let mut session = Session::ready(program.supervise(args), "ready")?;
        let tree = session.wait_for_tree(|tree| tree.processes().len() == 3 + 300)?;
        let init = tree.pid_1().expect("init");
        let orphans = init.children.iter().filter(|child| child.pids[1] != 2);
        let orphans: Vec<_> = orphans.map(|orphan| orphan.pids[0].to_string()).collect();
        send_signal(init.pids[0], Signal::SIGSTOP)?;
        session.wait_for_tree(|tree| tree.pid_1().is_some_and(|init| init.state == 'T'))?;
        send_34(&program, &orphans.join(" "));
        session.wait_for_tree(|tree| zombies(tree) == 300)?;
        send_signal(init.pids[0], Signal::SIGCONT)?;
        session.send("\n")?;
        let (exit, said) = session.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(42), "{said}");
        Ok(())
    })
}

/// Only `init` can collect the command's status. If it can't, it reports the error and exits, instead of waiting again.
/// Only root may trace what it didn't start.
#[test]
fn failed_wait_exits_125() -> Result {
    let is_root = |program: &Program| program.caller() == Caller::Root;
    for program in with_tools(&["strace"], programs()).filter(is_root) {
        let session = Session::ready(
            program.supervise(["run", "sh", "-c", "echo ready; sleep 1000"]),
            "ready",
        )?;
        let init = session.tree()?.pid_1().expect("init").pids[0].to_string();
        let fail = "--inject=wait4:error=ECHILD";
        let strace = ["--trace=wait4", fail, "--output=/dev/null", "--attach", &init];
        let strace = program.environment().supervise("strace", strace).output()?;
        let (exit, said) = session.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(125), "{said}");
        let error = "04-reap-zombies: wait: No child processes (ECHILD)\nhint: ";
        assert!(said.contains(error), "{said}");
        strace.exit.assert_clean();
    }
    Ok(())
}

/// The kernel reaps the children of a parent that ignores SIGCHLD. `env` comes after the shell, because a shell may
/// reset the signal's disposition.
#[test]
fn ignoring_sigchld_leaves_no_zombies() -> Result {
    for program in programs_03() {
        let script = "(sleep 1000 & echo ready); exec env --ignore-signal=CHLD cat";
        let session =
            Session::ready(program.supervise(["run", "--ti", "sh", "-c", script]), "ready")?;
        let both = |tree: &ProcessTree| named(tree, "cat").and(named(tree, "sleep")).is_some();
        let tree = session.wait_for_tree(both)?;
        send_signal(named(&tree, "sleep").expect("it's there").pids[0], Signal::SIGKILL)?;
        session.wait_for_tree(|tree| tree.processes().len() == 2)?;
        session.end()?.0.assert_clean();
    }
    Ok(())
}

// The end of the container.

fn everything_dies_with_the_parent(program: &Program, prefix: &[&str]) -> Result {
    let args = [prefix, &["sh", "-c", "sleep 1000 & echo ready; wait"]].concat();
    let session = Session::ready(program.supervise(args), "ready")?;
    session.signal(Signal::SIGKILL)?;
    let (exit, _) = session.wait()?;
    assert_eq!(shell_status(exit.assert_clean().status), 137);
    Ok(())
}

#[test]
fn command_dies_with_run() -> Result {
    programs().iter().try_for_each(|program| everything_dies_with_the_parent(program, &["run"]))
}

/// The terminal's signals can stop the command, because it isn't PID 1, and `fg` continues it. In step 03, the command
/// was PID 1, which these signals can't stop, so its read restarted forever.
#[test]
fn background_read_stops_instead_of_spinning() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let bash = program.environment().supervise("bash", ["--norc", "--noediting", "-i"]);
        let mut terminal = Terminal::start(bash.env("PS1", "what next? "))?;
        terminal.expect("what next? ")?;
        terminal.send_keys(&format!("{} run --ti cat &\r", program.name()))?;
        terminal.wait_for_tree(|tree| {
            let states = tree.processes().iter().skip(1).map(|it| it.state).collect::<String>();
            states == "TST"
        })?;
        terminal.send_keys("fg\r")?;
        // From the start of the line, because the shell may only now say that the job is stopped.
        terminal.expect(&format!("\n{} run --ti cat\r\n", program.name()))?;
        terminal.send_keys("words\r")?;
        terminal.expect("words\r\nwords\r\n")?;
        terminal.send_keys("\u{4}")?;
        terminal.expect("what next? ")?;
        terminal.send_keys("exit\r")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

// Step 04 uses posix_spawn, and step 03 execvp.

/// execvp(3) gives a file without `#!` to a shell. posix_spawnp(3) doesn't.
#[test]
fn script_without_interpreter_exits_126() -> Result {
    let run = |program: &Program| {
        let script = program.directory().join("script");
        write_program(&script, "echo run by $0\n", 0o755);
        program.transcript(["run", "./script"])
    };
    for program in programs_03() {
        let by_exec = run(&program)?;
        assert!(by_exec.printed.ends_with("\nrun by ./script\n"), "{}", by_exec.text);
    }
    for program in programs() {
        let by_spawn = run(&program)?;
        let error = "\n04-reap-zombies: exec ./script: Exec format error (ENOEXEC)\n";
        assert!(by_spawn.printed.ends_with(error), "{}", by_spawn.text);
        assert_eq!(by_spawn.status.code(), Some(126));
    }
    Ok(())
}

/// The kernel answers EACCES for a directory that can't be searched. The command may still be in the next one.
#[test]
fn unsearchable_path_entry_exits_127() -> Result {
    for program in programs_03().into_iter().chain(programs()) {
        let closed = program.directory().join("closed");
        fs::create_dir(&closed).expect("create a directory");
        fs::set_permissions(&closed, Permissions::from_mode(0o0)).expect("chmod");
        let path = format!("{}:/usr/bin:/bin", closed.display());
        let run =
            |command: &str| Transcript::run(program.supervise(["run", command]).env("PATH", &path));
        let missing = run("nosuch")?;
        let error = "exec nosuch: No such file or directory (ENOENT)\n";
        assert!(missing.printed.ends_with(error), "{}", missing.text);
        assert_eq!(missing.status.code(), Some(127));
        assert_eq!(run("true")?.status.code(), Some(0));
        fs::remove_dir(&closed).expect("remove it");
    }
    Ok(())
}

// Problems that step 05 solves.

/// Types a line, and waits until the process tree is as wanted. Returns the transcript.
fn type_and_wait(
    shell: &mut Session,
    line: &str,
    wanted: impl Fn(&ProcessTree) -> bool,
) -> Result<String> {
    let printed = shell.run(line)?;
    shell.wait_for_tree(wanted)?;
    let later = shell.run(":")?;
    let printed = [printed, later].join("\n").trim().to_owned();
    Ok(format!("$ {line}\n{printed}\n"))
}

const CLEANS_UP: &str = "trap \"echo cleaned up; exit 42\" TERM; sleep 1000 & wait";

/// The three steps of `docker stop`: SIGTERM to PID 1, some time, SIGKILL.
#[test]
fn sigterm_to_init_never_reaches_the_command() -> Result {
    for program in with_tools(&["ps"], programs()) {
        let mut shell =
            Session::start(program.environment().supervise("sh", ["-c", "exec sh 2>&1"]))?;
        let start = format!("{} run sh -c '{CLEANS_UP}' &", program.name());
        let mut text = type_and_wait(&mut shell, &start, |tree| named(tree, "sleep").is_some())?;
        for line in [
            "run=$!; init=$(ps -o pid= --ppid $run)",
            "kill -TERM $init; sleep 1",
            "kill -KILL $init; wait $run",
        ] {
            let (printed, status) = shell.run_with_status(line)?;
            text += &format!("$ {line}\n{printed}");
            if status != "0" {
                text += &format!("[exit status {status}]\n");
            }
        }
        shell.end()?.0.assert_clean();
        assert!(!text.contains("\ncleaned up\n"), "{text}");
        assert!(text.ends_with("\n[exit status 137]\n"), "{text}");
        let run = text.lines().find_map(|line| line.strip_prefix("run PID: ")).expect("its PID");
        let text = text.replace(run, "HOST_A");
        assert_snapshot!("stopped_like_docker", text);
    }
    Ok(())
}

#[test]
fn sigterm_to_run_kills_the_command() -> Result {
    for program in programs() {
        let script = "trap 'echo cleaned up; exit 42' TERM; echo ready; sleep 1000 & wait";
        let session = Session::ready(program.supervise(["run", "sh", "-c", script]), "ready")?;
        session.signal(Signal::SIGTERM)?;
        assert_eq!(session.next_line().ok(), None, "it can't clean up");
        let (exit, _) = session.wait()?;
        assert_eq!(shell_status(exit.assert_clean().status), 143, "run died of SIGTERM");
    }
    Ok(())
}

/// `run` and `init` keep the write end open, too, so a reader of the command's output sees EOF only when they exit.
#[test]
fn run_and_init_keep_the_commands_pipe_open() -> Result {
    for program in inspectable(programs()) {
        // Stops itself, because a program that starts opens its libraries, one after the other, as file descriptor 1.
        let script = "echo ready; exec >&-; kill -STOP $$";
        let session = Session::ready(program.supervise(["run", "sh", "-c", script]), "ready")?;
        let is_stopped = |process: &&Process| process.state == 'T';
        let tree = session.wait_for_tree(|tree| tree.processes().iter().any(is_stopped))?;
        let stdout =
            |process: &Process| fs::read_link(format!("/proc/{}/fd/1", process.pids[0])).ok();
        let [run, init, command] = tree.processes()[..] else {
            panic!("not three: {}", tree.text())
        };
        assert_eq!(stdout(command), None);
        assert_eq!(stdout(run), stdout(init));
        assert!(stdout(init).is_some_and(|file| file.display().to_string().starts_with("pipe:")));
        session.signal(Signal::SIGKILL)?;
        session.wait()?.0.assert_clean();
    }
    Ok(())
}

// The reference: tini, a PID 1 that does nothing but this, and forwards signals.

/// The properties that tini's own tests check and that step 04 promises too.
const TINIS_TESTS: [fn(&Program, &[&str]) -> Result; 3] =
    [passes_on_each_status, hundred_deaths_leave_no_zombie, everything_dies_with_the_parent];

/// Step 03 creates the namespaces, and then becomes tini. One caller is enough, because tini can't see which.
#[test]
fn tini_passes_the_same_tests() -> Result {
    if !require_tools(&["tini"]) {
        return Ok(());
    }
    let program = programs_03().into_iter().next();
    let test = |program: Program| {
        TINIS_TESTS.iter().try_for_each(|test| test(&program, &["run", "--ti", "tini", "--"]))
    };
    program.map_or(Ok(()), test)
}
