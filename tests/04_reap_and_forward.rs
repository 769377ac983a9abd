//! Step 04: an init that stays PID 1, and does for the command what PID 1 owes: it reaps, it forwards
//! signals, and it ends as the command ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use course::test_support::{assert_checks_pass, programs_for_each_caller, step_program};
use harness::test_support::{AssertClean, Skip, require_tools};
use harness::{
    Caller, Process, ProcessTree, Program, Requirement, Result, Session, Terminal, Transcript,
    assert_snapshot, diagram,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("04-reap-and-forward"))
}

/// The step before, in which PID 1 is the command.
fn step_03() -> Vec<Program> {
    programs_for_each_caller(step_program(3))
}

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("04-reap-and-forward"));
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("send a signal");
}

/// A signal's place in a mask of /proc/PID/status.
fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

/// A mask of /proc/PID/status: `SigBlk`, `ShdPnd`. Empty where there is no such process.
fn signals_in(mask: &str, pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(":\t"));
    line.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

/// The PID, on the host, of the container's PID 1.
fn pid_1(tree: &ProcessTree) -> i32 {
    let [init] = &tree.root.children[..] else { panic!("not one child: {}", tree.text()) };
    assert_eq!(init.pids[1..], [1], "{}", tree.text());
    init.pids[0]
}

fn zombies(tree: &ProcessTree) -> usize {
    tree.processes().iter().filter(|process| process.state == 'Z').count()
}

/// A command that leaves an orphan, and goes on as a program that waits for no child.
const ORPHAN: [&str; 5] = ["run", "--ti", "sh", "-c", "(sleep 1000 &); echo ready; exec cat"];

/// Kills the orphan, once the program is there.
fn kill_the_orphan(session: &Session) -> Result {
    let named = |tree: &ProcessTree, name: &str| {
        let all = tree.processes();
        all.iter()
            .find(|process| process.argv.first().is_some_and(|word| word == name))
            .copied()
            .cloned()
    };
    let both = |tree: &ProcessTree| named(tree, "cat").is_some() && named(tree, "sleep").is_some();
    let tree = session.wait_for_tree(both)?;
    send(named(&tree, "sleep").expect("it is there").pids[0], Signal::SIGKILL);
    Ok(())
}

#[test]
fn dead_orphan_stays_zombie_without_init() -> Result {
    for program in step_03() {
        let session = Session::ready(program.supervise(ORPHAN), "ready")?;
        kill_the_orphan(&session)?;
        let tree = session.wait_for_tree(|tree| zombies(tree) > 0)?;
        let [_, cat, sleep] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!((cat.pids[1], sleep.display_name().as_str()), (1, "[sleep] (zombie)"));
        session.end()?.0.assert_clean();
        assert_snapshot!("pain_zombie_tree", tree.redacted());
    }
    Ok(())
}

#[test]
fn init_reaps_orphan_while_command_runs() -> Result {
    for program in programs() {
        let session = Session::ready(program.supervise(ORPHAN), "ready")?;
        kill_the_orphan(&session)?;
        let tree = session.wait_for_tree(|tree| tree.processes().len() == 3)?;
        let [_, init, cat] = tree.processes()[..] else { unreachable!() };
        assert_eq!((init.pids[1], cat.pids[1], cat.argv[0].as_str()), (1, 2, "cat"));
        session.end()?.0.assert_clean();
        assert_snapshot!("reaped_tree", tree.redacted());
    }
    Ok(())
}

/// exec against spawn once more, inside: step 03's PID 1 was the shell; here init stays.
#[test]
fn command_is_child_of_init() -> Result {
    for program in programs() {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, init, command] = tree.processes()[..] else { panic!("not three") };
        assert_eq!((init.pids[1], command.pids[1]), (1, 2));
        assert_eq!(run.children[0].children[0].argv, ["/bin/sh"]);
        assert_eq!(shell.run("echo $$ $PPID")?, "2 1");
        shell.end()?.0.assert_clean();
        let before = tree.before(["04-reap-and-forward", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        assert_snapshot!("exec_vs_spawn_inside", tree.redacted());
        let caption = "run, PID 1 that stays, and the command below it";
        assert_snapshot!("diagram", diagram(caption, &moments));
    }
    Ok(())
}

/// The same three questions to a step: TERM to PID 1 from inside; TERM to PID 1 from outside; TERM to
/// `run`, when the command would clean up. `after` is what to type after the second.
fn signals(program: &Program, after: &[&str]) -> Result<Transcript> {
    let name = program.name();
    let inside = format!("{name} run sh -c 'kill -TERM $$; echo still here'");
    // It does not become another program when it has said that it is ready: `ps` could see the one or the other.
    let deaf =
        format!("{name} run sh -c 'echo >ready; sleep 1000 & wait' & read ready <ready; run=$!");
    let trap = "trap \"echo cleaned up; exit 42\" TERM; echo >ready; sleep 1000 & wait";
    let tidy = format!("{name} run sh -c '{trap}' & read ready <ready");
    let mut lines = vec![inside.as_str(), "mkfifo ready", &deaf];
    lines.extend(["init=$(ps -o pid= --ppid $run)", "kill -TERM $init"]);
    lines.extend(after);
    lines.extend(["wait $run", &tidy, "kill -TERM $!; wait $! 2>/dev/null"]);
    let (transcript, exit) =
        Transcript::type_lines(program.environment().supervise::<&str>("sh", []), &lines)?;
    exit.assert_clean();
    Ok(transcript)
}

/// What `ps` says of the PID 1 that got TERM from outside.
const STILL_THERE: &str = "-p $init\nsh -c echo >ready; sleep 1000 & wait\n";

#[test]
fn pid_1_without_init_ignores_signals() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in step_03() {
        let deaf = signals(&program, &["ps -o args= -p $init", "kill -KILL $init"])?;
        assert!(deaf.text.contains("\nstill here\n"), "from inside: {}", deaf.text);
        assert!(deaf.text.contains(STILL_THERE), "from outside: {}", deaf.text);
        assert!(deaf.text.contains("wait $run\n[exit status 137]\n"), "{}", deaf.text);
        assert!(!deaf.text.contains("\ncleaned up\n"), "run: {}", deaf.text);
        assert_snapshot!("pain_deaf", deaf.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

#[test]
fn command_gets_signals_and_sets_status() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs() {
        let heard = signals(&program, &[])?;
        assert!(!heard.text.contains("\nstill here\n"), "from inside: {}", heard.text);
        assert!(heard.text.contains("wait $run\n[exit status 143]\n"), "outside: {}", heard.text);
        assert!(heard.text.ends_with("\ncleaned up\n[exit status 42]\n"), "run: {}", heard.text);
        assert_snapshot!("signals", heard.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// TERM to PID 1 from the command, which goes on unless it gets that signal itself.
const TERM_TO_PID_1: [&str; 4] = ["run", "sh", "-c", "kill -TERM 1; sleep 10; echo still here"];

#[test]
fn term_to_pid_1_is_dropped_without_init() -> Result {
    for program in step_03() {
        let dropped = program.transcript(["run", "sh", "-c", "kill -TERM 1; echo still here"])?;
        assert_eq!(dropped.status.code(), Some(0));
        assert!(dropped.printed.ends_with("\nstill here\n"), "{}", dropped.text);
        let text = dropped.redacted(&[r"run PID: (\d+)"])?;
        assert_snapshot!("pain_term_to_pid_1", text);
    }
    Ok(())
}

#[test]
fn term_to_pid_1_comes_back_to_command() -> Result {
    for program in programs() {
        let forwarded = program.transcript(TERM_TO_PID_1)?;
        assert_eq!(forwarded.status.code(), Some(128 + Signal::SIGTERM as i32));
        let text = forwarded.redacted(&[r"run PID: (\d+)"])?;
        assert!(!text.contains("\nstill here\n"), "{text}");
        assert_snapshot!("term_to_pid_1", text);
    }
    Ok(())
}

/// A shell that says the name of each signal that it gets, and ends with status 42 at USR2.
fn listener() -> String {
    let mut line = String::new();
    for signal in Signal::iterator() {
        let name = signal.as_str().trim_start_matches("SIG");
        let done = if signal == Signal::SIGUSR2 { "; exit 42" } else { "" };
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCHLD) {
            line += &format!("trap 'echo {name}{done}' {}; ", signal as i32);
        }
    }
    line + "sleep 1000 & echo ready; while :; do wait $!; done"
}

fn catchable() -> impl Iterator<Item = Signal> {
    use Signal::{SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTSTP, SIGUSR2};
    let not = [SIGKILL, SIGSTOP, SIGCHLD, SIGCONT, SIGTSTP, SIGUSR2];
    // TSTP towards the end, since CONT comes after it; and CONT, whenever it comes, makes the kernel
    // forget TTIN and TTOU that have not been taken yet.
    Signal::iterator().filter(move |signal| !not.contains(signal)).chain([SIGTSTP, SIGUSR2])
}

/// The next line of a listener. CONT may come more than once: `run` sends it when it goes on, and again
/// when it takes the one that made it go on.
fn heard(session: &Session) -> Result<String> {
    loop {
        let line = session.next_line()?;
        if line != "CONT" {
            return Ok(line);
        }
    }
}

/// `run` has got TSTP. It forwards it, and stops, until CONT comes. Where nobody could send that, the kernel does
/// not stop it, and it goes on by itself; then its CONT can make the kernel forget the TSTP that `init` has not
/// taken yet.
fn it_stops_and_goes_on(session: &Session) -> Result {
    let (mut said, mut stopped) = (false, false);
    for _ in 0..300 {
        match session.next_line_timeout(Duration::from_millis(100)).as_deref() {
            Some("TSTP") => said = true,
            Some(line) => {
                assert_eq!(line, "CONT");
                assert!(said || !stopped, "TSTP sent to run");
                return Ok(());
            }
            None if session.tree()?.root.state == 'T' => {
                stopped = true;
                session.signal(Signal::SIGCONT)?;
            }
            None => {}
        }
    }
    panic!("no CONT; stopped: {stopped}");
}

#[test]
fn run_and_init_forward_every_signal() -> Result {
    for program in programs() {
        let session = Session::ready(program.supervise(["run", "sh", "-c", &listener()]), "ready")?;
        let init = pid_1(&session.tree()?);
        for signal in catchable() {
            let name = &signal.as_str()[3..];
            if signal != Signal::SIGUSR2 {
                send(init, signal);
                assert_eq!(heard(&session)?, name, "sent to init");
            }
            session.signal(signal)?;
            if signal == Signal::SIGTSTP {
                it_stops_and_goes_on(&session)?;
            } else {
                assert_eq!(heard(&session)?, name, "sent to run");
            }
        }
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

/// While `run` and init are stopped they can do nothing; afterwards they catch up.
#[test]
fn signals_during_a_stop_are_forwarded_later() -> Result {
    for program in programs() {
        let session = Session::ready(program.supervise(["run", "sh", "-c", &listener()]), "ready")?;
        let init = pid_1(&session.tree()?);
        for pid in [session.pid(), init] {
            send(pid, Signal::SIGSTOP);
            session.wait_for_tree(|tree| {
                let stopped = |process: &&&Process| process.state == 'T';
                let all = tree.processes();
                all.iter().filter(stopped).any(|process| process.pids[0] == pid)
            })?;
        }
        let all = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1];
        let all = [&all[..], &[Signal::SIGALRM, Signal::SIGTERM, Signal::SIGWINCH]].concat();
        for signal in &all {
            session.signal(*signal)?;
        }
        send(init, Signal::SIGCONT);
        session.signal(Signal::SIGCONT)?;
        let mut heard = Vec::new();
        while !all.iter().all(|signal| heard.contains(&signal.as_str()[3..].to_owned())) {
            heard.push(session.next_line()?);
        }
        session.signal(Signal::SIGUSR2)?;
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

/// From the moment on in which `run` has blocked them: while it makes the namespaces, while init starts, while
/// that starts the command. A signal that got lost would leave the command running; one that nobody holds
/// back would kill `run`, where it is to end by itself, with the command's status.
#[test]
fn no_signal_is_lost_during_start() {
    for program in programs() {
        for round in 0..40 {
            let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
            // A shell starts a job in the background with INT ignored, and with it these tests.
            let path = program.path().to_string_lossy();
            let mut run = program
                .environment()
                .command("env", ["--default-signal", &path, "run", "sleep", "1000"]);
            let mut run = run.stderr(Stdio::null()).spawn().expect("start the step");
            let (pid, started) = (run.id().cast_signed(), Instant::now());
            let children = format!("/proc/{pid}/task/{pid}/children");
            // While it waits for a signal it has none blocked; but then it has a child.
            while signals_in("SigBlk", pid) & bit(signal) == 0
                && std::fs::read_to_string(&children).is_ok_and(|all| all.is_empty())
            {
                assert!(started.elapsed() < Duration::from_secs(10), "{signal} is not blocked");
            }
            // Now a little earlier, now a little later.
            let moment = Instant::now() + Duration::from_micros(round * 200);
            while Instant::now() < moment {}
            send(pid, signal);
            let (exit, end) = channel();
            std::thread::spawn(move || exit.send(run.wait()));
            let status = end.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| {
                send(pid, Signal::SIGKILL);
                panic!("{signal} after {round} times 200 microseconds is lost");
            });
            let status = status.expect("wait for the step");
            assert_eq!(status.code(), Some(128 + signal as i32), "{signal}, {round}: {status}");
        }
    }
}

#[test]
fn hundred_orphans_are_reaped_at_once() -> Result {
    // To kill(2), -1 is everybody but PID 1 and the caller.
    let line = "n=0; while [ $n -lt 100 ]; do (sleep 1000 &); n=$((n+1)); done; \
        echo ready; read go; kill -s KILL -- -1; exec cat";
    for program in programs() {
        let mut session =
            Session::ready(program.supervise(["run", "--ti", "sh", "-c", line]), "ready")?;
        let tree = session.wait_for_tree(|tree| tree.processes().len() == 3 + 100)?;
        assert_eq!(tree.root.children[0].children.len(), 1 + 100, "all are init's children");
        session.send("go\n")?;
        let tree = session.wait_for_tree(|tree| tree.processes().len() == 3)?;
        assert_eq!(zombies(&tree), 0);
        session.end()?.0.assert_clean();
    }
    Ok(())
}

/// Where `waitid` cannot say who is dead, `init` waits for anyone, and may get the command just then. Here strace
/// answers in the kernel's place, as if that had been. As root: not everybody may trace what they did not start.
#[test]
fn lost_status_exits_125_without_hanging() -> Result {
    if !require_tools(&["strace"]) {
        return Ok(());
    }
    for program in programs().into_iter().filter(|program| program.caller() == Caller::Root) {
        let line = "echo ready; read line";
        let mut session =
            Session::ready(program.supervise(["run", "--ti", "sh", "-c", line]), "ready")?;
        let init = pid_1(&session.tree()?).to_string();
        let inject = ["--trace=wait4", "--inject=wait4:error=ECHILD:when=1", "--attach", &init];
        let mut strace = program.environment().command("strace", inject);
        let mut strace = strace.stderr(Stdio::piped()).spawn().expect("start strace");
        let mut said = BufReader::new(strace.stderr.take().expect("a pipe"));
        let mut attached = String::new();
        said.read_line(&mut attached).expect("read what strace says");
        assert!(attached.contains("attached"), "{attached}");
        let ended = session.send("\n").and_then(|()| session.wait());
        strace.wait().expect("wait for strace");
        assert_eq!(ended?.0.assert_clean().status.code(), Some(125));
    }
    Ok(())
}

#[test]
fn command_gets_signal_to_group_once() -> Result {
    let trap = "trap \"echo TERM >got\" TERM; trap \"exit 7\" USR1; echo >ready; \
        sleep 1000 & while :; do wait; done";
    for program in programs() {
        let start = format!("setsid {} run sh -c '{trap}' & read ready <ready", program.name());
        let lines = [
            "mkfifo ready got",
            &start,
            "kill -TERM -$!; read got <got; echo $got; kill -USR1 $!; wait $!",
        ];
        let (said, exit) =
            Transcript::type_lines(program.environment().supervise::<&str>("sh", []), &lines)?;
        exit.assert_clean();
        assert!(said.text.ends_with("wait $!\nTERM\n[exit status 7]\n"), "{}", said.text);
    }
    Ok(())
}

/// `kill 0` is for the command's own group. Were PID 1 in it, TERM would come back for ever.
#[test]
fn kill_0_stays_in_the_commands_group() -> Result {
    for program in programs() {
        let line = "trap 'echo TERM' TERM; trap 'exit 7' URG; kill 0; sleep 10 & kill -URG 1; wait";
        let said = program.transcript(["run", "sh", "-c", line])?;
        assert_eq!(said.status.code(), Some(7));
        assert!(said.printed.ends_with("wait\nTERM\n"), "{}", said.text);
    }
    Ok(())
}

/// Whoever sends TERM means one process: its children are its own affair. INT comes from a terminal, and
/// goes to all that are in front of it.
#[test]
fn term_reaches_command_and_int_its_group() -> Result {
    let child = "trap \"echo child INT\" INT; trap \"echo child TERM\" TERM; \
        echo ready; sleep 1000 & while :; do wait; done";
    let line = format!(
        "trap 'echo command TERM' TERM; trap : INT; sh -c '{child}' & \
        while :; do wait; done"
    );
    for program in programs() {
        // Not `&` in sh, which would have the child ignore INT.
        let line = line.replacen("sh -c", "env --default-signal=INT sh -c", 1);
        let session = Session::ready(program.supervise(["run", "sh", "-c", &line]), "ready")?;
        session.signal(Signal::SIGTERM)?;
        assert_eq!(session.next_line()?, "command TERM");
        session.signal(Signal::SIGINT)?;
        assert_eq!(session.next_line()?, "child INT", "and no TERM before");
        session.signal(Signal::SIGKILL)?;
        session.wait()?.0.assert_clean();
    }
    Ok(())
}

/// All that fit in a byte, as root; every 17th for the other caller, for whom no line of the step is another.
fn every_status_is_passed_on(program: &Program, words: &[&str]) -> Result {
    let by = if program.caller() == Caller::Root { "1" } else { "17" };
    let line = "by=$1; shift; n=0; while [ $n -lt 256 ]; do \"$@\" sh -c \"exit $n\"; s=$?; \
        [ $s = $n ] || echo \"exit $n: $s\"; n=$((n+by)); done 2>/dev/null; echo \"below $n\"";
    let path = program.path().to_string_lossy();
    let args = [&["-c", line, "sh", by, &path], words].concat();
    let printed = Transcript::run(program.environment().supervise("sh", args))?.printed;
    assert_eq!(printed, if by == "1" { "below 256\n" } else { "below 272\n" });
    Ok(())
}

/// Those that end a program by default; 128+N is what a shell would say.
fn a_signal_to_pid_1_ends_the_command(program: &Program, words: &[&str]) -> Result {
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGTERM,
    ] {
        let command = [words, &["sh", "-c", "echo ready; exec sleep 1000"]].concat();
        let session = Session::ready(program.supervise(command), "ready")?;
        send(pid_1(&session.tree()?), signal);
        let (exit, _) = session.wait()?;
        let status = exit.assert_clean().shell_status();
        assert_eq!(status, 128 + signal as i32, "{signal}");
    }
    Ok(())
}

fn an_orphan_is_reaped(program: &Program, words: &[&str]) -> Result {
    let session = Session::ready(program.supervise([words, &ORPHAN[2..]].concat()), "ready")?;
    kill_the_orphan(&session)?;
    session.wait_for_tree(|tree| tree.processes().len() == 3)?;
    session.end()?.0.assert_clean();
    Ok(())
}

fn when_the_parent_is_killed_all_die(program: &Program, words: &[&str]) -> Result {
    let command = [words, &["sh", "-c", "sleep 1000 & echo ready; wait"]].concat();
    let session = Session::ready(program.supervise(command), "ready")?;
    session.signal(Signal::SIGKILL)?;
    let (exit, _) = session.wait()?;
    assert_eq!(exit.assert_clean().shell_status(), 137);
    Ok(())
}

fn a_group_of_the_commands_gets_what_the_terminal_would_send(
    program: &Program,
    words: &[&str],
) -> Result {
    // The shell waits for its child, which gets INT at the same time.
    let line = "sh -c 'trap \"echo child\" INT; echo ready; sleep 1000 & wait; wait'";
    let line = format!("trap 'exit 7' INT; {line}; exit 8");
    let command = [words, &["sh", "-c", &line]].concat();
    let session = Session::ready(program.supervise(command), "ready")?;
    send(pid_1(&session.tree()?), Signal::SIGINT);
    assert_eq!(session.next_line()?, "child");
    drop(session);
    Ok(())
}

/// What tini's own tests ask of tini.
const TINIS_LIST: [fn(&Program, &[&str]) -> Result; 5] = [
    every_status_is_passed_on,
    a_signal_to_pid_1_ends_the_command,
    an_orphan_is_reaped,
    when_the_parent_is_killed_all_die,
    a_group_of_the_commands_gets_what_the_terminal_would_send,
];

#[test]
fn passes_tinis_tests() {
    // Both callers at once: the test would be the longest by far.
    std::thread::scope(|scope| {
        for program in programs() {
            scope.spawn(move || {
                for test in TINIS_LIST {
                    test(&program, &["run", "--ti"]).expect("the instruments work");
                }
            });
        }
    });
}

/// With step 03 to make the namespaces, and tini (`-g`, to send to the whole group) as PID 1. One caller is
/// enough: tini does not know who made its namespace.
#[test]
fn tini_passes_the_same_tests() -> Result {
    if !Requirement::Tool("tini").is_met_or_skip() {
        return Ok(());
    }
    for program in step_03().into_iter().take(1) {
        for test in TINIS_LIST {
            test(&program, &["run", "--ti", "tini", "-g", "--"])?;
        }
    }
    Ok(())
}

/// Who reads what the command writes sees the end when the command has closed its own file, and not
/// when `run` and init end.
#[test]
fn pipe_closed_by_command_is_closed() -> Result {
    for program in programs() {
        let run = format!(
            "{} run sh -c 'echo words; exec >&- 8>&-; exec sleep 1000' 2>/dev/null >out 8>&1 &",
            program.name()
        );
        let lines = ["mkfifo out", &run, "cat out", "kill $!; wait $!"];
        let (said, exit) =
            Transcript::type_lines(program.environment().supervise::<&str>("sh", []), &lines)?;
        exit.assert_clean();
        assert!(said.text.contains("$ cat out\nwords\n$ kill"), "{}", said.text);
        assert!(said.text.ends_with("\n[exit status 143]\n"), "{}", said.text);
    }
    Ok(())
}

#[test]
fn run_and_init_close_inherited_files() -> Result {
    for program in programs() {
        let line = "exec 7</etc 8>&1; exec \"$0\" run --ti sh";
        let path = program.path().to_string_lossy().into_owned();
        let mut shell = Session::start(program.environment().supervise("sh", ["-c", line, &path]))?;
        assert_eq!(shell.run("readlink /proc/self/fd/7")?, "/etc", "the command has it");
        let tree = shell.tree()?;
        let [run, init, _] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        // They close them while the command starts, so the shell may be faster.
        let open_files = |pid: i32| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            let mut files: Vec<_> = entries
                .filter_map(|file| {
                    let file = file.ok()?;
                    let to = std::fs::read_link(file.path()).ok()?;
                    Some(format!("{} {}", file.file_name().display(), to.display()))
                })
                .collect();
            files.sort();
            files
        };
        let closed = ["0 /dev/null", "1 /dev/null", "2 /dev/null"];
        let both = [run.pids[0], init.pids[0]];
        shell.wait_for_tree(|_| both.iter().all(|pid| open_files(*pid) == closed))?;
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn reports_ignored_sigchld() {
    for program in programs() {
        let path = program.path().to_string_lossy().into_owned();
        let ignoring = |words: &[&str]| {
            // Without the look, it would wait for ever.
            let args = [&["20", "env", "--ignore-signal=CHLD"], words].concat();
            program.environment().command("timeout", args).assert()
        };
        let hint = "run: SIGCHLD is ignored\nhint: start it through `env --default-signal=CHLD`\n";
        let refused = ignoring(&[&path, "run", "true"]).code(125);
        refused.stderr(predicates::str::ends_with(hint));
        let exit_7 = ["run", "sh", "-c", "exit 7"];
        ignoring(&[&["env", "--default-signal=CHLD", &path], &exit_7[..]].concat()).code(7);
    }
}

/// The calls that are new since step 03. PID 2 is made, and all three are busy at the same time: so it is
/// one process after the other.
#[test]
fn makes_the_calls_of_the_lesson() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|setpgid|rt_sigtimedwait|waitid|wait4|exit_group)\(",
        // The library blocks others for a moment, while it makes a child.
        r"^rt_sigprocmask\(SIG_(UN)?BLOCK, \[HUP INT ",
    ];
    for program in programs() {
        if !require_tools(&["strace"]) {
            return Ok(());
        }
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let calls = trace.by_process()?.map(|calls: Vec<&str>| {
            let names = calls.into_iter().filter_map(|call| call.split('(').next());
            names.map(|name| if name.starts_with("clone") { "clone" } else { name }).collect()
        });
        let [run, init, command]: [Vec<_>; 3] = calls;
        let waits = ["rt_sigtimedwait", "wait4", "exit_group"];
        assert_eq!(run, [&["execve", "rt_sigprocmask", "clone"], &waits[..]].concat());
        let looks_first = ["rt_sigtimedwait", "waitid", "wait4", "exit_group"];
        assert_eq!(init, [&["setpgid", "execve", "clone"], &looks_first[..]].concat());
        assert_eq!(command, ["execve", "setpgid", "rt_sigprocmask", "execve", "exit_group"]);
        let text = trace.grouped_by_process().redacted()?;
        assert_snapshot!("trace", text);
    }
    Ok(())
}

/// Of bash, outside and inside.
const PROMPT: &str = "what next? ";

/// A bash of a terminal's own, as a terminal emulator starts it, with the step in its PATH.
fn bash(program: &Program) -> Result<Terminal> {
    let watch = program
        .environment()
        .supervise("bash", ["--norc", "--noediting", "-i"])
        .env("PS1", "what next? ");
    let mut terminal = Terminal::start(watch)?;
    terminal.expect(PROMPT)?;
    Ok(terminal)
}

/// Waits until the program is in the foreground of its terminal, where keys reach it, and sleeps.
fn in_front(terminal: &Terminal, program: &str) -> Result {
    terminal.wait_for_tree(|tree| {
        let sleeps = |process: &&&Process| {
            process.argv.first().is_some_and(|word| word == program) && process.state == 'S'
        };
        let all = tree.processes();
        let Some(process) = all.iter().find(sleeps) else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pids[0]));
        // After the name: state, parent, group, session, terminal, the group in its foreground.
        let stat = stat.unwrap_or_default();
        let fields: Vec<_> = stat.split(") ").last().unwrap_or_default().split(' ').collect();
        fields.len() > 5 && fields[2] == fields[5]
    })?;
    Ok(())
}

#[test]
fn ctrl_c_reaches_the_command_once() -> Result {
    let count = "trap 'echo INT' INT; trap 'exit 7' USR1; sleep 1000 & echo ready; \
        while :; do wait; done";
    for program in programs() {
        for words in [&["run"] as &[&str], &["run", "--ti"]] {
            let words = [words, &["sh", "-c", count]].concat();
            let mut terminal = program.terminal(words)?;
            terminal.expect("ready\r\n")?;
            terminal.send_keys("\u{3}")?;
            terminal.expect("INT\r\n")?;
            send(terminal.pid(), Signal::SIGUSR1);
            let (exit, rest) = terminal.end()?;
            assert_eq!((exit.assert_clean().status.code(), rest.as_str()), (Some(7), ""));
        }
    }
    Ok(())
}

#[test]
fn ctrl_z_stops_and_fg_resumes_the_command() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    for program in programs() {
        for ti in ["", "--ti "] {
            let mut terminal = bash(&program)?;
            let name = program.name();
            let count = "echo ready; sleep 1000; echo over";
            terminal.send_keys(&format!("{name} run {ti}sh -c '{count}'\r"))?;
            terminal.expect("\nready\r\n")?;
            let states = |tree: &ProcessTree| {
                let mut all: Vec<_> = tree.processes()[1..].iter().map(|p| p.state).collect();
                all.remove(1);
                all
            };
            // With --ti the terminal is the command's; without, `run` keeps it.
            let front = if ti.is_empty() { program.name() } else { "sleep" };
            in_front(&terminal, front)?;
            terminal.wait_for_tree(|tree| states(tree) == ['S', 'S', 'S'])?;
            let run = terminal.tree()?.root.children[0].pids[0];
            for resumed in ["at once", "by way of the background"] {
                terminal.send_keys("\u{1a}")?;
                terminal.expect("Stopped")?;
                terminal.expect(PROMPT)?;
                // All but init: nothing stops PID 1.
                let stopped = |tree: &ProcessTree| states(tree) == ['T', 'T', 'T'];
                assert_eq!(terminal.wait_for_tree(stopped)?.root.children[0].pids[0], run);
                // The shell has the terminal, and does what it is told.
                terminal.send_keys("echo $((6*7))\r")?;
                terminal.expect("\n42\r\n")?;
                terminal.expect(PROMPT)?;
                if resumed != "at once" {
                    terminal.send_keys("bg\r")?;
                    terminal.expect(PROMPT)?;
                    terminal.wait_for_tree(|tree| states(tree) == ['S', 'S', 'S'])?;
                }
                terminal.send_keys("fg\r")?;
                terminal.expect("echo over'\r\n")?;
                // When a job that runs already is put in front, bash sends it no signal: `run` has not
                // been told, and keeps the terminal until CONT comes. Keys reach the command all the same.
                in_front(&terminal, if resumed == "at once" { front } else { program.name() })?;
                terminal.wait_for_tree(|tree| states(tree) == ['S', 'S', 'S'])?;
            }
            // And Ctrl-C reaches it as before.
            terminal.send_keys("\u{3}")?;
            terminal.expect(PROMPT)?;
            terminal.send_keys("echo status $?\r")?;
            terminal.expect("\nstatus 130\r\n")?;
            terminal.send_keys("exit\r")?;
            terminal.end()?.0.assert_clean();
        }
    }
    Ok(())
}

/// Its group is not the one in front. What Ctrl-C sends is forwarded to it, and is there when it goes on.
#[test]
fn without_ti_reading_the_terminal_stops() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    for program in programs() {
        let mut terminal = bash(&program)?;
        let line = "echo ready; read line </dev/tty";
        terminal.send_keys(&format!("{} run sh -c '{line}'\r", program.name()))?;
        terminal.expect("\nready\r\n")?;
        let stopped = |tree: &ProcessTree| tree.processes().last().expect("it").state == 'T';
        let tree = terminal.wait_for_tree(stopped)?;
        let [_, _, _, command] = tree.processes()[..] else { panic!("not four: {}", tree.text()) };
        terminal.send_keys("\u{3}")?;
        let pending = || signals_in("ShdPnd", command.pids[0]) & bit(Signal::SIGINT) != 0;
        terminal.wait_for_tree(|_| pending())?;
        send(command.pids[0], Signal::SIGCONT);
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo status $?; exit\r")?;
        terminal.expect("\nstatus 130\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// `fg` sends CONT to our whole group. Were the command to go on before `run` has given it the terminal,
/// a shell would find itself in the background, and end.
#[test]
fn command_resumes_only_with_the_terminal() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    for program in programs() {
        let mut terminal = bash(&program)?;
        terminal.send_keys(&format!("{} run --ti sleep 1000\r", program.name()))?;
        in_front(&terminal, "sleep")?;
        terminal.send_keys("\u{1a}")?;
        terminal.expect("Stopped")?;
        terminal.expect(PROMPT)?;
        let tree = terminal.tree()?;
        let [_, _, init, sleep] = tree.processes()[..] else { panic!("not four") };
        send(init.pids[0], Signal::SIGCONT);
        // Init takes the lower number first: when PROF has come through, so has CONT.
        send(init.pids[0], Signal::SIGPROF);
        let pending = || signals_in("ShdPnd", sleep.pids[0]) & bit(Signal::SIGPROF) != 0;
        terminal.wait_for_tree(|tree| pending() || tree.processes().len() < 4)?;
        assert!(pending(), "it has gone on, and got PROF");
        terminal.send_keys("fg\r")?;
        terminal.expect("run --ti sleep 1000\r\n")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo status $?; exit\r")?;
        terminal.expect(&format!("\nstatus {}\r\n", 128 + Signal::SIGPROF as i32))?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn inner_bash_has_job_control() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    for program in programs() {
        let mut terminal = bash(&program)?;
        terminal.send_keys(&format!("{} run --ti bash --norc --noediting\r", program.name()))?;
        let greeting = terminal.expect(PROMPT)?;
        assert!(!greeting.contains("job control"), "{greeting}");
        assert!(!greeting.contains("process group"), "{greeting}");
        terminal.send_keys("sleep 1000\r")?;
        in_front(&terminal, "sleep")?;
        terminal.send_keys("\u{1a}")?;
        terminal.expect("Stopped")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("fg\r")?;
        terminal.expect("\nsleep 1000\r\n")?;
        in_front(&terminal, "sleep")?;
        terminal.send_keys("\u{3}")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo status $?; suspend\r")?;
        terminal.expect("\nstatus 130\r\n")?;
        terminal.expect("Stopped")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("fg\r")?;
        terminal.expect("run --ti bash --norc --noediting\r\n")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo $$ $PPID\r")?;
        terminal.expect("\n2 1\r\n")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("exit 7\r")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo status $?\r")?;
        terminal.expect("\nstatus 7\r\n")?;
        terminal.send_keys("exit\r")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// A shell without job control does not look after its terminal. It finds it as it was.
#[test]
fn terminal_is_given_back_on_exit() -> Result {
    for program in programs() {
        let line = "\"$0\" run --ti true; read line; echo \"got $line\"";
        let path = program.path().to_string_lossy().into_owned();
        let mut terminal =
            Terminal::start(program.environment().supervise("sh", ["-c", line, &path]))?;
        terminal.send_keys("input\r")?;
        terminal.expect("\ngot input\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// A terminal whose only shell is `run` itself, as in a terminal emulator's -e: there is nobody to say `fg`.
/// The kernel stops no process of such a group; and what it does stop is made to go on.
#[test]
fn orphaned_process_group_ignores_ctrl_z() -> Result {
    for program in programs() {
        for ti in [&["run"] as &[&str], &["run", "--ti"]] {
            let line = "trap 'echo CONT' CONT; echo ready; sleep 1000 & while :; do wait; done";
            let mut terminal = program.terminal([ti, &["sh", "-c", line]].concat())?;
            terminal.expect("ready\r\n")?;
            terminal.send_keys("\u{1a}")?;
            terminal.expect("CONT\r\n")?;
            terminal.wait_for_tree(|tree| tree.processes().iter().all(|it| it.state != 'T'))?;
            terminal.send_keys("\u{1c}")?;
            assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 131);
        }
    }
    Ok(())
}
