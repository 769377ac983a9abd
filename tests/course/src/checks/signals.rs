//! The checks that step 05 adds: `run` and `init` forward signals to the command, and are invisible otherwise.

use std::io::{BufRead, BufReader, copy, pipe, sink};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread::{self, sleep};
use std::time::Duration;

use harness::procfs::{Stat, has_signal};
use harness::{Context, Exit, Held, ProcessTree, Program, Session, full_pipe};
use nix::sys::signal::Signal;

use super::result::{
    CheckFailure, CheckResult, During, RunOutput, and_then, command_line, ensure, ensure_clean,
    ensure_exits, how_it_died, send, start,
};

/// A command that handles SIGTERM, and lives until it comes.
const HANDLER: [&str; 4] =
    ["run", "sh", "-c", "trap 'exit 42' TERM; sleep 1000 </dev/null & echo up; wait"];

const TRAP: &str = ", from the command's trap";

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

/// Sends SIGTERM to a process, and waits for the exit status of the command that handles it. A command that has the
/// signal blocked can't, and nothing else shows that.
fn sigterm_leads_to_42(session: Session, pid: i32, command: &str) -> CheckResult {
    let tree = session.tree().during(command)?;
    let child = tree.pid_1().and_then(|init| init.children.first());
    let blocks = child.is_some_and(|child| has_signal(child.pids[0], "SigBlk", Signal::SIGTERM));
    send(pid, Signal::SIGTERM, command)?;
    exits_with_42(session, command).map_err(|mut failure| {
        if blocks {
            failure.actual += "\nThe command still blocks SIGTERM, so its trap can't run.";
        }
        failure
    })
}

/// Finds `init` among the processes of a session, and returns its PID.
fn init_in(session: &Session, command: &str) -> CheckResult<i32> {
    let tree = session.tree().during(command)?;
    let expected = "the process `run`, and one child, which is `init`";
    match &tree.root.children[..] {
        [init] => Ok(init.pids[0]),
        _ => Err(CheckFailure::new(command, expected, tree.text())),
    }
}

/// A process outside signals the process that it sees as the container.
pub(super) fn signal_to_pid_1_reaches_command(program: &Program) -> CheckResult {
    let command = and_then(program, &HANDLER, "SIGTERM to PID 1");
    let session = start(program, &HANDLER, &command)?;
    let init = init_in(&session, &command)?;
    sigterm_leads_to_42(session, init, &command)
}

/// The processes in the container whose parent has died, as the children of `init`. Its first child is the command.
fn orphans(tree: &ProcessTree) -> Vec<i32> {
    let children = tree.root.children.first().map_or(&[][..], |init| &init.children);
    children.iter().skip(1).map(|orphan| orphan.pids[0]).collect()
}

/// An `init` that waits for the next death reads no signal until then.
pub(super) fn signal_after_orphan_death_reaches_command(program: &Program) -> CheckResult {
    let script = "trap 'exit 42' TERM; (sleep 1000 </dev/null &); \
        sleep 1000 </dev/null & echo up; wait";
    let args = ["run", "sh", "-c", script];
    let command = and_then(program, &args, "SIGKILL to the orphan, then SIGTERM to PID 1");
    let session = start(program, &args, &command)?;
    let init = init_in(&session, &command)?;
    let adopted = session.wait_for_tree(|tree| orphans(tree).len() == 1);
    let adopted = adopted.expecting(&command, "`init` has two children: sh, and the orphan")?;
    send(orphans(&adopted)[0], Signal::SIGKILL, &command)?;
    let reaped = session.wait_for_tree(|tree| orphans(tree).is_empty());
    reaped.expecting(&command, "`init` reaps the orphan")?;
    sigterm_leads_to_42(session, init, &command)
}

/// Pending SIGCHLDs merge into one. `init` is stopped until every orphan is dead, so one SIGCHLD stands for all of the
/// deaths.
pub(super) fn reaps_orphans_that_die_together(program: &Program) -> CheckResult {
    let script = "for n in 1 2 3 4; do (sleep 1000 &); done; echo up; exec sleep 1000";
    let args = ["run", "sh", "-c", script];
    let and = "SIGKILL to the four orphans while `init` is stopped, then SIGCONT to `init`";
    let command = and_then(program, &args, and);
    let session = start(program, &args, &command)?;
    let init = init_in(&session, &command)?;
    let is_in_state = |pid: i32, state| Stat::of(pid).is_some_and(|stat| stat.state == state);
    let adopted = session.wait_for_tree(|tree| orphans(tree).len() == 4);
    let adopted =
        adopted.expecting(&command, "`init` has five children: sleep, and four orphans")?;
    send(init, Signal::SIGSTOP, &command)?;
    let stopped = session.wait_for_tree(|_| is_in_state(init, 'T'));
    stopped.expecting(&command, "SIGSTOP stops `init`")?;
    for orphan in orphans(&adopted) {
        send(orphan, Signal::SIGKILL, &command)?;
    }
    let dead = |_: &ProcessTree| orphans(&adopted).iter().all(|pid| is_in_state(*pid, 'Z'));
    session.wait_for_tree(dead).expecting(&command, "SIGKILL kills the orphans")?;
    send(init, Signal::SIGCONT, &command)?;
    let reaped = session.wait_for_tree(|tree| orphans(tree).is_empty());
    reaped.expecting(&command, "`init` reaps all four, although it gets one SIGCHLD")?;
    session.signal(Signal::SIGKILL).during(&command)?;
    ensure_clean(&command, &session.wait().during(&command)?.0)
}

/// A user signals the process that they started.
pub(super) fn signal_to_run_reaches_command(program: &Program) -> CheckResult {
    let command = and_then(program, &HANDLER, "SIGTERM to `run`");
    let session = start(program, &HANDLER, &command)?;
    let run = session.pid();
    sigterm_leads_to_42(session, run, &command)
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
    signal_in_first_line_isnt_lost(program)?;
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
        ensure_sigterm_kills_command(&command, &exit)?;
    }
    Ok(())
}

fn ensure_sigterm_kills_command(command: &str, exit: &Exit) -> CheckResult {
    let actual = match exit.timed_out {
        Some(_) => "SIGTERM is lost, and the command keeps running".to_owned(),
        None if exit.status.signal() == Some(15) => "SIGTERM kills `run`".to_owned(),
        None => how_it_died(exit.status),
    };
    let expected = "exit status 143, because SIGTERM kills the command and not `run`";
    ensure(exit.status.code() == Some(143), command, expected, actual)?;
    ensure_clean(command, exit)
}

/// The line `run PID: N` can be read before the call that writes it returns. In a pipe that is full, `run` stands still
/// in that call.
fn signal_in_first_line_isnt_lost(program: &Program) -> CheckResult {
    let args = ["run", "sleep", "1000"];
    let and = "SIGTERM to `run` while it prints its PID into a pipe that is full";
    let command = and_then(program, &args, and);
    let (mut reader, to_stderr) = full_pipe().during(&command)?;
    let running = program.supervise(args).start(Stdio::null(), Stdio::null(), to_stderr.into());
    let running = running.during(&command)?;
    let run = running.pid();
    // A program in another language may handle signals, instead of blocking and reading them.
    let is_ready = |_: &ProcessTree| {
        ["SigBlk", "SigCgt"].iter().any(|mask| has_signal(run, mask, Signal::SIGTERM))
    };
    running.wait_for_tree(is_ready).map_err(|error| {
        let actual = match Stat::of(run) {
            Some(_) => "`run` prints its PID, and SIGTERM would kill it".to_owned(),
            None => error.to_string(),
        };
        CheckFailure::new(&command, "`run` blocks SIGTERM before it prints its PID", actual)
    })?;
    send(run, Signal::SIGTERM, &command)?;
    let drain = thread::Builder::new().spawn(move || copy(&mut reader, &mut sink()));
    drain.context("start a thread").during(&command)?;
    let exit = running.wait_with_timeout(program.timeout()).during(&command)?;
    ensure_sigterm_kills_command(&command, &exit)
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
         cat out; kill -KILL $! 2>/dev/null; wait $!; echo \"exit status $?\" >&2; rm out"
    );
    let run = command_line(program, &["run", "sh", "-c", command]);
    let shell = program.script(&script);
    let output = RunOutput::of(format!("mkfifo out; {run} >out 8>&1 & cat out"), shell)?;
    let text = output.text();
    let actual = match (text.as_str(), output.stderr.lines().last()) {
        ("", Some(status)) => format!("cat prints nothing, and `run` has {status}"),
        _ => text,
    };
    let printed = output.stdout == b"words\n";
    ensure(printed, &output.command, "cat prints words, and exits", actual)
}
