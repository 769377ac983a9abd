//! Step 04: an init that stays PID 1, and does for the command what PID 1 owes: it reaps, it forwards
//! signals, and it ends as the command ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use insta::assert_snapshot;
use lab::{
    Ability, Caller, ProcessTree, Session, Step, Terminal, Transcript, callers, snapshots, tools,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn step() -> &'static Path {
    cargo_bin!("04-reap-and-forward")
}

/// The step before, in which PID 1 is the command.
fn step_03() -> Vec<Step> {
    callers(lab::build("step-03-proc-mount", "03-proc-mount").expect("build step 03"))
}

lab::contract_tests!(step());
lab::refusal_tests!(step());

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
fn kill_the_orphan(session: &Session) {
    let named = |tree: &ProcessTree, name: &str| {
        let all = tree.processes();
        all.iter()
            .find(|process| process.argv.first().is_some_and(|word| word == name))
            .copied()
            .cloned()
    };
    let both = |tree: &ProcessTree| named(tree, "cat").is_some() && named(tree, "sleep").is_some();
    let tree = session.tree_when(both);
    send(named(&tree, "sleep").expect("it is there").pids[0], Signal::SIGKILL);
}

#[test]
fn in_step_03_a_dead_orphan_stays_a_zombie() {
    for step in step_03() {
        let session = Session::ready(step.watch(ORPHAN), "ready");
        kill_the_orphan(&session);
        let tree = session.tree_when(|tree| zombies(tree) > 0);
        let [_, cat, sleep] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!((cat.pids[1], sleep.title().as_str()), (1, "[sleep] (zombie)"));
        session.end().0.nothing_left();
        snapshots(|| assert_snapshot!("pain_zombie_tree", tree.renamed()));
    }
}

#[test]
fn init_reaps_a_dead_orphan_while_the_command_runs_on() {
    for step in callers(step()) {
        let session = Session::ready(step.watch(ORPHAN), "ready");
        kill_the_orphan(&session);
        let tree = session.tree_when(|tree| tree.processes().len() == 3);
        let [_, init, cat] = tree.processes()[..] else { unreachable!() };
        assert_eq!((init.pids[1], cat.pids[1], cat.argv[0].as_str()), (1, 2, "cat"));
        session.end().0.nothing_left();
        snapshots(|| assert_snapshot!("reaped_tree", tree.renamed()));
    }
}

/// exec against spawn once more, inside: step 03's PID 1 was the shell; here init stays.
#[test]
fn init_stays_pid_1_and_the_command_is_its_child() {
    for step in callers(step()) {
        let mut shell = step.session(["run", "--ti", "/bin/sh"]);
        let tree = shell.tree();
        let [run, init, command] = tree.processes()[..] else { panic!("not three") };
        assert_eq!((init.pids[1], command.pids[1]), (1, 2));
        assert_eq!(run.children[0].children[0].argv, ["/bin/sh"]);
        assert_eq!(shell.ask("echo $$ $PPID"), "2 1");
        shell.end().0.nothing_left();
        let before = tree.before(["04-reap-and-forward", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        snapshots(|| {
            assert_snapshot!("exec_vs_spawn_inside", tree.renamed());
            let caption = "run, PID 1 that stays, and the command below it";
            assert_snapshot!("picture", lab::picture(caption, &moments));
        });
    }
}

/// A command that says when it is ready, and does not become another program after that: `ps` could see the one
/// or the other.
const WAITS: &str = "echo >ready; sleep 1000 & wait";

/// The same three questions to a step: TERM to PID 1 from inside; TERM to PID 1 from outside; TERM to
/// `run`, when the command would clean up. `after` is what to type after the second.
fn signals(step: &Step, after: &[&str]) -> Transcript {
    let name = step.name();
    let inside = format!("{name} run sh -c 'kill -TERM $$; echo still here'");
    let deaf = format!("{name} run sh -c '{WAITS}' & read ready <ready; run=$!");
    let trap = "trap \"echo cleaned up; exit 42\" TERM";
    let tidy = format!("{name} run sh -c '{trap}; {WAITS}' & read ready <ready");
    let mut lines = vec![inside.as_str(), "mkfifo ready", &deaf];
    lines.extend(["init=$(ps -o pid= --ppid $run)", "kill -TERM $init"]);
    lines.extend(after);
    lines.extend(["wait $run", &tidy, "kill -TERM $!; wait $! 2>/dev/null"]);
    let (transcript, ended) = Transcript::typed(step.watch_other::<&str>("sh", []), &lines);
    ended.nothing_left();
    transcript
}

#[test]
fn in_step_03_pid_1_is_deaf_and_the_command_cannot_clean_up() {
    if !tools(&["ps"]) {
        return;
    }
    for step in step_03() {
        let deaf = signals(&step, &["ps -o args= -p $init", "kill -KILL $init"]);
        assert!(deaf.text.contains("\nstill here\n"), "from inside: {}", deaf.text);
        let still_there = format!("-p $init\nsh -c {WAITS}\n");
        assert!(deaf.text.contains(&still_there), "from outside: {}", deaf.text);
        assert!(deaf.text.contains("wait $run\n[exit status 137]\n"), "{}", deaf.text);
        assert!(!deaf.text.contains("\ncleaned up\n"), "run: {}", deaf.text);
        snapshots(|| assert_snapshot!("pain_deaf", deaf.renamed(&[r"run PID: (\d+)"])));
    }
}

#[test]
fn here_the_command_gets_the_signals_and_the_status_is_its_own() {
    if !tools(&["ps"]) {
        return;
    }
    for step in callers(step()) {
        let heard = signals(&step, &[]);
        assert!(!heard.text.contains("\nstill here\n"), "from inside: {}", heard.text);
        assert!(heard.text.contains("wait $run\n[exit status 143]\n"), "outside: {}", heard.text);
        assert!(heard.text.ends_with("\ncleaned up\n[exit status 42]\n"), "run: {}", heard.text);
        snapshots(|| assert_snapshot!("signals", heard.renamed(&[r"run PID: (\d+)"])));
    }
}

/// TERM to PID 1 from the command, which goes on unless it gets that signal itself.
const TERM_TO_PID_1: [&str; 4] = ["run", "sh", "-c", "kill -TERM 1; sleep 10; echo still here"];

#[test]
fn in_step_03_a_command_that_sends_term_to_pid_1_goes_on() {
    for step in step_03() {
        let dropped = step.transcript(["run", "sh", "-c", "kill -TERM 1; echo still here"]);
        assert_eq!(dropped.status.code(), Some(0));
        assert!(dropped.printed.ends_with("\nstill here\n"), "{}", dropped.text);
        let text = dropped.renamed(&[r"run PID: (\d+)"]);
        snapshots(|| assert_snapshot!("pain_term_to_pid_1", text));
    }
}

#[test]
fn here_a_command_that_sends_term_to_pid_1_gets_it_back() {
    for step in callers(step()) {
        let forwarded = step.transcript(TERM_TO_PID_1);
        assert_eq!(forwarded.status.code(), Some(128 + Signal::SIGTERM as i32));
        let text = forwarded.renamed(&[r"run PID: (\d+)"]);
        assert!(!text.contains("\nstill here\n"), "{text}");
        snapshots(|| assert_snapshot!("term_to_pid_1", text));
    }
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
fn heard(session: &Session) -> String {
    loop {
        let line = session.line();
        if line != "CONT" {
            return line;
        }
    }
}

/// `run` has got TSTP. It forwards it, and stops, until CONT comes. Where nobody could send that, the kernel does
/// not stop it, and it goes on by itself; then its CONT can make the kernel forget the TSTP that `init` has not
/// taken yet.
fn it_stops_and_goes_on(session: &Session) {
    let (mut said, mut stopped) = (false, false);
    for _ in 0..300 {
        match session.line_within(Duration::from_millis(100)).as_deref() {
            Some("TSTP") => said = true,
            Some(line) => {
                assert_eq!(line, "CONT");
                assert!(said || !stopped, "TSTP sent to run");
                return;
            }
            None if session.tree().root.state == 'T' => {
                stopped = true;
                session.signal(Signal::SIGCONT);
            }
            None => {}
        }
    }
    panic!("no CONT; stopped: {stopped}");
}

#[test]
fn every_signal_that_can_be_caught_is_forwarded_from_run_and_from_init() {
    for step in callers(step()) {
        let session = Session::ready(step.watch(["run", "sh", "-c", &listener()]), "ready");
        let init = pid_1(&session.tree());
        for signal in catchable() {
            let name = &signal.as_str()[3..];
            if signal != Signal::SIGUSR2 {
                send(init, signal);
                assert_eq!(heard(&session), name, "sent to init");
            }
            session.signal(signal);
            if signal == Signal::SIGTSTP {
                it_stops_and_goes_on(&session);
            } else {
                assert_eq!(heard(&session), name, "sent to run");
            }
        }
        let (ended, _) = session.wait();
        assert_eq!(ended.nothing_left().status.code(), Some(42));
    }
}

/// While `run` and init are stopped they can do nothing; afterwards they catch up.
#[test]
fn what_arrives_while_init_is_busy_is_still_forwarded() {
    for step in callers(step()) {
        let session = Session::ready(step.watch(["run", "sh", "-c", &listener()]), "ready");
        let init = pid_1(&session.tree());
        for pid in [session.pid(), init] {
            send(pid, Signal::SIGSTOP);
            session.tree_when(|tree| {
                let stopped = |process: &&&lab::Process| process.state == 'T';
                let all = tree.processes();
                all.iter().filter(stopped).any(|process| process.pids[0] == pid)
            });
        }
        let all = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1];
        let all = [&all[..], &[Signal::SIGALRM, Signal::SIGTERM, Signal::SIGWINCH]].concat();
        for signal in &all {
            session.signal(*signal);
        }
        send(init, Signal::SIGCONT);
        session.signal(Signal::SIGCONT);
        let mut heard = Vec::new();
        while !all.iter().all(|signal| heard.contains(&signal.as_str()[3..].to_owned())) {
            heard.push(session.line());
        }
        session.signal(Signal::SIGUSR2);
        let (ended, _) = session.wait();
        assert_eq!(ended.nothing_left().status.code(), Some(42));
    }
}

/// From the moment on in which `run` has blocked them: while it makes the namespaces, while init starts, while
/// that starts the command. A signal that got lost would leave the command running; one that nobody holds
/// back would kill `run`, where it is to end by itself, with the command's status.
#[test]
fn no_signal_is_lost_while_the_container_starts() {
    for step in callers(step()) {
        for round in 0..40 {
            let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
            // A shell starts a job in the background with INT ignored, and with it these tests.
            let program = step.path().to_string_lossy();
            let mut run = step.other("env", ["--default-signal", &program, "run", "sleep", "1000"]);
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
            let (ended, end) = channel();
            std::thread::spawn(move || ended.send(run.wait()));
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
fn a_hundred_children_that_die_at_once_are_all_reaped() {
    // To kill(2), -1 is everybody but PID 1 and the caller.
    let line = "n=0; while [ $n -lt 100 ]; do (sleep 1000 &); n=$((n+1)); done; \
        echo ready; read go; kill -s KILL -- -1; exec cat";
    for step in callers(step()) {
        let mut session = Session::ready(step.watch(["run", "--ti", "sh", "-c", line]), "ready");
        let tree = session.tree_when(|tree| tree.processes().len() == 3 + 100);
        assert_eq!(tree.root.children[0].children.len(), 1 + 100, "all are init's children");
        session.tell("go\n");
        let tree = session.tree_when(|tree| tree.processes().len() == 3);
        assert_eq!(zombies(&tree), 0);
        session.end().0.nothing_left();
    }
}

/// Where `waitid` cannot say who is dead, `init` waits for anyone, and may get the command just then. Here strace
/// answers in the kernel's place, as if that had been. As root: not everybody may trace what they did not start.
#[test]
fn where_the_status_is_lost_it_is_125_and_no_waiting() {
    if !tools(&["strace"]) {
        return;
    }
    for step in callers(step()).into_iter().filter(|step| step.caller() == Caller::Root) {
        let line = "echo ready; read line";
        let mut session = Session::ready(step.watch(["run", "--ti", "sh", "-c", line]), "ready");
        let init = pid_1(&session.tree()).to_string();
        let inject = ["--trace=wait4", "--inject=wait4:error=ECHILD:when=1", "--attach", &init];
        let mut strace = step.other("strace", inject);
        let mut strace = strace.stderr(Stdio::piped()).spawn().expect("start strace");
        let mut said = BufReader::new(strace.stderr.take().expect("a pipe"));
        let mut attached = String::new();
        said.read_line(&mut attached).expect("read what strace says");
        assert!(attached.contains("attached"), "{attached}");
        session.tell("\n");
        let (ended, _) = session.wait();
        assert_eq!(ended.nothing_left().status.code(), Some(125));
        strace.wait().expect("wait for strace");
    }
}

#[test]
fn the_whole_group_gets_term_and_the_command_gets_it_once() {
    let trap = "trap \"echo TERM >got\" TERM; trap \"exit 7\" USR1; echo >ready; \
        sleep 1000 & while :; do wait; done";
    for step in callers(step()) {
        let start = format!("setsid {} run sh -c '{trap}' & read ready <ready", step.name());
        let lines = [
            "mkfifo ready got",
            &start,
            "kill -TERM -$!; read got <got; echo $got; kill -USR1 $!; wait $!",
        ];
        let (said, ended) = Transcript::typed(step.watch_other::<&str>("sh", []), &lines);
        ended.nothing_left();
        assert!(said.text.ends_with("wait $!\nTERM\n[exit status 7]\n"), "{}", said.text);
    }
}

/// `kill 0` is for the command's own group. Were PID 1 in it, TERM would come back for ever.
#[test]
fn kill_0_stays_in_the_commands_group() {
    for step in callers(step()) {
        let line = "trap 'echo TERM' TERM; trap 'exit 7' URG; kill 0; sleep 10 & kill -URG 1; wait";
        let said = step.transcript(["run", "sh", "-c", line]);
        assert_eq!(said.status.code(), Some(7));
        assert!(said.printed.ends_with("wait\nTERM\n"), "{}", said.text);
    }
}

/// Whoever sends TERM means one process: its children are its own affair. INT comes from a terminal, and
/// goes to all that are in front of it.
#[test]
fn term_goes_to_the_command_and_int_to_its_children_too() {
    let child = "trap \"echo child INT\" INT; trap \"echo child TERM\" TERM; \
        echo ready; sleep 1000 & while :; do wait; done";
    let line = format!(
        "trap 'echo command TERM' TERM; trap : INT; sh -c '{child}' & \
        while :; do wait; done"
    );
    for step in callers(step()) {
        // Not `&` in sh, which would have the child ignore INT.
        let line = line.replacen("sh -c", "env --default-signal=INT sh -c", 1);
        let session = Session::ready(step.watch(["run", "sh", "-c", &line]), "ready");
        session.signal(Signal::SIGTERM);
        assert_eq!(session.line(), "command TERM");
        session.signal(Signal::SIGINT);
        assert_eq!(session.line(), "child INT", "and no TERM before");
        session.signal(Signal::SIGKILL);
        session.wait().0.nothing_left();
    }
}

/// All that fit in a byte, as root; every 17th for the other caller, for whom no line of the step is another.
fn every_status_is_passed_on(step: &Step, words: &[&str]) {
    let by = if step.caller() == Caller::Root { "1" } else { "17" };
    let line = "by=$1; shift; n=0; while [ $n -lt 256 ]; do \"$@\" sh -c \"exit $n\"; s=$?; \
        [ $s = $n ] || echo \"exit $n: $s\"; n=$((n+by)); done 2>/dev/null; echo \"below $n\"";
    let program = step.path().to_string_lossy();
    let args = [&["-c", line, "sh", by, &program], words].concat();
    let printed = Transcript::of(step.watch_other("sh", args)).printed;
    assert_eq!(printed, if by == "1" { "below 256\n" } else { "below 272\n" });
}

/// Those that end a program by default; 128+N is what a shell would say.
fn a_signal_to_pid_1_ends_the_command(step: &Step, words: &[&str]) {
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
        let session = Session::ready(step.watch(command), "ready");
        send(pid_1(&session.tree()), signal);
        let (ended, _) = session.wait();
        let status = lab::contract::shell_status(ended.nothing_left().status);
        assert_eq!(status, 128 + signal as i32, "{signal}");
    }
}

fn an_orphan_is_reaped(step: &Step, words: &[&str]) {
    let session = Session::ready(step.watch([words, &ORPHAN[2..]].concat()), "ready");
    kill_the_orphan(&session);
    session.tree_when(|tree| tree.processes().len() == 3);
    session.end().0.nothing_left();
}

fn when_the_parent_is_killed_all_die(step: &Step, words: &[&str]) {
    let command = [words, &["sh", "-c", "sleep 1000 & echo ready; wait"]].concat();
    let session = Session::ready(step.watch(command), "ready");
    session.signal(Signal::SIGKILL);
    let (ended, _) = session.wait();
    assert_eq!(lab::contract::shell_status(ended.nothing_left().status), 137);
}

fn a_group_of_the_commands_gets_what_the_terminal_would_send(step: &Step, words: &[&str]) {
    // The shell waits for its child, which gets INT at the same time.
    let line = "sh -c 'trap \"echo child\" INT; echo ready; sleep 1000 & wait; wait'";
    let line = format!("trap 'exit 7' INT; {line}; exit 8");
    let command = [words, &["sh", "-c", &line]].concat();
    let session = Session::ready(step.watch(command), "ready");
    send(pid_1(&session.tree()), Signal::SIGINT);
    assert_eq!(session.line(), "child");
    drop(session);
}

/// What tini's own tests ask of tini.
const TINIS_LIST: [fn(&Step, &[&str]); 5] = [
    every_status_is_passed_on,
    a_signal_to_pid_1_ends_the_command,
    an_orphan_is_reaped,
    when_the_parent_is_killed_all_die,
    a_group_of_the_commands_gets_what_the_terminal_would_send,
];

#[test]
fn tinis_tests_pass_on_this_step() {
    // Both callers at once: the test would be the longest by far.
    std::thread::scope(|scope| {
        for step in callers(step()) {
            scope.spawn(move || TINIS_LIST.iter().for_each(|test| test(&step, &["run", "--ti"])));
        }
    });
}

/// With step 03 to make the namespaces, and tini (`-g`, to send to the whole group) as PID 1. One caller is
/// enough: tini does not know who made its namespace.
#[test]
fn tinis_tests_pass_on_tini() {
    if !Ability::Tool("tini").or_report() {
        return;
    }
    for step in step_03().into_iter().take(1) {
        for test in TINIS_LIST {
            test(&step, &["run", "--ti", "tini", "-g", "--"]);
        }
    }
}

/// Who reads what the command writes sees the end when the command has closed its own file, and not
/// when `run` and init end.
#[test]
fn a_pipe_that_the_command_has_closed_is_closed() {
    for step in callers(step()) {
        let run = format!(
            "{} run sh -c 'echo words; exec >&- 8>&-; exec sleep 1000' 2>/dev/null >out 8>&1 &",
            step.name()
        );
        let lines = ["mkfifo out", &run, "cat out", "kill $!; wait $!"];
        let (said, ended) = Transcript::typed(step.watch_other::<&str>("sh", []), &lines);
        ended.nothing_left();
        assert!(said.text.contains("$ cat out\nwords\n$ kill"), "{}", said.text);
        assert!(said.text.ends_with("\n[exit status 143]\n"), "{}", said.text);
    }
}

#[test]
fn run_and_init_keep_no_file_of_the_commands_open() {
    for step in callers(step()) {
        let line = "exec 7</etc 8>&1; exec \"$0\" run --ti sh";
        let program = step.path().to_string_lossy().into_owned();
        let mut shell = Session::start(step.watch_other("sh", ["-c", line, &program]));
        assert_eq!(shell.ask("readlink /proc/self/fd/7"), "/etc", "the command has it");
        let tree = shell.tree();
        let [run, init, _] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        for process in [run, init] {
            let directory = format!("/proc/{}/fd", process.pids[0]);
            let mut files = Vec::new();
            for file in std::fs::read_dir(directory).expect("its open files") {
                let file = file.expect("an open file").path();
                let to = std::fs::read_link(&file).expect("what it is");
                files.push(format!("{} {}", file.file_name().unwrap().display(), to.display()));
            }
            files.sort();
            assert_eq!(files, ["0 /dev/null", "1 /dev/null", "2 /dev/null"]);
        }
        shell.end().0.nothing_left();
    }
}

#[test]
fn where_sigchld_is_ignored_it_says_so() {
    for step in callers(step()) {
        let program = step.path().to_string_lossy().into_owned();
        let ignoring = |words: &[&str]| {
            // Without the look, it would wait for ever.
            let args = [&["20", "env", "--ignore-signal=CHLD"], words].concat();
            step.other("timeout", args).assert()
        };
        let hint = "run: SIGCHLD is ignored\nhint: start it through `env --default-signal=CHLD`\n";
        let refused = ignoring(&[&program, "run", "true"]).code(125);
        refused.stderr(predicates::str::ends_with(hint));
        let exit_7 = ["run", "sh", "-c", "exit 7"];
        ignoring(&[&["env", "--default-signal=CHLD", &program], &exit_7[..]].concat()).code(7);
    }
}

/// The calls that are new since step 03. PID 2 is made, and all three are busy at the same time: so it is
/// one process after the other.
#[test]
fn the_calls_are_those_of_the_lesson() {
    let lesson = [
        r"^(execve|clone3?|v?fork|setpgid|rt_sigtimedwait|waitid|wait4|exit_group)\(",
        // The library blocks others for a moment, while it makes a child.
        r"^rt_sigprocmask\(SIG_(UN)?BLOCK, \[HUP INT ",
    ];
    for step in callers(step()) {
        let Some(trace) = step.trace(&["run", "/bin/true"], &lesson) else { return };
        let calls = trace.by_process().map(|calls: Vec<&str>| {
            let names = calls.into_iter().filter_map(|call| call.split('(').next());
            names.map(|name| if name.starts_with("clone") { "clone" } else { name }).collect()
        });
        let [run, init, command]: [Vec<_>; 3] = calls;
        let waits = ["rt_sigtimedwait", "wait4", "exit_group"];
        assert_eq!(run, [&["execve", "rt_sigprocmask", "clone"], &waits[..]].concat());
        let looks_first = ["rt_sigtimedwait", "waitid", "wait4", "exit_group"];
        assert_eq!(init, [&["setpgid", "execve", "clone"], &looks_first[..]].concat());
        assert_eq!(command, ["execve", "setpgid", "rt_sigprocmask", "execve", "exit_group"]);
        let text = trace.process_after_process().renamed();
        snapshots(|| assert_snapshot!("trace", text));
    }
}

/// Of bash, outside and inside.
const PROMPT: &str = "what next? ";

/// A bash of a terminal's own, as a terminal emulator starts it, with the step in its PATH.
fn bash(step: &Step) -> Terminal {
    let watch = step.watch_other("bash", ["--norc", "--noediting", "-i"]).env("PS1", "what next? ");
    let mut terminal = Terminal::start(watch);
    terminal.wait_for(PROMPT);
    terminal
}

/// Waits until the program is in the foreground of its terminal, where keys reach it, and sleeps.
fn in_front(terminal: &Terminal, program: &str) {
    terminal.tree_when(|tree| {
        let sleeps = |process: &&&lab::Process| {
            process.argv.first().is_some_and(|word| word == program) && process.state == 'S'
        };
        let all = tree.processes();
        let Some(process) = all.iter().find(sleeps) else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pids[0]));
        // After the name: state, parent, group, session, terminal, the group in its foreground.
        let stat = stat.unwrap_or_default();
        let fields: Vec<_> = stat.split(") ").last().unwrap_or_default().split(' ').collect();
        fields.len() > 5 && fields[2] == fields[5]
    });
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let count = "trap 'echo INT' INT; trap 'exit 7' USR1; sleep 1000 & echo ready; \
        while :; do wait; done";
    for step in callers(step()) {
        for words in [&["run"] as &[&str], &["run", "--ti"]] {
            let words = [words, &["sh", "-c", count]].concat();
            let mut terminal = step.terminal(words);
            terminal.wait_for("ready\r\n");
            terminal.press("\u{3}");
            terminal.wait_for("INT\r\n");
            send(terminal.pid(), Signal::SIGUSR1);
            let (ended, rest) = terminal.end();
            assert_eq!((ended.nothing_left().status.code(), rest.as_str()), (Some(7), ""));
        }
    }
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_fg_the_command() {
    if !tools(&["bash"]) {
        return;
    }
    for step in callers(step()) {
        for ti in ["", "--ti "] {
            let mut terminal = bash(&step);
            let name = step.name();
            let count = "echo ready; sleep 1000; echo over";
            terminal.press(&format!("{name} run {ti}sh -c '{count}'\r"));
            terminal.wait_for("\nready\r\n");
            let states = |tree: &ProcessTree| {
                let mut all: Vec<_> = tree.processes()[1..].iter().map(|p| p.state).collect();
                all.remove(1);
                all
            };
            // With --ti the terminal is the command's; without, `run` keeps it.
            let front = if ti.is_empty() { step.name() } else { "sleep" };
            in_front(&terminal, front);
            terminal.tree_when(|tree| states(tree) == ['S', 'S', 'S']);
            let run = terminal.tree().root.children[0].pids[0];
            for resumed in ["at once", "by way of the background"] {
                terminal.press("\u{1a}");
                terminal.wait_for("Stopped");
                terminal.wait_for(PROMPT);
                // All but init: nothing stops PID 1.
                let stopped = |tree: &ProcessTree| states(tree) == ['T', 'T', 'T'];
                assert_eq!(terminal.tree_when(stopped).root.children[0].pids[0], run);
                // The shell has the terminal, and does what it is told.
                terminal.press("echo $((6*7))\r");
                terminal.wait_for("\n42\r\n");
                terminal.wait_for(PROMPT);
                if resumed != "at once" {
                    terminal.press("bg\r");
                    terminal.wait_for(PROMPT);
                    terminal.tree_when(|tree| states(tree) == ['S', 'S', 'S']);
                }
                terminal.press("fg\r");
                terminal.wait_for("echo over'\r\n");
                // When a job that runs already is put in front, bash sends it no signal: `run` has not
                // been told, and keeps the terminal until CONT comes. Keys reach the command all the same.
                in_front(&terminal, if resumed == "at once" { front } else { step.name() });
                terminal.tree_when(|tree| states(tree) == ['S', 'S', 'S']);
            }
            // And Ctrl-C reaches it as before.
            terminal.press("\u{3}");
            terminal.wait_for(PROMPT);
            terminal.press("echo status $?\r");
            terminal.wait_for("\nstatus 130\r\n");
            terminal.press("exit\r");
            terminal.end().0.nothing_left();
        }
    }
}

/// Its group is not the one in front. What Ctrl-C sends is forwarded to it, and is there when it goes on.
#[test]
fn without_ti_a_command_that_reads_from_the_terminal_is_stopped() {
    if !tools(&["bash"]) {
        return;
    }
    for step in callers(step()) {
        let mut terminal = bash(&step);
        let line = "echo ready; read line </dev/tty";
        terminal.press(&format!("{} run sh -c '{line}'\r", step.name()));
        terminal.wait_for("\nready\r\n");
        let stopped = |tree: &ProcessTree| tree.processes().last().expect("it").state == 'T';
        let tree = terminal.tree_when(stopped);
        let [_, _, _, command] = tree.processes()[..] else { panic!("not four: {}", tree.text()) };
        terminal.press("\u{3}");
        let pending = || signals_in("ShdPnd", command.pids[0]) & bit(Signal::SIGINT) != 0;
        terminal.tree_when(|_| pending());
        send(command.pids[0], Signal::SIGCONT);
        terminal.wait_for(PROMPT);
        terminal.press("echo status $?; exit\r");
        terminal.wait_for("\nstatus 130\r\n");
        terminal.end().0.nothing_left();
    }
}

/// `fg` sends CONT to our whole group. Were the command to go on before `run` has given it the terminal,
/// a shell would find itself in the background, and end.
#[test]
fn the_command_goes_on_when_it_has_the_terminal_and_not_before() {
    if !tools(&["bash"]) {
        return;
    }
    for step in callers(step()) {
        let mut terminal = bash(&step);
        terminal.press(&format!("{} run --ti sleep 1000\r", step.name()));
        in_front(&terminal, "sleep");
        terminal.press("\u{1a}");
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        let tree = terminal.tree();
        let [_, _, init, sleep] = tree.processes()[..] else { panic!("not four") };
        send(init.pids[0], Signal::SIGCONT);
        // Init takes the lower number first: when PROF has come through, so has CONT.
        send(init.pids[0], Signal::SIGPROF);
        let pending = || signals_in("ShdPnd", sleep.pids[0]) & bit(Signal::SIGPROF) != 0;
        terminal.tree_when(|tree| pending() || tree.processes().len() < 4);
        assert!(pending(), "it has gone on, and got PROF");
        terminal.press("fg\r");
        terminal.wait_for("run --ti sleep 1000\r\n");
        terminal.wait_for(PROMPT);
        terminal.press("echo status $?; exit\r");
        terminal.wait_for(&format!("\nstatus {}\r\n", 128 + Signal::SIGPROF as i32));
        terminal.end().0.nothing_left();
    }
}

#[test]
fn a_bash_inside_has_job_control() {
    if !tools(&["bash"]) {
        return;
    }
    for step in callers(step()) {
        let mut terminal = bash(&step);
        terminal.press(&format!("{} run --ti bash --norc --noediting\r", step.name()));
        let greeting = terminal.wait_for(PROMPT);
        assert!(!greeting.contains("job control"), "{greeting}");
        assert!(!greeting.contains("process group"), "{greeting}");
        terminal.press("sleep 1000\r");
        in_front(&terminal, "sleep");
        terminal.press("\u{1a}");
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        terminal.press("fg\r");
        terminal.wait_for("\nsleep 1000\r\n");
        in_front(&terminal, "sleep");
        terminal.press("\u{3}");
        terminal.wait_for(PROMPT);
        terminal.press("echo status $?; suspend\r");
        terminal.wait_for("\nstatus 130\r\n");
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        terminal.press("fg\r");
        terminal.wait_for("run --ti bash --norc --noediting\r\n");
        terminal.wait_for(PROMPT);
        terminal.press("echo $$ $PPID\r");
        terminal.wait_for("\n2 1\r\n");
        terminal.wait_for(PROMPT);
        terminal.press("exit 7\r");
        terminal.wait_for(PROMPT);
        terminal.press("echo status $?\r");
        terminal.wait_for("\nstatus 7\r\n");
        terminal.press("exit\r");
        terminal.end().0.nothing_left();
    }
}

/// A shell without job control does not look after its terminal. It finds it as it was.
#[test]
fn the_terminal_is_given_back_at_the_end() {
    for step in callers(step()) {
        let line = "\"$0\" run --ti true; read line; echo \"got $line\"";
        let program = step.path().to_string_lossy().into_owned();
        let mut terminal = Terminal::start(step.watch_other("sh", ["-c", line, &program]));
        terminal.press("input\r");
        terminal.wait_for("\ngot input\r\n");
        terminal.end().0.nothing_left();
    }
}

/// A terminal whose only shell is `run` itself, as in a terminal emulator's -e: there is nobody to say `fg`.
/// The kernel stops no process of such a group; and what it does stop is made to go on.
#[test]
fn where_nobody_could_continue_it_ctrl_z_is_in_vain() {
    for step in callers(step()) {
        for ti in [&["run"] as &[&str], &["run", "--ti"]] {
            let line = "trap 'echo CONT' CONT; echo ready; sleep 1000 & while :; do wait; done";
            let mut terminal = step.terminal([ti, &["sh", "-c", line]].concat());
            terminal.wait_for("ready\r\n");
            terminal.press("\u{1a}");
            terminal.wait_for("CONT\r\n");
            terminal.tree_when(|tree| tree.processes().iter().all(|it| it.state != 'T'));
            terminal.press("\u{1c}");
            assert_eq!(lab::contract::shell_status(terminal.end().0.nothing_left().status), 131);
        }
    }
}
