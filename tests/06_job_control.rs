//! Step 06: job control. The command works with the terminal as if there were no container around it, whether
//! bash, dash, or zsh starts `run`. The S numbers are those of the faults that a test keeps away.

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{
    assert_checks_pass, in_parallel, programs_for_each_caller, step_program,
};
use harness::procfs::has_signal;
use harness::test_support::{require_tools, with_tools};
use harness::{
    Error, Process, ProcessTree, Program, Result, Session, Terminal, Transcript, assert_snapshot,
    procfs, send_signal,
};
use nix::sys::signal::Signal::{
    SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGUSR1,
};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

fn program() -> &'static Path {
    cargo_bin!("06-job-control")
}

fn programs() -> Vec<Program> {
    programs_for_each_caller(program())
}

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_S: &str = "\u{13}";
const CTRL_Z: &str = "\u{1a}";
const CTRL_BACKSLASH: &str = "\u{1c}";

/// The prompt of every shell, outside and inside.
const PROMPT: &str = "what next? ";

/// A shell with job control.
struct Shell {
    name: &'static str,
    /// The shell without its configuration and its line editor.
    words: &'static [&'static str],
    /// The command line that starts this shell in the container.
    inside: &'static str,
    /// The text with which the shell reports a stopped job.
    stopped: &'static str,
}

const BASH: Shell = Shell {
    name: "bash",
    words: &["bash", "--norc", "--noprofile", "--noediting", "-i"],
    inside: "bash --norc --noprofile --noediting",
    stopped: "Stopped",
};
const DASH: Shell =
    Shell { name: "dash", words: &["dash", "-i"], inside: "dash -i", stopped: "Stopped" };
const ZSH: Shell = Shell {
    name: "zsh",
    words: &["zsh", "-f", "-i", "+Z", "+o", "promptsp", "+o", "promptcr"],
    inside: "zsh -f +o promptsp +o promptcr",
    stopped: "suspended",
};

impl Shell {
    fn is_installed(&self) -> bool {
        require_tools(&[self.name])
    }

    /// Starts it in a terminal, as a terminal emulator does. The step is in its PATH.
    fn start(&self, program: &Program) -> Result<Terminal> {
        let shell = program.environment().supervise(self.name, &self.words[1..]);
        let mut terminal = Terminal::start(shell.env("PS1", PROMPT))?;
        terminal.expect(PROMPT)?;
        Ok(terminal)
    }
}

/// Runs a test from each shell, as each caller. At the end the shell must have the terminal and no jobs.
fn from_each_shell(test: impl Fn(&Shell, &Program, &mut Terminal) -> Result) -> Result {
    for shell in [BASH, DASH, ZSH].iter().filter(|shell| shell.is_installed()) {
        for program in programs() {
            eprintln!("from {} as {:?}", shell.name, program.caller());
            let mut terminal = shell.start(&program)?;
            test(shell, &program, &mut terminal)?;
            terminal.send_keys("exit\r")?;
            terminal.end()?.0.assert_clean();
        }
    }
    Ok(())
}

/// Types a command line.
fn enter(terminal: &mut Terminal, line: &str) -> Result {
    terminal.send_keys(&format!("{line}\r"))
}

/// Waits for the prompt, and then for the exit status of the last command.
fn expect_status(terminal: &mut Terminal, status: i32) -> Result {
    terminal.expect(PROMPT)?;
    enter(terminal, "echo status $?")?;
    terminal.expect(&format!("\nstatus {status}\r\n"))?;
    terminal.expect(PROMPT)?;
    Ok(())
}

/// Presses Ctrl-C while `sleep` runs in the foreground.
fn interrupt_sleep(terminal: &mut Terminal) -> Result {
    expect_in_foreground(terminal, "sleep")?;
    terminal.send_keys(CTRL_C)?;
    expect_status(terminal, 130)
}

/// Waits for the states of everything below the shell: `run`, `init`, the command, its children. S sleeps, T is
/// stopped. PID 1 never stops: nothing in its namespace can do that, and it blocks what a terminal sends.
fn expect_states(terminal: &Terminal, states: &str) -> Result<ProcessTree> {
    let seen = |tree: &ProcessTree| -> String {
        tree.processes()[1..].iter().map(|process| process.state).collect()
    };
    terminal.wait_for_tree(|tree| seen(tree) == states)
}

/// Waits until a program sleeps in the foreground of its terminal, where keys reach it.
fn expect_in_foreground(terminal: &Terminal, program: &str) -> Result {
    terminal.wait_for_tree(|tree| {
        let named = |process: &&&Process| process.argv.first().is_some_and(|word| word == program);
        let processes = tree.processes();
        let stat = processes.iter().find(named).and_then(|found| procfs::Stat::of(found.pids[0]));
        stat.is_some_and(|stat| stat.state == 'S' && stat.pgrp == stat.foreground)
    })?;
    Ok(())
}

/// Waits until `run`, and then `init`, has nothing left to forward. A shell's `fg` sends SIGCONT to the whole process
/// group, so the command goes on before they have forwarded theirs, and a late one would undo the next stop.
fn expect_settled(terminal: &Terminal) -> Result {
    let is_idle = |process: &&Process| {
        let pid = process.pids[0];
        let sleeps = procfs::Stat::of(pid).is_some_and(|stat| stat.state == 'S');
        sleeps && procfs::signal_mask(pid, "ShdPnd") == 0
    };
    terminal.wait_for_tree(|tree| {
        let init = tree.pid_1();
        let is_run = |process: &&&Process| process.children.iter().any(|child| Some(child) == init);
        let processes = tree.processes();
        let run = processes.iter().find(is_run).copied();
        run.is_some_and(|run| is_idle(&run)) && init.is_some_and(|init| is_idle(&init))
    })?;
    Ok(())
}

fn send(pid: i32, signal: Signal) {
    send_signal(pid, signal).expect("the process is there");
}

/// The PIDs on the host of `run` and `init`.
fn run_and_init(tree: &ProcessTree) -> [i32; 2] {
    let init = tree.pid_1().unwrap_or_else(|| panic!("no PID 1: {}", tree.text())).pids[0];
    [tree.root.pids[0], init]
}

fn is_stopped(tree: &ProcessTree, pid: i32) -> bool {
    tree.processes().iter().any(|process| process.pids[0] == pid && process.state == 'T')
}

/// A command that reports each of these signals, and exits with 7 after SIGUSR1.
fn listener(signals: &[Signal]) -> String {
    let trap = |signal: &Signal| format!("trap 'echo {signal}' {}; ", *signal as i32);
    let traps: String = signals.iter().map(trap).collect();
    traps + "trap 'exit 7' USR1; sleep 1000 & echo ready; while :; do wait; done"
}

#[test]
fn passes_every_check() {
    assert_checks_pass(program());
}

// Ctrl-C

/// `run` and `init` get SIGINT too, and must not forward it. They're stopped until the command has its copy, and then
/// continue one at a time, `init` first. Otherwise a second SIGINT could merge with one that is still pending.
#[test]
fn ctrl_c_reaches_command_exactly_once() -> Result {
    for program in programs() {
        for ti in [&["run"][..], &["run", "--ti"]] {
            let command = listener(&[SIGINT, SIGQUIT]);
            let mut terminal = program.terminal([ti, &["sh", "-c", &command]].concat())?;
            terminal.expect("ready\r\n")?;
            let processes = run_and_init(&terminal.tree()?);
            for (key, signal) in [(CTRL_C, SIGINT), (CTRL_BACKSLASH, SIGQUIT)] {
                for pid in processes {
                    send(pid, SIGSTOP);
                    terminal.wait_for_tree(|tree| is_stopped(tree, pid))?;
                }
                terminal.send_keys(key)?;
                terminal.expect(&format!("{signal}\r\n"))?;
                let [run, init] = processes;
                assert!(has_signal(run, "ShdPnd", signal), "run gets it");
                assert!(has_signal(init, "ShdPnd", signal), "init gets it");
                for pid in [init, run] {
                    send(pid, SIGCONT);
                    terminal.wait_for_tree(|_| !has_signal(pid, "ShdPnd", signal))?;
                }
            }
            // SIGUSR1 takes the same way as a forwarded SIGINT would, so a second SIGINT would arrive before it.
            send(processes[0], SIGUSR1);
            let (exit, rest) = terminal.end()?;
            assert_eq!((exit.assert_clean().shell_status(), rest.as_str()), (7, ""));
        }
    }
    Ok(())
}

/// Presses Ctrl-C once, and returns what a reader sees. Pending copies of a signal merge, so `run` and `init` are
/// stopped and continued one at a time, to let every copy arrive.
fn press_ctrl_c_once(program: &Program, expected: usize) -> Result<String> {
    let script = "trap \"echo interrupted\" INT; sleep 60 & echo ready; wait; wait; wait; wait";
    let supervisor = program.supervise(["run", "sh", "-c", script]);
    let mut text = format!("$ {}\n", supervisor.command_line());
    let mut terminal = Terminal::start(supervisor)?;
    text += &terminal.expect("ready\r\n")?;
    // Until it's `sleep`, the shell's child doesn't ignore SIGINT.
    let is_sleep = |process: &&Process| process.argv.first().is_some_and(|word| word == "sleep");
    let tree = terminal.wait_for_tree(|tree| tree.processes().get(3).is_some_and(is_sleep))?;
    let [run, init] = run_and_init(&tree);
    for pid in [run, init] {
        send(pid, SIGSTOP);
        terminal.wait_for_tree(|tree| is_stopped(tree, pid))?;
    }
    terminal.send_keys(CTRL_C)?;
    text += &terminal.expect("interrupted\r\n")?;
    for pid in [init, run] {
        send(pid, SIGCONT);
        if expected > 1 {
            text += &terminal.expect("interrupted\r\n")?;
        }
        terminal.wait_for_tree(|_| !has_signal(pid, "ShdPnd", SIGINT))?;
    }
    let sleep = tree.processes()[3].pids[0];
    send(sleep, SIGKILL);
    let (exit, rest) = terminal.end()?;
    exit.assert_clean();
    text += &rest;
    Ok(text.replace('\r', "").replace(&format!("PID: {run}\n"), "PID: HOST_A\n"))
}

#[test]
fn in_step_05_ctrl_c_arrives_three_times() -> Result {
    for program in programs_for_each_caller(step_program(5)) {
        let text = press_ctrl_c_once(&program, 3)?;
        assert_eq!(
            text.matches("\ninterrupted").count() + text.matches("^Cinterrupted").count(),
            3
        );
        assert_snapshot!("ctrl_c_in_step_05", text);
    }
    Ok(())
}

#[test]
fn one_ctrl_c_interrupts_once() -> Result {
    for program in programs() {
        let text = press_ctrl_c_once(&program, 1)?;
        assert_snapshot!("ctrl_c", text);
    }
    Ok(())
}

/// Starts `run` in a terminal whose output stands still, as after Ctrl-S. So `run` has printed nothing yet.
fn start_with_output_stopped(program: &Program) -> Result<Terminal> {
    let line = "read go; exec \"$0\" run sleep 1000";
    let mut terminal = Terminal::start(program.script(line))?;
    terminal.send_keys(&format!("{CTRL_S}\r"))?;
    let pid = terminal.pid();
    terminal.wait_for_tree(|_| has_signal(pid, "SigBlk", SIGINT))?;
    Ok(terminal)
}

/// Only `run` gets SIGINT from the terminal. `run` waits in the middle of its line `run PID: …`, until Ctrl-C starts
/// the output again.
#[test]
fn ctrl_c_before_init_exists_isnt_lost() -> Result {
    for program in programs() {
        let mut terminal = start_with_output_stopped(&program)?;
        let tree = terminal.tree()?;
        assert_eq!(tree.processes().len(), 1, "{}", tree.text());
        terminal.send_keys(CTRL_C)?;
        assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 130);
    }
    Ok(())
}

/// `run` and `init` get SIGINT, while `init` waits in the middle of its line `init PID: 1`. The output stops a moment
/// after the line of `run`, which may be too late to catch `init`, so the test takes five rounds.
#[test]
fn ctrl_c_before_command_exists_isnt_lost() -> Result {
    for program in programs() {
        let mut caught = 0;
        for _ in 0..5 {
            let mut terminal = start_with_output_stopped(&program)?;
            // Ctrl-Q starts the output.
            terminal.send_keys("\u{11}")?;
            // The kernel writes the end of a line after its text. A Ctrl-S between the two would stop `run` there.
            terminal.expect("run PID: ")?;
            terminal.expect("\r\n")?;
            terminal.send_keys(CTRL_S)?;
            let tree = terminal.wait_for_tree(|tree| tree.pid_1().is_some())?;
            caught += usize::from(tree.processes().len() == 2);
            terminal.send_keys(CTRL_C)?;
            assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 130);
        }
        eprintln!("before the command: {caught} of 5");
    }
    Ok(())
}

/// strace delays `run` and `init`. The command doesn't start until both have forwarded the signals that came early.
/// Otherwise the terminal could send it a signal that its parent forwards as an early one, too.
#[test]
fn command_waits_for_release() -> Result {
    for program in with_tools(&["strace"], programs()) {
        let slow = "--inject=signalfd4:delay_enter=100000";
        let strace = ["strace", "-f", "--trace=execve,kill,signalfd4", slow, "--output=calls"];
        let run = program.supervise(["run", "/bin/true"]).wrapped_by(&strace);
        assert_eq!(Transcript::run(run)?.status.code(), Some(0));
        let calls = fs::read_to_string(program.directory().join("calls")).unwrap_or_default();
        let is_step = |line: &&str| line.contains("kill(") || line.contains("(\"/bin/true\"");
        let steps: Vec<_> = calls.lines().filter(is_step).collect();
        let [run, init, command] = steps[..] else { panic!("not three: {calls}") };
        assert!(run.contains("kill(") && init.contains("kill(2, "), "{calls}");
        assert!(command.contains("execve("), "{calls}");
    }
    Ok(())
}

/// S17. A shell ends a loop if a command in it was killed by SIGINT. `run` exits with a status of 130.
#[test]
fn shell_loop_goes_on_after_ctrl_c() -> Result {
    from_each_shell(|_, program, terminal| {
        let run = format!("{} run sh -c 'echo ready; exec sleep 1000'", program.name());
        enter(terminal, &format!("for i in 1 2; do {run}; done; echo over"))?;
        for _ in 0..2 {
            terminal.expect("\nready\r\n")?;
            expect_in_foreground(terminal, "sleep")?;
            terminal.send_keys(CTRL_C)?;
        }
        terminal.expect("over\r\n")?;
        expect_status(terminal, 0)
    })
}

// Ctrl-Z, fg, and bg

#[test]
fn ctrl_z_stops_job_and_fg_resumes_it() -> Result {
    from_each_shell(|shell, program, terminal| {
        for ti in ["", "--ti "] {
            let command = "echo ready; sleep 1000; echo over";
            enter(terminal, &format!("{} run {ti}sh -c '{command}'", program.name()))?;
            terminal.expect("\nready\r\n")?;
            for resume in [&["fg"][..], &["bg", "fg"]] {
                expect_in_foreground(terminal, "sleep")?;
                expect_states(terminal, "SSSS")?;
                terminal.send_keys(CTRL_Z)?;
                terminal.expect(shell.stopped)?;
                terminal.expect(PROMPT)?;
                expect_states(terminal, "TSTT")?;
                for line in resume {
                    enter(terminal, line)?;
                    expect_states(terminal, "SSSS")?;
                    expect_settled(terminal)?;
                    if *line == "bg" {
                        terminal.expect(PROMPT)?;
                    }
                }
            }
            interrupt_sleep(terminal)?;
        }
        Ok(())
    })
}

/// The shell waits for `run`. If only `run` stopped, the shell would take the terminal from a command that uses it.
#[test]
fn command_that_ignores_ctrl_z_keeps_terminal() -> Result {
    from_each_shell(|_, program, terminal| {
        let command = "trap \"\" TSTP; echo ready; read line </dev/tty; echo got $line";
        enter(terminal, &format!("{} run sh -c '{command}'", program.name()))?;
        terminal.expect("\nready\r\n")?;
        terminal.send_keys(CTRL_Z)?;
        enter(terminal, "a line")?;
        terminal.expect("\ngot a line\r\n")?;
        expect_status(terminal, 0)
    })
}

/// S16: whichever stop signal `run` gets, both stop. If the command ignores the signal, `run` stops anyway.
#[test]
fn stop_signal_to_run_stops_command_and_run() -> Result {
    from_each_shell(|shell, program, terminal| {
        let deaf = "sh -c 'trap \"\" TSTP TTIN TTOU; exec sleep 1000'";
        for (command, stopped) in [("sleep 1000", "TST"), (deaf, "TSS")] {
            enter(terminal, &format!("{} run --ti {command}", program.name()))?;
            for signal in [SIGTSTP, SIGTTIN, SIGTTOU] {
                expect_in_foreground(terminal, "sleep")?;
                let tree = expect_states(terminal, "SSS")?;
                send(tree.root.children[0].pids[0], signal);
                terminal.expect(shell.stopped)?;
                terminal.expect(PROMPT)?;
                expect_states(terminal, stopped)?;
                enter(terminal, "fg")?;
                expect_states(terminal, "SSS")?;
                expect_settled(terminal)?;
            }
            interrupt_sleep(terminal)?;
        }
        Ok(())
    })
}

/// The kernel discards a pending stop signal when SIGCONT is sent. So a Ctrl-Z from before `fg` stops nothing.
#[test]
fn sigcont_discards_pending_sigtstp() -> Result {
    for program in programs() {
        let script = listener(&[SIGTSTP, SIGCONT]);
        let session = Session::ready(program.supervise(["run", "sh", "-c", &script]), "ready")?;
        let [run, init] = run_and_init(&session.tree()?);
        send(init, SIGSTOP);
        session.wait_for_tree(|tree| is_stopped(tree, init))?;
        send(init, SIGTSTP);
        assert!(has_signal(init, "ShdPnd", SIGTSTP));
        send(init, SIGCONT);
        assert_eq!(session.next_line()?, "SIGCONT");
        send(run, SIGUSR1);
        assert_eq!(session.wait()?.0.assert_clean().status.code(), Some(7));
    }
    Ok(())
}

/// A program can stop without the terminal: it sends itself SIGSTOP, as the `suspend` of bash does.
#[test]
fn stopped_command_stops_run() -> Result {
    from_each_shell(|shell, program, terminal| {
        for signal in ["STOP", "TSTP"] {
            let command = format!("kill -{signal} $$; echo back");
            enter(terminal, &format!("{} run sh -c '{command}'", program.name()))?;
            terminal.expect(shell.stopped)?;
            terminal.expect(PROMPT)?;
            expect_states(terminal, "TST")?;
            enter(terminal, "fg")?;
            terminal.expect("\nback\r\n")?;
            expect_status(terminal, 0)?;
        }
        Ok(())
    })
}

/// If a SIGTSTP of the terminal is still pending in `run`, that of `init` merges with it. So `init` must look again
/// when `run` has taken a signal of the terminal.
#[test]
fn terminal_signal_makes_init_look_again() -> Result {
    for program in programs() {
        let command = "trap '' INT; echo ready; exec sleep 1000";
        let mut terminal = program.terminal(["run", "sh", "-c", command])?;
        terminal.expect("ready\r\n")?;
        let [_, init] = run_and_init(&terminal.tree()?);
        send(init, SIGSTOP);
        terminal.wait_for_tree(|tree| is_stopped(tree, init))?;
        assert!(!has_signal(init, "ShdPnd", SIGCHLD));
        terminal.send_keys(CTRL_C)?;
        terminal.wait_for_tree(|_| has_signal(init, "ShdPnd", SIGCHLD))?;
        send(init, SIGCONT);
        terminal.send_keys(CTRL_BACKSLASH)?;
        assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 131);
    }
    Ok(())
}

/// At every SIGCHLD, `init` looks whether the command is stopped. It doesn't wait for the event of the stop.
#[test]
fn init_reports_stop_as_long_as_it_lasts() -> Result {
    from_each_shell(|shell, program, terminal| {
        enter(terminal, &format!("{} run --ti sleep 1000", program.name()))?;
        expect_in_foreground(terminal, "sleep")?;
        let tree = terminal.tree()?;
        let [_, run, init, sleep] = tree.processes()[..] else { panic!("{}", tree.text()) };
        let [run, init, sleep] = [run, init, sleep].map(|process| process.pids[0]);
        send(sleep, SIGSTOP);
        terminal.expect(shell.stopped)?;
        terminal.expect(PROMPT)?;
        expect_states(terminal, "TST")?;
        assert!(!has_signal(run, "ShdPnd", SIGTSTP));
        send(init, SIGCHLD);
        terminal.wait_for_tree(|_| has_signal(run, "ShdPnd", SIGTSTP))?;
        enter(terminal, "fg")?;
        expect_states(terminal, "SSS")?;
        interrupt_sleep(terminal)
    })
}

/// If a terminal runs only `run`, as with a terminal emulator's -e, no shell could continue a stopped job with `fg`. So
/// the kernel doesn't stop the processes.
#[test]
fn orphaned_process_group_ignores_ctrl_z() -> Result {
    for program in programs() {
        let mut terminal = program.terminal(["run", "--ti", "cat"])?;
        terminal.expect("container: cat\r\n")?;
        expect_in_foreground(&terminal, "cat")?;
        terminal.send_keys(CTRL_Z)?;
        enter(&mut terminal, "a line")?;
        terminal.expect("a line\r\na line\r\n")?;
        terminal.send_keys(CTRL_D)?;
        assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 0);
    }
    Ok(())
}

/// S1 and S14: in step 02 the background job would spin at 100 %. Here the kernel stops it when it reads.
#[test]
fn background_reader_stops_until_fg() -> Result {
    from_each_shell(|_, program, terminal| {
        enter(terminal, &format!("{} run --ti cat &", program.name()))?;
        expect_states(terminal, "TST")?;
        enter(terminal, "fg")?;
        expect_in_foreground(terminal, "cat")?;
        enter(terminal, "a line")?;
        terminal.expect("\na line\r\na line\r\n")?;
        terminal.send_keys(CTRL_D)?;
        expect_status(terminal, 0)
    })
}

#[test]
fn background_run_leaves_terminal_to_shell() -> Result {
    from_each_shell(|_, program, terminal| {
        enter(terminal, &format!("{} run true &", program.name()))?;
        // A shell that waits for input doesn't reap its background jobs.
        terminal.wait_for_tree(|tree| {
            let processes = tree.processes();
            processes.len() == 1 || processes.len() == 2 && processes[1].state == 'Z'
        })?;
        // The quotes tell the answer from the echo, which comes before the prompt if the shell is slow.
        enter(terminal, "wait; echo o''ver")?;
        terminal.expect("over\r\n")?;
        expect_status(terminal, 0)
    })
}

// A shell inside

#[test]
fn shell_inside_has_job_control() -> Result {
    from_each_shell(|_, program, terminal| {
        for inside in [BASH, DASH, ZSH].iter().filter(|shell| shell.is_installed()) {
            eprintln!("{} inside", inside.name);
            enter(terminal, &format!("{} run --ti {}", program.name(), inside.inside))?;
            terminal.expect("container: ")?;
            let greeting = terminal.expect(PROMPT)?;
            for complaint in ["job control", "process group", "tty"] {
                assert!(!greeting.contains(complaint), "{greeting}");
            }
            enter(terminal, "sleep 1000")?;
            expect_in_foreground(terminal, "sleep")?;
            terminal.send_keys(CTRL_Z)?;
            terminal.expect(inside.stopped)?;
            terminal.expect(PROMPT)?;
            enter(terminal, "fg")?;
            expect_in_foreground(terminal, "sleep")?;
            // A SIGCONT without `fg` leaves the terminal to the job that has it.
            send(terminal.tree()?.root.children[0].pids[0], SIGCONT);
            expect_settled(terminal)?;
            interrupt_sleep(terminal)?;
            enter(terminal, "exit 7")?;
            // dash wants to give the terminal back to the process group that had it, which has no PID inside.
            let is_dash = inside.name == "dash";
            if is_dash {
                terminal.expect("Cannot set tty process group")?;
            }
            expect_status(terminal, if is_dash { 2 } else { 7 })?;
        }
        Ok(())
    })
}

#[test]
fn suspend_inside_stops_run_outside() -> Result {
    from_each_shell(|shell, program, terminal| {
        for inside in [BASH, ZSH].iter().filter(|shell| shell.is_installed()) {
            eprintln!("{} inside", inside.name);
            enter(terminal, &format!("{} run --ti {}", program.name(), inside.inside))?;
            terminal.expect("container: ")?;
            terminal.expect(PROMPT)?;
            for _ in 0..2 {
                enter(terminal, "suspend")?;
                terminal.expect(shell.stopped)?;
                terminal.expect(PROMPT)?;
                expect_states(terminal, "TST")?;
                enter(terminal, "fg")?;
                terminal.expect(PROMPT)?;
                expect_settled(terminal)?;
            }
            enter(terminal, "echo I am $$, below $PPID")?;
            terminal.expect("\nI am 2, below 1\r\n")?;
            terminal.expect(PROMPT)?;
            enter(terminal, "exit 7")?;
            expect_status(terminal, 7)?;
        }
        Ok(())
    })
}

#[test]
fn in_step_05_run_outlasts_suspend() -> Result {
    if !BASH.is_installed() {
        return Ok(());
    }
    for program in programs_for_each_caller(step_program(5)) {
        let mut terminal = BASH.start(&program)?;
        enter(&mut terminal, &format!("{} run --ti {}", program.name(), BASH.inside))?;
        terminal.expect("container: ")?;
        terminal.expect(PROMPT)?;
        enter(&mut terminal, "suspend")?;
        let tree = expect_states(&terminal, "SST")?;
        send(run_and_init(&tree)[1], SIGKILL);
        terminal.expect(PROMPT)?;
        enter(&mut terminal, "exit")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// The transcript of this session is in the book.
#[test]
fn bash_inside_bash() -> Result {
    if !BASH.is_installed() {
        return Ok(());
    }
    let run = "run --ti bash --norc";
    for program in programs() {
        let bash = program.environment().supervise("bash", &BASH.words[1..]);
        let mut terminal = Terminal::start(bash.env("PS1", "$ "))?;
        let mut text = terminal.expect("$ ")?;
        enter(&mut terminal, &format!("{} {run}", program.name()))?;
        text += &terminal.expect("\r\n$ ")?;
        let pid = terminal.tree()?.root.children[0].pids[0];
        enter(&mut terminal, "PS1='inside: '; sleep 60")?;
        text += &terminal.expect("\r\n")?;
        expect_in_foreground(&terminal, "sleep")?;
        terminal.send_keys(CTRL_Z)?;
        text += &terminal.expect("inside: ")?;
        enter(&mut terminal, "suspend")?;
        text += &terminal.expect("\r\n$ ")?;
        enter(&mut terminal, "jobs")?;
        text += &terminal.expect("\r\n$ ")?;
        enter(&mut terminal, "fg")?;
        text += &terminal.expect("inside: ")?;
        expect_settled(&terminal)?;
        enter(&mut terminal, "fg")?;
        text += &terminal.expect("\r\nsleep 60\r\n")?;
        expect_in_foreground(&terminal, "sleep")?;
        terminal.send_keys(CTRL_C)?;
        text += &terminal.expect("inside: ")?;
        enter(&mut terminal, "exit")?;
        text += &terminal.expect("\r\n$ ")?;
        enter(&mut terminal, "echo $?")?;
        text += &terminal.expect("\r\n$ ")?;
        enter(&mut terminal, "exit")?;
        terminal.end()?.0.assert_clean();
        let text = text.replace('\r', "").replace(&format!("PID: {pid}\n"), "PID: HOST_A\n");
        let text = text.trim_end_matches("$ ");
        assert_snapshot!("bash_inside_bash", text);
    }
    Ok(())
}

/// S9: a shell without job control, here one that runs a script, never sets the terminal's foreground process group. So
/// `run` has to restore it.
#[test]
fn script_reads_terminal_after_run() -> Result {
    if !BASH.is_installed() {
        return Ok(());
    }
    for shell in [BASH, DASH, ZSH].iter().filter(|shell| shell.is_installed()) {
        for program in programs() {
            eprintln!("from {} as {:?}", shell.name, program.caller());
            let run = format!("{} run --ti {}", program.name(), BASH.inside);
            // A bash that isn't interactive doesn't pass PS1 on.
            let script = format!("PS1='{PROMPT}' {run}; read line; echo got $line");
            let script = program.environment().supervise(shell.name, ["-c", &script]);
            let mut terminal = Terminal::start(script)?;
            terminal.expect(PROMPT)?;
            enter(&mut terminal, "exit")?;
            // Until bash has exited, it would read the line instead of the script.
            terminal.wait_for_tree(|tree| tree.processes().len() == 1)?;
            enter(&mut terminal, "a line")?;
            terminal.expect("\ngot a line\r\n")?;
            assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 0);
        }
    }
    Ok(())
}

// Pipelines and /dev/tty

/// S11: the command's standard input is a pipe, and it reads keys from the terminal, as `less` does.
#[test]
fn command_behind_pipe_reads_terminal() -> Result {
    from_each_shell(|_, program, terminal| {
        let command = "read key </dev/tty; cat; echo key $key";
        for ti in ["", "--ti "] {
            let run = format!("{} run {ti}sh -c '{command}'", program.name());
            let from_pipe = if ti.is_empty() { "" } else { "3\r\n" };
            enter(terminal, &format!("seq 3 | {run}"))?;
            enter(terminal, "k")?;
            terminal.expect(&format!("\n{from_pipe}key k\r\n"))?;
            terminal.expect(PROMPT)?;
            enter(terminal, &format!("{run} </dev/null"))?;
            enter(terminal, "k")?;
            terminal.expect("\nkey k\r\n")?;
            terminal.expect(PROMPT)?;
        }
        Ok(())
    })
}

/// S12: `run` writes to a pager outside, which reads keys from the terminal.
#[test]
fn pager_outside_reads_terminal() -> Result {
    from_each_shell(|shell, program, terminal| {
        let command = "echo text; exec sleep 1000";
        let pager = "read text; read key </dev/tty; echo \"$text $key\"; cat";
        let run = format!("{} run --ti sh -c '{command}'", program.name());
        enter(terminal, &format!("{run} | sh -c '{pager}'"))?;
        expect_in_foreground(terminal, "sleep")?;
        enter(terminal, "k")?;
        terminal.expect("\ntext k\r\n")?;
        // While dash creates a process with vfork(2), Ctrl-Z stops the child, and dash waits for it.
        expect_in_foreground(terminal, "cat")?;
        terminal.send_keys(CTRL_Z)?;
        terminal.expect(shell.stopped)?;
        terminal.expect(PROMPT)?;
        enter(terminal, "fg")?;
        expect_in_foreground(terminal, "sleep")?;
        expect_in_foreground(terminal, "cat")?;
        terminal.send_keys(CTRL_C)?;
        expect_status(terminal, 130)
    })
}

/// A real pager, on either side of `run`.
#[test]
fn less_works_in_pipelines() -> Result {
    if !require_tools(&["less"]) {
        return Ok(());
    }
    from_each_shell(|_, program, terminal| {
        let run = format!("{} run --ti", program.name());
        for line in [format!("seq 300 | {run} less"), format!("{run} seq 300 2>/dev/null | less")] {
            enter(terminal, &format!("export TERM=vt100; {line}; echo quit"))?;
            terminal.expect("\r\n20\r\n")?;
            expect_in_foreground(terminal, "less")?;
            terminal.send_keys("q")?;
            terminal.expect("quit\r\n")?;
            expect_status(terminal, 0)?;
        }
        Ok(())
    })
}

/// S13: with `tostop`, the kernel stops a background job that writes. A foreground job may write, and change the
/// terminal's settings, even without `--ti`.
#[test]
fn tostop_stops_background_jobs_only() -> Result {
    from_each_shell(|_, program, terminal| {
        let name = program.name();
        enter(terminal, "stty tostop")?;
        terminal.expect(PROMPT)?;
        enter(terminal, &format!("{name} run echo text"))?;
        terminal.expect("\ntext\r\n")?;
        expect_status(terminal, 0)?;
        enter(terminal, &format!("{name} run sh -c 'stty echo </dev/tty; echo done'"))?;
        terminal.expect("\ndone\r\n")?;
        expect_status(terminal, 0)?;
        enter(terminal, &format!("{name} run echo late &"))?;
        expect_states(terminal, "TST")?;
        enter(terminal, "fg")?;
        terminal.expect("\nlate\r\n")?;
        expect_status(terminal, 0)
    })
}

// Signals of the kernel that aren't for the whole process group

/// If the terminal of a session leader hangs up, the kernel sends SIGHUP to the leader only. script(1) owns the
/// terminal, and dies.
#[test]
fn hangup_reaches_command_of_session_leader() -> Result {
    for program in with_tools(&["script"], programs()) {
        let trap = "trap \"echo hung up >heard; exit\" HUP; sleep 1000 & echo ready; wait";
        let leader = format!("exec {} run sh -c '{trap}'", program.name());
        let script = program.environment().supervise("script", ["-qc", &leader, "/dev/null"]);
        let mut terminal = Terminal::start(script)?;
        terminal.expect("ready\r\n")?;
        send(terminal.pid(), SIGKILL);
        terminal.end()?.0.assert_clean();
        let heard = fs::read_to_string(program.directory().join("heard")).unwrap_or_default();
        assert_eq!(heard, "hung up\n");
    }
    Ok(())
}

/// `perl -e 'alarm …; exec …'` is an old way to limit a program's time. exec keeps the alarm, a child hasn't got it.
#[test]
fn alarm_reaches_command() -> Result {
    in_parallel(with_tools(&["perl"], programs()), |program| {
        let trap = "trap 'exit 7' ALRM; sleep 1000 & echo ready; wait";
        for seconds in [2, 20, 200] {
            let alarm = format!("alarm {seconds}; exec @ARGV");
            let run = program.supervise(["run", "sh", "-c", trap]);
            let said = Transcript::run(run.wrapped_by(&["perl", "-e", &alarm]))?;
            // On a slow machine, the alarm can come before the trap.
            if said.printed.contains("ready\n") {
                assert_eq!(said.status.code(), Some(7), "{}", said.text);
                return Ok(());
            }
        }
        Err(Error::new("the alarm comes before the trap"))
    })
}

// Known limits

/// S18: `timeout`, `kill %1` and a shell that hangs up signal the whole process group with kill(2). That looks like a
/// signal for `run` only. So the command gets it once by itself, once from `init`, and once more from `run`.
#[test]
fn signal_to_group_arrives_three_times() -> Result {
    for program in programs() {
        let command = listener(&[SIGTERM]);
        let session = Session::ready(program.supervise(["run", "sh", "-c", &command]), "ready")?;
        let [run, init] = run_and_init(&session.tree()?);
        for pid in [run, init] {
            send(pid, SIGSTOP);
            session.wait_for_tree(|tree| is_stopped(tree, pid))?;
        }
        killpg(Pid::from_raw(run), SIGTERM).expect("killpg");
        assert_eq!(session.next_line()?, "SIGTERM");
        for pid in [init, run] {
            send(pid, SIGCONT);
            assert_eq!(session.next_line()?, "SIGTERM");
        }
        session.signal(SIGUSR1)?;
        assert_eq!(session.wait()?.0.assert_clean().shell_status(), 7);
    }
    Ok(())
}

/// kill(2) takes PID 0 as the caller's process group. The command's group has members outside the container.
#[test]
fn kill_0_inside_reaches_group_outside() -> Result {
    for program in programs() {
        let script = "trap 'echo outside' TERM; \"$0\" run sh -c 'kill -TERM 0; sleep 1000'; :";
        let outside = program.script(script);
        let transcript = Transcript::run(outside)?;
        assert!(transcript.printed.ends_with("\noutside\n"), "{}", transcript.text);
    }
    Ok(())
}

/// S19: `SIGRTMIN+3`, with which engines stop a container that runs systemd.
#[test]
fn real_time_signal_kills_run() -> Result {
    for program in programs() {
        let command = listener(&[SIGTERM]);
        let session = Session::ready(program.supervise(["run", "sh", "-c", &command]), "ready")?;
        let kill = format!("kill -37 {}", session.pid());
        assert!(
            Command::new("sh").args(["-c", &kill]).status().is_ok_and(|status| status.success())
        );
        assert_eq!(session.wait()?.0.assert_clean().shell_status(), 128 + 37);
    }
    Ok(())
}

// System calls

/// The system calls that step 06 adds. `run`, `init`, and PID 2 make them at the same time, so the trace is grouped by
/// process.
#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|rt_sigtimedwait|kill|signalfd4|exit_group)\(",
        r#"^openat\(.*"/dev/tty""#,
    ];
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let text = trace.grouped_by_process().redacted()?;
        // The PID of `init` on the host.
        let (before, after) = text.split_once("HOST_A  kill(").expect("run releases init");
        let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let text = format!("{before}HOST_A  kill(HOST_B{after}");
        assert_snapshot!("trace", text);
    }
    Ok(())
}

/// S2: kernels without CONFIG_PROC_CHILDREN don't have /proc/PID/task/TID/children.
#[test]
fn never_opens_proc_children() -> Result {
    for program in with_tools(&["strace"], programs()) {
        let strace = ["strace", "--follow-forks", "--trace=open,openat", "--output=calls"];
        let run = program.supervise(["run", "true"]);
        let terminal = Terminal::start(run.wrapped_by(&strace))?;
        assert_eq!(terminal.end()?.0.assert_clean().shell_status(), 0);
        let calls = fs::read_to_string(program.directory().join("calls")).unwrap_or_default();
        assert!(calls.contains("/dev/tty"), "{calls}");
        assert!(!calls.contains("/children"), "{calls}");
    }
    Ok(())
}
