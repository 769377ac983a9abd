//! The checks that step 06 adds: the terminal's signals, and the terminal itself.

use harness::procfs::{Stat, has_signal, signal_mask};
use harness::{Context, Held, ProcessTree, Program, Requirement, Terminal};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::result::{
    AND, CheckFailure, CheckResult, During, and_then, command_line, ensure, ensure_clean,
    ensure_exits, pid_1, send, start,
};

const CTRL_C: &str = "\u{3}";
const CTRL_S: &str = "\u{13}";
const CTRL_Z: &str = "\u{1a}";
const CTRL_BACKSLASH: &str = "\u{1c}";
const PROMPT: &str = "what next? ";
/// The arguments of a bash with job control and without configuration.
const BASH: [&str; 4] = ["--norc", "--noprofile", "--noediting", "-i"];

fn is_stopped(tree: &ProcessTree, pid: i32) -> bool {
    tree.processes().iter().any(|process| process.pids[0] == pid && process.state == 'T')
}

/// Returns a command line of the program for a shell, in whose PATH the program may have another name.
fn typed(program: &Program, line: &str) -> String {
    let path = program.path().to_string_lossy().replace('\'', r"'\''");
    line.replacen(program.name(), &format!("'{path}'"), 1)
}

/// Types a command line into a bash in a terminal, and waits for what the command prints.
fn start_in_bash(
    program: &Program,
    line: &str,
    answer: &str,
    command: &str,
) -> CheckResult<Terminal> {
    let bash = program.environment().supervise("bash", BASH).env("PS1", PROMPT);
    let mut terminal = Terminal::start(bash).during(command)?;
    terminal.expect(PROMPT).during(command)?;
    terminal.send_keys(&format!("{}\r", typed(program, line))).during(command)?;
    terminal.expect(answer).during(command)?;
    Ok(terminal)
}

/// Leaves the bash, after which nothing may be left.
fn exit_bash(mut terminal: Terminal, command: &str) -> CheckResult {
    terminal.send_keys("exit\r").during(command)?;
    let (exit, _) = terminal.end().during(command)?;
    ensure_clean(command, &exit)
}

/// Returns the PIDs of `run`, which a bash started, and of `init`.
fn run_and_init(bash: &Terminal, command: &str) -> CheckResult<[i32; 2]> {
    let tree = bash.tree().during(command)?;
    let init = pid_1(&tree, command)?;
    let run = tree.root.children.first().unwrap_or(init);
    Ok([run, init].map(|process| process.pids[0]))
}

/// Whether a process sleeps, and has no signal left to read.
fn is_idle(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state == 'S') && signal_mask(pid, "ShdPnd") == 0
}

/// A shell that started `run` waits until `run` stops, and knows nothing of the command.
pub(super) fn stop_signal_stops_run_and_command(program: &Program) -> CheckResult {
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        let args = ["run", "sh", "-c", "echo up; exec sleep 1000"];
        let line = command_line(program, &args);
        let command = format!("{line}{AND}and {signal} to `run`, then SIGCONT");
        let session = start(program, &args, &command)?;
        let states = || {
            let processes = session.tree().ok()?;
            let processes = processes.processes();
            let ends = [processes.first()?.pids[0], processes.last()?.pids[0]];
            let [run, last] = ends.map(|pid| Stat::of(pid).map_or('-', |stat| stat.state));
            Some([run, last])
        };
        // A SIGCONT discards stop signals that are still pending, so let `init` read them first.
        let is_settled =
            |tree: &ProcessTree| tree.processes().get(1).is_some_and(|init| is_idle(init.pids[0]));
        for (sent, wanted) in [(signal, ['T', 'T']), (Signal::SIGCONT, ['S', 'S'])] {
            session.signal(sent).during(&command)?;
            let reached =
                session.wait_for_tree(|tree| states() == Some(wanted) && is_settled(tree));
            reached.map_err(|_| {
                let change = if sent == signal { "are stopped (T)" } else { "continue (S)" };
                let expected = format!("after {sent}, `run` and the command {change}");
                let actual = states().map_or("no process".to_owned(), |[run, command]| {
                    format!("`run` has state {run}, and the command has state {command}")
                });
                CheckFailure::new(&command, expected, actual)
            })?;
        }
        session.signal(Signal::SIGKILL).during(&command)?;
        ensure_clean(&command, &session.wait().during(&command)?.0)?;
    }
    Ok(())
}

/// The whole process group gets the terminal's signals, so `run` and `init` get them too. They're stopped until the
/// command has its copy, and go on one after the other, so that no copies merge.
pub(super) fn ctrl_c_reaches_command_once(program: &Program) -> CheckResult {
    let script = "trap 'echo INT' INT; trap 'echo QUIT' QUIT; trap 'echo WINCH' WINCH; \
        trap 'stty cols 99 </dev/tty' USR2; trap 'echo SYS' SYS; trap 'exit 7' USR1; \
        sleep 1000 & echo up; while :; do wait; done";
    let args = ["run", "sh", "-c", script];
    let and = r"Ctrl-C, Ctrl-\, and a terminal that becomes wider";
    let command = and_then(program, &args, and);
    let mut terminal = program.terminal(args).during(&command)?;
    terminal.expect("up\r\n").during(&command)?;
    let tree = terminal.tree().during(&command)?;
    let Some((init, shell)) = tree.pid_1().and_then(|init| Some((init, init.children.first()?)))
    else {
        let expected = "a process that is PID 1 inside the container, and its child";
        return ensure(false, &command, expected, tree.text());
    };
    let (run, init, shell) = (terminal.pid(), init.pids[0], shell.pids[0]);
    let sent =
        [(CTRL_C, Signal::SIGINT), (CTRL_BACKSLASH, Signal::SIGQUIT), ("", Signal::SIGWINCH)];
    let name = |signal: Signal| signal.as_str().trim_start_matches("SIG");
    for (key, signal) in sent {
        for pid in [run, init] {
            send(pid, Signal::SIGSTOP, &command)?;
            let stopped = terminal.wait_for_tree(|tree| is_stopped(tree, pid));
            stopped.expecting(&command, "SIGSTOP stops `run` and `init`")?;
        }
        match key {
            // The shell changes the size.
            "" => send(shell, Signal::SIGUSR2, &command)?,
            key => terminal.send_keys(key).during(&command)?,
        }
        let wanted = format!("the line {}, from the command's trap", name(signal));
        let line = format!("{}\r\n", name(signal));
        terminal.expect(&line).expecting(&command, &wanted)?;
        for pid in [init, run] {
            send(pid, Signal::SIGCONT, &command)?;
            let taken = terminal.wait_for_tree(|_| !has_signal(pid, "ShdPnd", signal));
            let wanted = format!("`run` and `init` read the {signal} that is pending");
            taken.expecting(&command, &wanted)?;
        }
        // SIGSYS takes the same way, so it arrives after every copy. A shell runs the trap of the lowest number first.
        send(run, Signal::SIGSYS, &command)?;
        let more = terminal.expect("SYS\r\n").expecting(&command, "SIGSYS reaches the command")?;
        let count = 1 + more.matches(&line).count();
        let actual = format!("{signal} arrives {count} times");
        ensure(count == 1, &command, format!("the command gets {signal} once"), actual)?;
    }
    send(run, Signal::SIGUSR1, &command)?;
    let (exit, _) = terminal.end().expecting(&command, "exit status 7, after SIGUSR1")?;
    ensure_exits(&command, &exit, 7, "")?;
    ensure_clean(&command, &exit)
}

/// While the output stands still, `run` waits in the middle of `run PID`. Ctrl-C starts the output again.
pub(super) fn early_ctrl_c_reaches_command(program: &Program) -> CheckResult {
    let args = ["run", "sleep", "1000"];
    let command = and_then(program, &args, "Ctrl-C while `run` prints its PID");
    let shell = program.script("read go; exec \"$0\" run sleep 1000");
    let mut terminal = Terminal::start(shell).during(&command)?;
    terminal.send_keys(&format!("{CTRL_S}\r")).during(&command)?;
    let pid = terminal.pid();
    let blocked = terminal.wait_for_tree(|_| has_signal(pid, "SigBlk", Signal::SIGINT));
    blocked.expecting(&command, "`run` blocks SIGINT before it prints its PID")?;
    terminal.send_keys(CTRL_C).during(&command)?;
    let (exit, _) = terminal.end().expecting(&command, "exit status 130")?;
    ensure_exits(&command, &exit, 130, "")?;
    ensure_clean(&command, &exit)
}

/// A shell waits for `run`, so a command that stops has to stop `run`.
pub(super) fn stopped_command_stops_run(program: &Program) -> CheckResult {
    for signal in ["STOP", "TSTP"] {
        let script = format!("echo up; kill -{signal} $$; exit 7");
        let args = ["run", "sh", "-c", &script];
        let command = command_line(program, &args);
        let session = start(program, &args, &command)?;
        session
            .wait_for_tree(|tree| tree.root.state == 'T')
            .map_err(|error| CheckFailure::new(&command, "`run` stops, too", error.to_string()))?;
        let group = Pid::from_raw(session.pid());
        killpg(group, Signal::SIGCONT).context("killpg").during(&command)?;
        let (exit, _) = session.wait().expecting(&command, "exit status 7 after SIGCONT")?;
        ensure_exits(&command, &exit, 7, " after SIGCONT")?;
        ensure_clean(&command, &exit)?;
    }
    stops_run_after_late_ctrl_z(program)
}

/// If the terminal's SIGTSTP is still pending in `run`, the SIGTSTP that `init` sends is lost. ptrace(2) holds `run`
/// still until both were sent. Without ptrace(2), this machine can't show that.
fn stops_run_after_late_ctrl_z(program: &Program) -> CheckResult {
    if Requirement::Tool("bash").check().is_err() {
        return Ok(());
    }
    let args = ["run", "sh", "-c", "echo up; exec sleep 1000"];
    let line = command_line(program, &args);
    let command = format!(
        "{line}{AND}and Ctrl-Z. In `run`, the terminal's SIGTSTP is still pending when that of `init` comes"
    );
    let mut terminal = start_in_bash(program, &line, "\nup\r\n", &command)?;
    let [run, init] = run_and_init(&terminal, &command)?;
    let Ok(held) = Held::at_once(run) else { return Ok(()) };
    terminal.send_keys(CTRL_Z).during(&command)?;
    let is_told = |tree: &ProcessTree| {
        let processes = tree.processes();
        let stopped = processes.last().is_some_and(|command| command.state == 'T');
        stopped && is_idle(init)
    };
    let told = terminal.wait_for_tree(is_told);
    told.expecting(&command, "Ctrl-Z stops the command, and `init` reads its signals")?;
    drop(held);
    terminal.expect("Stopped").expecting(&command, "`run` stops, too")?;
    terminal.expect(PROMPT).during(&command)?;
    send(run, Signal::SIGKILL, &command)?;
    let gone = terminal.wait_for_tree(|tree| tree.root.children.is_empty());
    gone.expecting(&command, "SIGKILL to `run` ends the container")?;
    exit_bash(terminal, &command)
}

/// If only `run` stopped, the shell that waits for `run` would take the terminal from a command that uses it.
pub(super) fn command_that_ignores_ctrl_z_keeps_terminal(program: &Program) -> CheckResult {
    let script = r#"trap "" TSTP; echo up; read line </dev/tty; echo got $line"#;
    let line = command_line(program, &["run", "sh", "-c", script]);
    let command = format!("{line}{AND}and Ctrl-Z, then `a line` typed at the terminal");
    let mut terminal = start_in_bash(program, &line, "\nup\r\n", &command)?;
    let [run, init] = run_and_init(&terminal, &command)?;
    terminal.send_keys(CTRL_Z).during(&command)?;
    // The terminal sends the signal first, and then shows the key.
    terminal.expect("^Z").during(&command)?;
    // At last `run` again, because `init` may have sent it a signal after the first look.
    let taken = |tree: &ProcessTree| {
        is_stopped(tree, run) || [run, init, run].iter().all(|pid| is_idle(*pid))
    };
    let tree = terminal.wait_for_tree(taken);
    let tree = tree.expecting(&command, "`run` and `init` read the SIGTSTP of the terminal")?;
    let expected = "the command ignores Ctrl-Z, so `run` doesn't stop";
    let actual = format!("`run` is stopped\n{}", tree.text());
    ensure(!is_stopped(&tree, run), &command, expected, actual)?;
    terminal.send_keys("a line\r").during(&command)?;
    terminal.expect("\ngot a line\r\n").expecting(&command, "the command reads the line")?;
    terminal.expect(PROMPT).during(&command)?;
    exit_bash(terminal, &command)
}

/// `fg` gives the terminal to the process group of `run`. A bash inside has its own.
pub(super) fn fg_after_suspend_resumes_shell_inside(program: &Program) -> CheckResult {
    let args = [&["run", "--ti", "bash"], &BASH[..]].concat();
    let line = command_line(program, &args);
    let command = format!("{line}{AND}then `suspend` in that shell, and `fg` in yours");
    let mut terminal = start_in_bash(program, &line, "container: ", &command)?;
    terminal.expect(PROMPT).during(&command)?;
    for (line, answer) in [
        ("suspend", "Stopped"),
        ("fg", "run --ti"),
        ("echo below PID $PPID", "\nbelow PID 1\r\n"),
        ("exit", "exit\r\n"),
    ] {
        terminal.send_keys(&format!("{line}\r")).during(&command)?;
        terminal.expect(answer).during(&command)?;
        terminal.expect(PROMPT).during(&command)?;
    }
    exit_bash(terminal, &command)
}

/// An interactive bash takes the terminal for its own process group, which is gone when it has exited.
pub(super) fn script_reads_terminal_after_run(program: &Program) -> CheckResult {
    let run = "run --ti bash --norc -ic true; read line; echo got $line";
    let command =
        format!("{} {run}{AND}in a script, with `a line` typed at the terminal", program.name());
    let shell = program.script(&format!("\"$0\" {run}"));
    let mut terminal = Terminal::start(shell).during(&command)?;
    terminal.send_keys("a line\r").during(&command)?;
    let (exit, printed) = terminal.end().during(&command)?;
    let read = printed.ends_with("\ngot a line\r\n");
    ensure(read, &command, "got a line, because the script can read the terminal", printed)?;
    ensure_clean(&command, &exit)
}

/// A shell has the terminal while a background job runs. `run` can take it, because `run` blocks the SIGTTOU with
/// which the kernel would stop any other process that tries.
pub(super) fn background_run_leaves_terminal_to_shell(program: &Program) -> CheckResult {
    let line = format!("{} &", command_line(program, &["run", "echo", "up"]));
    // bash's prompt may be on the same line as the command's output.
    let terminal = start_in_bash(program, &line, "up\r\n", &line)?;
    // bash may reap the job only when it asks for the next line.
    let gone = |tree: &ProcessTree| tree.root.children.iter().all(|job| job.state == 'Z');
    let gone = terminal.wait_for_tree(gone);
    let shell = Stat::of(terminal.pid()).filter(|shell| shell.state != 'Z');
    let actual = match shell {
        Some(shell) if shell.foreground == shell.pgrp => {
            gone.expecting(&line, "`run` exits").map(drop)?;
            String::new()
        }
        Some(shell) => format!("process group {} is in the foreground", shell.foreground),
        None => "the shell can no longer read from the terminal, and exits".to_owned(),
    };
    let expected = "the shell's process group is still in the foreground";
    ensure(actual.is_empty(), &line, expected, actual)?;
    exit_bash(terminal, &line)
}
