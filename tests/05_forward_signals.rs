//! Step 05: `run` and `init` forward signals to the command. Every signal arrives exactly once, and the command starts
//! as it would without `run` and `init`.

use std::fs;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{
    assert_checks_pass, in_parallel, program, programs_for_each_caller, step_program,
};
use harness::procfs::{Stat, has_signal, signal_mask};
use harness::test_support::{inspectable, with_tools};
use harness::{
    Caller, Process, ProcessTree, Program, Result, Session, Terminal, Transcript, assert_snapshot,
    send_signal,
};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const RUN_PID: [&str; 1] = [r"run PID: (\d+)"];

const STOP_SIGNALS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// The arguments of a run whose command lives until a signal kills it.
const SLEEP: [&str; 4] = ["run", "sh", "-c", "echo ready; exec sleep 1000"];

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("05-forward-signals"))
}

/// Another step, with the same caller.
fn step(number: u32, caller: Caller) -> Program {
    program(step_program(number), caller)
}

fn send(pid: i32, signal: Signal) {
    send_signal(pid, signal).expect("the process is there");
}

/// A signal's place in a mask of /proc/PID/status.
fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

/// Whether a signal is pending for a process.
fn is_pending(pid: i32, signal: Signal) -> bool {
    has_signal(pid, "ShdPnd", signal)
}

fn state(pid: i32) -> char {
    Stat::of(pid).map_or('-', |stat| stat.state)
}

/// The PIDs, on the host, of `run`, `init` and the command. `above` processes come before `run`.
fn pids(tree: &ProcessTree, above: usize) -> [i32; 3] {
    let all = tree.processes();
    let [run, init, command, ..] = all[above..] else { panic!("not three: {}", tree.text()) };
    assert_eq!((init.pids[1], command.pids[1]), (1, 2), "{}", tree.text());
    [run.pids[0], init.pids[0], command.pids[0]]
}

/// Stops a process, from outside: in its own namespace nothing stops PID 1.
fn freeze(session: &Session, pids: &[i32]) -> Result {
    pids.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    session.wait_for_tree(|_| pids.iter().all(|pid| state(*pid) == 'T'))?;
    Ok(())
}

/// A shell that prints the name of each signal that it gets, and exits with 42 after SIGUSR2.
fn listener() -> String {
    let mut script = String::new();
    for signal in Signal::iterator() {
        let name = signal.as_str().trim_start_matches("SIG");
        let exit = if signal == Signal::SIGUSR2 { "; exit 42" } else { "" };
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCHLD) {
            script += &format!("trap 'echo {name}{exit}' {}; ", signal as i32);
        }
    }
    script + "sleep 1000 & echo ready; while :; do wait $!; done"
}

fn listen(program: &Program) -> Result<Session> {
    Session::ready(program.supervise(["run", "sh", "-c", &listener()]), "ready")
}

/// Lists every signal that is forwarded. SIGUSR2 comes last, because the listener then exits.
fn forwarded() -> impl Iterator<Item = Signal> {
    use Signal::{SIGCHLD, SIGKILL, SIGSTOP, SIGUSR2};
    let not = [&[SIGKILL, SIGSTOP, SIGCHLD, SIGUSR2], &STOP_SIGNALS[..]].concat();
    Signal::iterator().filter(move |signal| !not.contains(signal)).chain([SIGUSR2])
}

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("05-forward-signals"));
}

// Stopping a container.

/// Types lines into a shell that has the step in its PATH.
fn type_lines(program: &Program, lines: &[&str]) -> Result<Transcript> {
    let shell = program.environment().supervise::<&str>("sh", []);
    let (transcript, exit) = Transcript::type_lines(shell, lines)?;
    exit.assert_clean();
    Ok(transcript)
}

/// A command that would clean up, and SIGTERM to `run`.
fn stop_a_container(program: &Program) -> Result<Transcript> {
    let trap = "trap \"echo cleaned up; exit 42\" TERM";
    let script = format!("{trap}; echo >up; sleep 1000 & wait");
    let run = format!("{} run sh -c '{script}' & read ready <up", program.name());
    let lines = ["mkfifo up", &run, "kill -TERM $!; wait $! 2>/dev/null"];
    type_lines(program, &lines)
}

#[test]
fn step_04_dies_before_the_command_cleans_up() -> Result {
    for program in programs() {
        let seen = stop_a_container(&step(4, program.caller()))?;
        assert!(!seen.printed.contains("\ncleaned up\n"), "{}", seen.text);
        assert!(seen.text.ends_with("\n[exit status 143]\n"), "{}", seen.text);
        assert_snapshot!("lost_in_step_04", seen.redacted(&RUN_PID)?);
    }
    Ok(())
}

#[test]
fn sigterm_to_run_lets_the_command_clean_up() -> Result {
    for program in programs() {
        let seen = stop_a_container(&program)?;
        assert!(seen.text.ends_with("\ncleaned up\n[exit status 42]\n"), "{}", seen.text);
        assert_snapshot!("cleaned_up", seen.redacted(&RUN_PID)?);
    }
    Ok(())
}

/// `init` has no handler, but a blocked signal from inside reaches it anyway.
#[test]
fn sigterm_from_inside_reaches_the_command() -> Result {
    for program in programs() {
        let script =
            "trap \"echo heard; exit 42\" TERM; kill -TERM 1; sleep 2 & wait; echo nothing";
        let seen = type_lines(&program, &[&format!("{} run sh -c '{script}'", program.name())])?;
        assert!(seen.text.ends_with("\nheard\n[exit status 42]\n"), "{}", seen.text);
        assert_snapshot!("from_inside", seen.redacted(&RUN_PID)?);
    }
    Ok(())
}

/// `run` and `init` no longer have the command's pipe open, so its reader doesn't wait for them.
#[test]
fn end_of_file_comes_before_the_command_exits() -> Result {
    in_parallel(programs(), |program| {
        let script = "echo words; exec >&-; sleep 2; echo over >&2";
        let reader = "(cat; echo end-of-file)";
        let line = format!("{} run sh -c '{script}' | {reader}", program.name());
        let seen = type_lines(&program, &[&line])?;
        assert!(seen.text.ends_with("\nwords\nend-of-file\nover\n"), "{}", seen.text);
        assert_snapshot!("end_of_file", seen.redacted(&RUN_PID)?);
        Ok(())
    })
}

/// The kernel drops the signal at once, so it's never pending.
#[test]
fn step_04_drops_sigterm_to_pid_1() -> Result {
    for program in programs() {
        let step_04 = step(4, program.caller());
        let mut shell = step_04.session(["run", "--ti", "sh"])?;
        let [_, init, _] = pids(&shell.tree()?, 0);
        // std blocks every signal while it starts the command, and the kernel only drops unblocked ones.
        shell.wait_for_tree(|_| signal_mask(init, "SigBlk") == 0)?;
        send(init, Signal::SIGTERM);
        assert_eq!(signal_mask(init, "ShdPnd"), 0);
        assert_eq!(shell.run("echo $PPID")?, "1");
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

// Forwarding.

/// Sends each signal to `init`, and then to `run`. If a second copy arrived, it would be in place of the next answer.
#[test]
fn forwards_every_signal_once() -> Result {
    for program in programs() {
        let session = listen(&program)?;
        let [run, init, _] = pids(&session.tree()?, 0);
        for signal in forwarded() {
            let name = &signal.as_str()[3..];
            if signal != Signal::SIGUSR2 {
                send(init, signal);
                assert_eq!(session.next_line()?, name, "sent to PID 1");
            }
            send(run, signal);
            assert_eq!(session.next_line()?, name, "sent to run");
        }
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

/// SIGCHLD isn't forwarded, because `run` and `init` need it themselves.
#[test]
fn keeps_sigchld_to_itself() -> Result {
    for program in programs() {
        let script = "trap 'echo CHLD' CHLD; ".to_owned() + &listener();
        let session = Session::ready(program.supervise(["run", "sh", "-c", &script]), "ready")?;
        let [run, init, _] = pids(&session.tree()?, 0);
        for pid in [run, init] {
            send(pid, Signal::SIGCHLD);
            send(pid, Signal::SIGUSR1);
            assert_eq!(session.next_line()?, "USR1");
        }
        send(run, Signal::SIGUSR2);
        assert_eq!(session.next_line()?, "USR2");
        session.wait()?.0.assert_clean();
    }
    Ok(())
}

/// While `run` and `init` are stopped, signals stay pending, one of each kind.
#[test]
fn pending_signals_arrive_later_and_once() -> Result {
    use Signal::{SIGALRM, SIGHUP, SIGPROF, SIGTERM, SIGUSR1, SIGVTALRM};
    // Not every shell runs the traps of all signals that arrive together.
    for program in with_tools(&["dash"], programs()) {
        let dash = program.supervise(["run", "dash", "-c", &listener()]);
        let session = Session::ready(dash, "ready")?;
        let [run, init, _] = pids(&session.tree()?, 0);
        freeze(&session, &[run, init])?;
        let sent = [SIGHUP, SIGUSR1, SIGALRM, SIGTERM, SIGVTALRM, SIGPROF];
        for signal in sent.into_iter().chain(sent) {
            send(run, signal);
            assert!(is_pending(run, signal), "{signal}");
        }
        send(init, Signal::SIGCONT);
        send(run, Signal::SIGCONT);
        let mut heard = Vec::new();
        while heard.iter().filter(|name| *name != "CONT").count() < sent.len() {
            heard.push(session.next_line()?);
        }
        send(run, Signal::SIGUSR2);
        while let Some(name) = session.next_line().ok().filter(|name| name != "USR2") {
            heard.push(name);
        }
        heard.retain(|name| name != "CONT");
        let names: Vec<_> = sent.iter().map(|signal| &signal.as_str()[3..]).collect();
        heard.sort_unstable_by_key(|name| names.iter().position(|sent| sent == name));
        assert_eq!(heard, names);
        assert_eq!(session.wait()?.0.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

#[test]
fn nested_containers_pass_a_signal_on() -> Result {
    for program in programs() {
        let script = "trap 'exit 42' TERM; echo ready; sleep 1000 & wait";
        let path = program.path().to_string_lossy();
        let nested = program.supervise(["run", &path, "run", "sh", "-c", script]);
        let session = Session::ready(nested, "ready")?;
        session.signal(Signal::SIGTERM)?;
        assert_eq!(session.wait()?.0.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

/// Checks a property that tini's tests check, too: each signal to PID 1 that kills a process by default kills the
/// command, and the exit status is 128 plus the signal's number. `args` begin the command line.
fn signals_to_pid_1_kill_the_command(program: &Program, args: &[&str]) -> Result {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM] {
        let command = [args, &["env", "--default-signal", "sh"], &SLEEP[2..]].concat();
        let session = Session::ready(program.supervise(command), "ready")?;
        // Until then, a shell may keep the signal for later, and later is never.
        let is_sleep = |process: &&Process| process.argv.first().is_some_and(|it| it == "sleep");
        let tree = session.wait_for_tree(|tree| tree.processes().last().is_some_and(is_sleep))?;
        send(tree.root.children[0].pids[0], signal);
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().shell_status(), 128 + signal as i32, "{signal}");
    }
    Ok(())
}

#[test]
fn passes_tinis_signal_test() -> Result {
    for program in programs() {
        signals_to_pid_1_kill_the_command(&program, &["run", "--ti"])?;
    }
    Ok(())
}

/// Step 03 creates the namespaces, and tini is PID 1. So if the two ever differ, we see it.
#[test]
fn tini_passes_the_same_test() -> Result {
    for program in with_tools(&["tini"], programs()) {
        let step_03 = step(3, program.caller());
        signals_to_pid_1_kill_the_command(&step_03, &["run", "--ti", "tini", "--"])?;
    }
    Ok(())
}

// Stopping and continuing.

/// These signals keep their default action. They stop `run`, but not PID 1, and aren't forwarded. A terminal sends
/// them to the command, too.
#[test]
fn stop_signals_stop_only_run() -> Result {
    for program in programs() {
        let session = Session::ready(program.supervise(SLEEP), "ready")?;
        let all = pids(&session.tree()?, 0);
        let [run, init, _] = all;
        session.wait_for_tree(|_| all.map(state) == ['S', 'S', 'S'])?;
        for signal in STOP_SIGNALS {
            send(run, signal);
            session.wait_for_tree(|_| all.map(state) == ['T', 'S', 'S'])?;
            send(run, Signal::SIGCONT);
            session.wait_for_tree(|_| all.map(state) == ['S', 'S', 'S'])?;
            send(init, signal);
            assert!(!is_pending(init, signal), "{signal}");
        }
        send(run, Signal::SIGTERM);
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().shell_status(), 143);
    }
    Ok(())
}

const PROMPT: &str = "what next? ";

/// A bash in a terminal, as a terminal emulator starts it, with the step in its PATH.
fn bash(program: &Program) -> Result<Terminal> {
    let shell = program.environment().supervise("bash", ["--norc", "--noediting", "-i"]);
    let mut terminal = Terminal::start(shell.env("PS1", PROMPT))?;
    terminal.expect(PROMPT)?;
    Ok(terminal)
}

/// Waits until a program sleeps below `run`, so that keys reach it and not a shell that starts it.
fn wait_until_it_sleeps(terminal: &Terminal) -> Result<[i32; 3]> {
    let sleeps = |tree: &ProcessTree| {
        let all = tree.processes();
        let last = all.last().expect("a process");
        last.argv.first().is_some_and(|word| word == "sleep") && last.state == 'S' && all.len() == 4
    };
    Ok(pids(&terminal.wait_for_tree(sleeps)?, 1))
}

#[test]
fn ctrl_z_and_fg_stop_and_continue_the_command() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let mut terminal = bash(&program)?;
        terminal.send_keys(&format!("{} run sleep 1000\r", program.name()))?;
        let all = wait_until_it_sleeps(&terminal)?;
        terminal.send_keys("\u{1a}")?;
        terminal.expect("Stopped")?;
        terminal.expect(PROMPT)?;
        let stopped = || all.map(state) == ['T', 'S', 'T'] && !is_pending(all[1], Signal::SIGTSTP);
        terminal.wait_for_tree(|_| stopped())?;
        terminal.send_keys("fg\r")?;
        terminal.expect("run sleep 1000\r\n")?;
        terminal.wait_for_tree(|_| all.map(state) == ['S', 'S', 'S'])?;
        terminal.send_keys("\u{3}")?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("echo status $?; exit\r")?;
        terminal.expect("\nstatus 130\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

// Problems with the terminal, which step 06 solves.

/// `run` and `init` are stopped, so their copies of SIGINT are still pending. They forward both to the command.
#[test]
fn ctrl_c_goes_to_all_three_processes() -> Result {
    let script = "trap 'echo INT' INT; trap 'exit 7' USR1; sleep 1000 & echo ready; \
        while :; do wait; done";
    for program in programs() {
        let mut terminal = program.terminal(["run", "--ti", "sh", "-c", script])?;
        terminal.expect("ready\r\n")?;
        let [run, init, _] = pids(&terminal.tree()?, 0);
        [run, init].iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
        terminal.wait_for_tree(|_| [run, init].map(state) == ['T', 'T'])?;
        terminal.send_keys("\u{3}")?;
        terminal.expect("INT\r\n")?;
        assert!(is_pending(run, Signal::SIGINT) && is_pending(init, Signal::SIGINT));
        [init, run].iter().for_each(|pid| send(*pid, Signal::SIGCONT));
        terminal.expect("INT\r\n")?;
        send(run, Signal::SIGUSR1);
        let (exit, _) = terminal.end()?;
        assert_eq!(exit.assert_clean().status.code(), Some(7));
    }
    Ok(())
}

/// Tests the same with a signal that a program sends to the whole group, as `timeout` and a shell's `kill %1` do.
#[test]
fn group_signal_goes_to_all_three_processes() -> Result {
    for program in programs() {
        let session = listen(&program)?;
        let [run, init, command] = pids(&session.tree()?, 0);
        let group = |pid| Stat::of(pid).map(|stat| stat.pgrp);
        assert_eq!([run, init, command].map(group), [Some(run); 3]);
        freeze(&session, &[run, init])?;
        killpg(Pid::from_raw(run), Signal::SIGTERM).expect("signal the group");
        assert_eq!(session.next_line()?, "TERM");
        assert!(is_pending(run, Signal::SIGTERM) && is_pending(init, Signal::SIGTERM));
        drop(session);
    }
    Ok(())
}

/// The command is in the group that `timeout` signals.
#[test]
fn timeout_signals_the_commands_group() -> Result {
    for program in with_tools(&["timeout"], programs()) {
        let script = "trap 'echo TERM; exit 7' TERM; echo ready; sleep 1000 & wait";
        let run = program.supervise(["run", "sh", "-c", script]);
        let session = Session::ready(run.wrapped_by(&["timeout", "1000"]), "ready")?;
        let all = pids(&session.tree()?, 1);
        let group = |pid| Stat::of(pid).map(|stat| stat.pgrp);
        assert_eq!(all.map(group), [Some(session.pid()); 3]);
        session.signal(Signal::SIGTERM)?;
        assert_eq!(session.next_line()?, "TERM");
        assert_eq!(session.wait()?.0.assert_clean().status.code(), Some(7));
    }
    Ok(())
}

/// The inner shell stops itself. `run` isn't told, so neither is the shell that waits for `run`.
#[test]
fn suspend_inside_does_not_stop_run() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let mut terminal = bash(&program)?;
        terminal.send_keys(&format!("{} run --ti bash --norc --noediting\r", program.name()))?;
        terminal.expect(PROMPT)?;
        let [run, init, command] = pids(&terminal.tree()?, 1);
        terminal.send_keys("suspend\r")?;
        // PID 1 has also taken the SIGCHLD that the stop caused.
        terminal.wait_for_tree(|_| state(command) == 'T' && !is_pending(init, Signal::SIGCHLD))?;
        // Only T is wrong, because one of them may still be running, about to sleep.
        assert!(![run, init].map(state).contains(&'T'));
        // Closing the terminal kills everything in it.
        drop(terminal);
    }
    Ok(())
}

/// The inner shell moved the terminal to its own process group, and can't name the group that had it before.
#[test]
fn script_cannot_read_the_terminal_afterwards() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let bash = format!("PS1='{PROMPT}' \"$0\" run --ti bash --norc --noediting -i");
        let line = format!("{bash}; read line; echo \"got ($line)\"");
        let shell = program.script(&line);
        let mut terminal = Terminal::start(shell)?;
        terminal.expect(PROMPT)?;
        terminal.send_keys("exit\r")?;
        terminal.expect("exit\r\n")?;
        terminal.send_keys("input\r")?;
        terminal.expect("got ()\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

// Real-time signals, which have no names.

fn send_number(program: &Program, pid: i32, number: i32) {
    let line = format!("kill -{number} {pid}");
    let status = program.environment().command("sh", ["-c", &line]).status();
    assert!(status.expect("start sh").success(), "{line}");
}

/// 37 is SIGRTMIN+3, with which a container engine stops systemd.
#[test]
fn real_time_signal_kills_run() -> Result {
    for program in programs() {
        let session = Session::ready(program.supervise(SLEEP), "ready")?;
        send_number(&program, session.pid(), 37);
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().shell_status(), 128 + 37);
    }
    Ok(())
}

#[test]
fn pid_1_drops_real_time_signals() -> Result {
    for program in programs() {
        let session = listen(&program)?;
        let [run, init, _] = pids(&session.tree()?, 0);
        // std blocks every signal while it starts the command.
        session.wait_for_tree(|_| signal_mask(init, "SigBlk") & 1 << (37 - 1) == 0)?;
        send_number(&program, init, 37);
        assert_eq!(signal_mask(init, "ShdPnd"), 0);
        send(run, Signal::SIGUSR2);
        assert_eq!(session.next_line()?, "USR2");
        session.wait()?.0.assert_clean();
    }
    Ok(())
}

/// `run` can't forward real-time signals, so it leaves one pending if the caller has blocked it.
#[test]
fn blocked_real_time_signal_stays_pending() -> Result {
    for program in programs() {
        let run = program.supervise(["run", "sh", "-c", &listener()]);
        let session = Session::ready(run.wrapped_by(&["env", "--block-signal=RTMIN"]), "ready")?;
        send_number(&program, session.pid(), 34);
        session.signal(Signal::SIGUSR1)?;
        assert_eq!(session.next_line()?, "USR1");
        assert_eq!(signal_mask(session.pid(), "ShdPnd"), 1 << 33);
        session.signal(Signal::SIGUSR2)?;
        assert_eq!(session.next_line()?, "USR2");
        assert_eq!(session.wait()?.0.assert_clean().status.code(), Some(42));
    }
    Ok(())
}

// Signal mask and dispositions of the command.

/// An older glibc's posix_spawn(3), which std uses, leaves its own two signals ignored: 32 and 33.
#[test]
fn command_keeps_mask_and_ignored_signals() -> Result {
    let env = ["--block-signal=USR2,TERM,RTMIN", "--ignore-signal=USR1,PIPE"];
    let grep = ["grep", "Sig[BIC]", "/proc/self/status"];
    let masks = |text: &[u8]| -> Vec<u64> {
        let text = String::from_utf8_lossy(text).into_owned();
        let mask = |line: &str| u64::from_str_radix(line.split('\t').nth(1)?, 16).ok();
        text.lines().map(|line| mask(line).expect("a mask")).collect()
    };
    for program in programs() {
        let path = program.path().to_string_lossy();
        let inside = [&env[..], &[&path, "run"], &grep].concat();
        let inside = program.environment().supervise("env", inside).output()?;
        let outside = [&env[..], &grep].concat();
        let outside = program.environment().supervise("env", outside).output()?;
        let [blocked, ignored, caught] = masks(&outside.stdout)[..] else { panic!("not three") };
        assert_eq!(blocked & bit(Signal::SIGUSR2), bit(Signal::SIGUSR2));
        assert_eq!(ignored & bit(Signal::SIGUSR1), bit(Signal::SIGUSR1));
        // Rust's std sets SIGPIPE to its default, whatever the caller had.
        let internal = masks(&inside.stdout)[1] & 0x1_8000_0000;
        assert!([0, 0x1_8000_0000].contains(&internal), "{internal:#x}");
        let ignored = ignored & !bit(Signal::SIGPIPE) | internal;
        assert_eq!(masks(&inside.stdout), [blocked, ignored, caught]);
    }
    Ok(())
}

/// The `exec` stage unblocks signals, and then gets those that are pending. Rust's runtime ignores SIGPIPE in this
/// stage, so a pending SIGPIPE is lost.
#[test]
fn exec_stage_takes_pending_signals_but_sigpipe() -> Result {
    for program in with_tools(&["bash"], programs()) {
        let path = program.path().to_string_lossy();
        for (signal, status) in [("USR1", 128 + Signal::SIGUSR1 as i32), ("PIPE", 0)] {
            let block = format!("--block-signal={signal}");
            let line = format!("kill -{signal} $$; exec \"$0\" exec -- true");
            let args = [&block, "bash", "-c", &line, &path];
            let captured = program.environment().supervise("env", args).output()?;
            assert_eq!(captured.exit.assert_clean().shell_status(), status, "{signal}");
        }
    }
    Ok(())
}

// Files.

/// Lists the files that a process has open, except its signalfd. Returns `None` if it closed a file meanwhile.
fn open_files(pid: i32) -> Option<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()? {
        let path = entry.ok()?.path();
        let target = fs::read_link(&path).ok()?;
        files.push(format!("{} {}", path.file_name()?.display(), target.display()));
    }
    files.retain(|file| !file.ends_with(" anon_inode:[signalfd]"));
    files.sort();
    Some(files)
}

#[test]
fn run_and_init_keep_no_file_open() -> Result {
    for program in inspectable(programs()) {
        let line = "exec 7</etc 8>&1; exec \"$0\" run --ti sh";
        let shell = program.script(line);
        let mut shell = Session::start(shell)?;
        assert_eq!(shell.run("readlink /proc/self/fd/7")?, "/etc", "the command has it");
        // The command may answer before they have closed everything.
        shell.wait_for_tree(|tree| {
            pids(tree, 0)[..2].iter().all(|pid| {
                open_files(*pid)
                    .is_some_and(|files| files == ["0 /dev/null", "1 /dev/null", "2 /dev/null"])
            })
        })?;
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

// Failures: each prints one error, the same one every time.

/// `run` creates its signalfd before the container starts, because standard error is /dev/null afterwards.
#[test]
fn refused_signalfd_is_one_error() -> Result {
    for program in with_tools(&["strace"], programs()) {
        let inject = "inject=signalfd,signalfd4:error=ENOSYS";
        let strace = ["strace", "-f", "-o", "/dev/null", "-e", inject];
        let refused = program.supervise(["run", "--ti", "true"]).wrapped_by(&strace).output()?;
        assert_eq!(refused.exit.assert_clean().status.code(), Some(125));
        let error = "05-forward-signals: signalfd: Function not implemented (ENOSYS)\n\
            hint: run 'just doctor'; it finds out why\n";
        assert_eq!(String::from_utf8_lossy(&refused.stderr), error);
    }
    Ok(())
}

/// All ten runs print the same error. If `run` opened /dev/null after the spawn, `init` could report a second error.
#[test]
fn unreadable_dev_null_is_one_error() -> Result {
    for program in programs().iter().filter(|program| program.caller() == Caller::Rootless) {
        // Only root can make /dev/null unreadable for an ordinary user.
        let Some(root) = programs().into_iter().find(|program| program.caller() == Caller::Root)
        else {
            return Ok(());
        };
        let uid = program.environment().uid().unwrap_or_default();
        let line = "umask 077; touch null; mount --bind null /dev/null; shift; \
            for n in 1 2 3 4 5 6 7 8 9 10; do \"$@\"; echo $?; done; umount /dev/null";
        let path = program.path().to_string_lossy();
        let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
        let user = ["setpriv", &ids[0], &ids[1], "--clear-groups"];
        let args = [&["-c", line, "sh", "-"], &user[..], &[&path, "run", "--ti", "true"]].concat();
        let refused = root.environment().supervise("sh", args).on_scratch_host().output()?;
        let error = "05-forward-signals: open(/dev/null): Permission denied (EACCES)\n\
            hint: run 'just doctor'; it finds out why\n";
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        let errors: String = stderr
            .lines()
            .filter(|line| !line.starts_with("run PID: "))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(errors, error.repeat(10));
        assert_eq!(String::from_utf8_lossy(&refused.stdout), "125\n".repeat(10));
    }
    Ok(())
}

// The system calls.

/// The system calls that step 05 adds. `run`, `init`, and PID 2 make them at the same time, so the trace is grouped by
/// process.
#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|signalfd4?|waitid|wait4|exit_group)\(",
        // The library blocks others for a moment, while it creates a child.
        r"^rt_sigprocmask\(SIG_(UN)?BLOCK, \[HUP INT ",
    ];
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let text = trace.grouped_by_process().redacted()?;
        assert_snapshot!("trace", text);
    }
    Ok(())
}
