//! What is new in step 06: the terminal's signals, and the terminal itself.

use harness::procfs::signal_mask;
use harness::{Context, ProcessTree, Program, Requirement, Session, Terminal};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::result::{CheckFailure, CheckResult, command_line, during, ensure, ensure_clean};

const CTRL_C: &str = "\u{3}";
const CTRL_S: &str = "\u{13}";
const PROMPT: &str = "what next? ";

fn send(pid: i32, signal: Signal, command: &str) -> CheckResult {
    kill(Pid::from_raw(pid), signal).context("kill").map_err(during(command))
}

fn has(pid: i32, mask: &str, signal: Signal) -> bool {
    signal_mask(pid, mask) & (1 << (signal as u32 - 1)) != 0
}

fn is_stopped(tree: &ProcessTree, pid: i32) -> bool {
    tree.processes().iter().any(|process| process.pids[0] == pid && process.state == 'T')
}

/// The whole process group gets Ctrl-C, so `run` and `init` get it too. They're stopped until the command has it, and
/// go on one after the other, so that no copies merge.
pub(super) fn ctrl_c_reaches_command_once(program: &Program) -> CheckResult {
    let script = "trap 'echo INT' INT; trap 'exit 7' USR1; sleep 1000 & echo up; \
        while :; do wait; done";
    let args = ["run", "sh", "-c", script];
    let command = format!("{}, and Ctrl-C", command_line(program, &args));
    let during = during(&command);
    let mut terminal = program.terminal(args).map_err(&during)?;
    terminal.expect("up\r\n").map_err(&during)?;
    let tree = terminal.tree().map_err(&during)?;
    let Some(init) = tree.pid_1() else {
        return ensure(false, &command, "a process with the PID 1 inside", tree.text());
    };
    let (run, init) = (terminal.pid(), init.pids[0]);
    for pid in [run, init] {
        send(pid, Signal::SIGSTOP, &command)?;
        terminal.wait_for_tree(|tree| is_stopped(tree, pid)).map_err(&during)?;
    }
    terminal.send_keys(CTRL_C).map_err(&during)?;
    terminal.expect("INT\r\n").map_err(&during)?;
    for pid in [init, run] {
        send(pid, Signal::SIGCONT, &command)?;
        let taken = |_: &ProcessTree| !has(pid, "ShdPnd", Signal::SIGINT);
        terminal.wait_for_tree(taken).map_err(&during)?;
    }
    // SIGUSR1 takes the same way, so it arrives after every copy of SIGINT.
    send(run, Signal::SIGUSR1, &command)?;
    let (exit, rest) = terminal.end().map_err(&during)?;
    let more = rest.matches("INT").count();
    ensure(more == 0, &command, "one INT", format!("{}", more + 1))?;
    ensure(exit.shell_status() == 7, &command, "exit status 7", exit.status.to_string())?;
    ensure_clean(&command, &exit)
}

/// While the output stands still, `run` waits in the middle of `run PID`. Ctrl-C starts the output again.
pub(super) fn early_ctrl_c_reaches_command(program: &Program) -> CheckResult {
    let command = format!("{} run sleep 1000, and Ctrl-C at once", program.name());
    let during = during(&command);
    let shell = program.script("read go; exec \"$0\" run sleep 1000");
    let mut terminal = Terminal::start(shell).map_err(&during)?;
    terminal.send_keys(&format!("{CTRL_S}\r")).map_err(&during)?;
    let pid = terminal.pid();
    terminal.wait_for_tree(|_| has(pid, "SigBlk", Signal::SIGINT)).map_err(&during)?;
    terminal.send_keys(CTRL_C).map_err(&during)?;
    let (exit, _) = terminal.end().map_err(&during)?;
    let actual = match exit.timed_out {
        Some(_) => "the command still runs".to_owned(),
        None => exit.shell_status().to_string(),
    };
    ensure(exit.shell_status() == 130, &command, "exit status 130", actual)?;
    ensure_clean(&command, &exit)
}

/// A shell waits for `run`, so a command that stops has to stop `run`.
pub(super) fn stopped_command_stops_run(program: &Program) -> CheckResult {
    for signal in ["STOP", "TSTP"] {
        let script = format!("echo up; kill -{signal} $$; exit 7");
        let args = ["run", "sh", "-c", &script];
        let command = command_line(program, &args);
        let during = during(&command);
        let session = Session::ready(program.supervise(args), "up").map_err(&during)?;
        session.wait_for_tree(|tree| tree.root.state == 'T').map_err(|error| CheckFailure {
            command: command.clone(),
            expected: "`run` stops, too".to_owned(),
            actual: error.to_string(),
        })?;
        let group = Pid::from_raw(session.pid());
        killpg(group, Signal::SIGCONT).context("killpg").map_err(&during)?;
        let (exit, _) = session.wait().map_err(&during)?;
        let status = exit.shell_status();
        ensure(status == 7, &command, "exit status 7 after SIGCONT", status.to_string())?;
        ensure_clean(&command, &exit)?;
    }
    Ok(())
}

/// `fg` gives the terminal to the process group of `run`. A bash inside has its own.
pub(super) fn fg_after_suspend_resumes_shell_inside(program: &Program) -> CheckResult {
    if Requirement::Tool("bash").check().is_err() {
        return Ok(());
    }
    let words = ["--norc", "--noprofile", "--noediting", "-i"];
    let args = [&["run", "--ti", "bash"], &words[..]].concat();
    let run = command_line(program, &args);
    let command = format!("{run}, then suspend, then fg");
    let during = during(&command);
    let bash = program.environment().supervise("bash", words).env("PS1", PROMPT);
    let mut terminal = Terminal::start(bash).map_err(&during)?;
    terminal.expect(PROMPT).map_err(&during)?;
    for (line, answer) in [
        (&*run, "container: "),
        ("suspend", "Stopped"),
        ("fg", "run --ti"),
        ("echo below PID $PPID", "\nbelow PID 1\r\n"),
        ("exit", "exit\r\n"),
    ] {
        terminal.send_keys(&format!("{line}\r")).map_err(&during)?;
        terminal.expect(answer).map_err(&during)?;
        terminal.expect(PROMPT).map_err(&during)?;
    }
    terminal.send_keys("exit\r").map_err(&during)?;
    let (exit, _) = terminal.end().map_err(&during)?;
    ensure_clean(&command, &exit)
}

/// An interactive bash takes the terminal for its own process group, which is gone when it has exited.
pub(super) fn script_reads_terminal_after_run(program: &Program) -> CheckResult {
    if Requirement::Tool("bash").check().is_err() {
        return Ok(());
    }
    let run = "run --ti bash --norc -ic true; read line; echo got $line";
    let command = format!("sh -c '{} {run}'", program.name());
    let during = during(&command);
    let script = format!("\"$0\" {run}");
    let shell = program.script(&script);
    let mut terminal = Terminal::start(shell).map_err(&during)?;
    terminal.send_keys("a line\r").map_err(&during)?;
    let (exit, printed) = terminal.end().map_err(&during)?;
    let read = printed.ends_with("\ngot a line\r\n");
    ensure(read, &command, "the script reads a line", printed)?;
    ensure_clean(&command, &exit)
}
