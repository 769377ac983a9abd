//! The checks that step 05 adds: `run` and `init` forward signals to the command, and are invisible otherwise.

use std::io::{BufRead, BufReader, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use harness::{Context, Held, Program, Session, full_pipe};
use nix::sys::signal::Signal;

use super::result::{
    AND, CheckResult, During, RunOutput, command_line, ensure, ensure_clean, ensure_exits,
    how_it_died, send,
};

/// A command that handles SIGTERM, and lives until it comes.
const HANDLER: [&str; 4] =
    ["run", "sh", "-c", "trap 'exit 42' TERM; sleep 1000 </dev/null & echo up; wait"];

const TRAP: &str = ", from the command's trap";

fn and_then(program: &Program, args: &[&str], and: &str) -> String {
    format!("{}{AND}and {and}", command_line(program, args))
}

fn start(program: &Program, args: &[&str], command: &str) -> CheckResult<Session> {
    Session::ready(program.supervise(args), "up").expecting(command, "the command prints up")
}

/// Waits for the exit status of a command that handles SIGTERM.
fn exits_with_42(session: Session, command: &str) -> CheckResult {
    let (exit, _) = session.wait().expecting(command, &format!("exit status 42{TRAP}"))?;
    ensure_exits(command, &exit, 42, TRAP)
}

/// `exec` leaves the signals in its options blocked, and unblocks the others before it becomes the command.
pub(super) fn exec_restores_the_signal_mask(program: &Program) -> CheckResult {
    let args = ["exec", "--blocked=SIGUSR1", "--", "grep", "SigBlk", "/proc/self/status"];
    let env = ["env", "--block-signal=TERM,USR1"];
    let command = format!("{} {}", env.join(" "), command_line(program, &args));
    let output = RunOutput::of(command, program.supervise(args).wrapped_by(&env))?;
    output.has_status(0)?.has_stdout(b"SigBlk:\t0000000000000200\n").map(drop)
}

/// A process outside signals the process that it sees as the container.
pub(super) fn signal_to_pid_1_reaches_command(program: &Program) -> CheckResult {
    let command = and_then(program, &HANDLER, "SIGTERM to PID 1");
    let session = start(program, &HANDLER, &command)?;
    let tree = session.tree().during(&command)?;
    let [init] = &tree.root.children[..] else {
        return ensure(
            false,
            command,
            "the process `run`, and one child, which is `init`",
            tree.text(),
        );
    };
    send(init.pids[0], Signal::SIGTERM, &command)?;
    exits_with_42(session, &command)
}

/// A user signals the process that they started.
pub(super) fn signal_to_run_reaches_command(program: &Program) -> CheckResult {
    let command = and_then(program, &HANDLER, "SIGTERM to `run`");
    let session = start(program, &HANDLER, &command)?;
    session.signal(Signal::SIGTERM).during(&command)?;
    exits_with_42(session, &command)
}

/// A command that counts would notice a second copy.
pub(super) fn each_signal_arrives_once(program: &Program) -> CheckResult {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH};
    let sent = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGALRM, SIGTERM, SIGWINCH, SIGURG, SIGUSR2];
    let name = |signal: Signal| signal.as_str().trim_start_matches("SIG");
    let trap = |signal: &Signal| format!("trap 'echo {0}' {0}; ", name(*signal));
    let traps: String = sent.iter().map(trap).collect();
    let script = traps + "sleep 1000 & echo up; while :; do wait $!; done";
    let args = ["run", "sh", "-c", &script];
    let command = and_then(program, &args, "each of these signals to `run`");
    let session = start(program, &args, &command)?;
    for signal in sent {
        session.signal(signal).during(&command)?;
        let wanted = format!("the line {}, from the command's trap", name(signal));
        let line = session.next_line().expecting(&command, &wanted)?;
        ensure(line == name(signal), &command, wanted, line)?;
    }
    session.signal(Signal::SIGKILL).during(&command)?;
    ensure_clean(&command, &session.wait().during(&command)?.0)
}

/// From the moment its PID is printed, `run` may be signaled: before `init` exists, while it starts, while it
/// starts the command.
pub(super) fn no_signal_is_lost_at_startup(program: &Program) -> CheckResult {
    for round in 0..40 {
        let delay = Duration::from_micros(round * 150);
        let args = ["run", "sleep", "1000"];
        let and = format!("SIGTERM to `run` {} µs after it printed its PID", delay.as_micros());
        let command = and_then(program, &args, &and);
        let (stderr, to_stderr) = pipe().context("pipe").during(&command)?;
        let running = program.supervise(args);
        let running =
            running.start(Stdio::null(), Stdio::null(), to_stderr.into()).during(&command)?;
        let mut line = String::new();
        let mut stderr = BufReader::new(stderr);
        stderr.read_line(&mut line).context("read").during(&command)?;
        ensure(line.starts_with("run PID: "), &command, "the first line: run PID: N", &line)?;
        // The moment is what varies here, so there's no event to wait for.
        sleep(delay);
        send(running.pid(), Signal::SIGTERM, &command)?;
        let exit = running.wait_with_timeout(program.timeout()).during(&command)?;
        let actual = match exit.timed_out {
            Some(_) => "SIGTERM is lost, and the command keeps running".to_owned(),
            None if exit.status.signal() == Some(15) => "SIGTERM kills `run`".to_owned(),
            None => how_it_died(exit.status),
        };
        let expected = "exit status 143, because SIGTERM kills the command and not `run`";
        ensure(exit.status.code() == Some(143), &command, expected, actual)?;
        ensure_clean(&command, &exit)?;
    }
    Ok(())
}

/// If standard error is a pipe without a reader, writing to it makes the kernel send SIGPIPE to the writer. The
/// command wrote nothing. `run` stands still until the command has started, because the `exec` stage would discard
/// a SIGPIPE that comes earlier.
pub(super) fn own_sigpipe_is_not_forwarded(program: &Program) -> CheckResult {
    // `run` takes SIGPIPE first, because it has the lower number.
    let script = "trap 'exit 42' URG; sleep 1000 </dev/null & echo up; wait";
    let args = ["run", "sh", "-c", script];
    let and = "SIGURG to `run`, whose standard error is a pipe without a reader";
    let command = and_then(program, &args, and);
    let (reader, to_stderr) = full_pipe().during(&command)?;
    let session = Session::with_stderr(program.supervise(args), to_stderr).during(&command)?;
    // Without ptrace(2) this machine can't show the fault in every run.
    let held = Held::before_it_waits(session.pid(), || drop(reader));
    // A step may need its `run` before the command can start.
    let line = session.next_line_within(program.timeout() / 4);
    drop(held);
    let line = line.map_or_else(|| session.next_line(), Ok).during(&command)?;
    ensure(line == "up", &command, "the command prints up", line)?;
    session.signal(Signal::SIGURG).during(&command)?;
    exits_with_42(session, &command)
}

/// A shell that started `run` waits until `run` stops. The terminal signals the command, too, so nothing is forwarded.
pub(super) fn stop_signal_stops_run(program: &Program) -> CheckResult {
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        let args = ["run", "sh", "-c", "echo up; exec sleep 1000"];
        let command = and_then(program, &args, &format!("{signal} to `run`, then SIGCONT"));
        let session = start(program, &args, &command)?;
        session.signal(signal).during(&command)?;
        let stopped = session.wait_for_tree(|tree| tree.root.state == 'T');
        stopped.expecting(&command, &format!("{signal} stops `run` (state T)"))?;
        session.signal(Signal::SIGCONT).during(&command)?;
        let resumed = session.wait_for_tree(|tree| tree.root.state == 'S');
        resumed.expecting(&command, "SIGCONT resumes `run` (state S)")?;
        session.signal(Signal::SIGKILL).during(&command)?;
        ensure_clean(&command, &session.wait().during(&command)?.0)?;
    }
    Ok(())
}

/// A reader sees EOF when the command has closed its end, and not only when `run` and `init` exit.
pub(super) fn pipe_closed_by_command_is_closed(program: &Program) -> CheckResult {
    let command = "echo words; exec >&- 8>&-; exec sleep 1000";
    let script = format!(
        "rm -f out; mkfifo out; \"$0\" run sh -c '{command}' >out 2>/dev/null 8>&1 & \
         cat out; kill -KILL $!; wait; rm out"
    );
    let run = command_line(program, &["run", "sh", "-c", command]);
    let shell = program.script(&script);
    let output = RunOutput::of(format!("mkfifo out; {run} >out 8>&1 & cat out"), shell)?;
    ensure(
        output.stdout == b"words\n",
        output.command.clone(),
        "cat prints words, and exits",
        output.text(),
    )?;
    Ok(())
}
