//! The checks that step 04 adds: `init` stays, reaps, and passes on the command's exit status.

use std::cell::{Cell, RefCell};
use std::fs;
use std::time::{Duration, Instant};

use harness::{Process, ProcessTree, Program, procfs};

use super::result::{
    CheckFailure, CheckResult, During, RunOutput, command_line, prints, run, run_script,
};

/// `init` stays, and the command has a parent in the container.
pub(super) fn command_is_child_of_init(program: &Program) -> CheckResult {
    prints(program, &["sh", "-c", "echo $PPID"], "1\n")
}

/// The container doesn't outlive the command, and an orphan doesn't outlive the container.
pub(super) fn command_exit_ends_container(program: &Program) -> CheckResult {
    let args = ["run", "sh", "-c", "(sleep 1000 &); exit 7"];
    run(program, args)?.has_status(7).map(drop)
}

/// 128 plus the signal's number, even if nix has no name for the signal.
pub(super) fn command_killed_by_signal_34_exits_162(program: &Program) -> CheckResult {
    run_script(program, "kill -34 $$")?.has_status(162).map(drop)
}

/// Runs an orphan, and waits until PID 1 has reaped it. A zombie still has its PID, so `kill -0` finds it. If the
/// command is PID 1, its shell may reap by chance. The status shows that the orphan's death didn't end the container.
fn is_reaped(program: &Program, orphan: &str, event: &str) -> CheckResult {
    let script = format!(
        "pid=$( ({orphan} &) ); n=0; \
         while kill -0 $pid 2>/dev/null && [ $n -lt 100 ]; do sleep 0.02; n=$((n+1)); done; \
         kill -0 $pid 2>/dev/null && echo still a zombie || echo reaped by $PPID; exit 7"
    );
    let note = format!("{event}: does its PID vanish within two seconds?");
    run_script(program, &script)?.noting(&note).has_stdout(b"reaped by 1\n")?.has_status(7)?;
    Ok(())
}

/// No zombie stays.
pub(super) fn dead_orphan_is_reaped(program: &Program) -> CheckResult {
    is_reaped(program, "sh -c 'echo $$'", "an orphan exits")
}

/// While nothing happens, `run` and `init` sleep, and don't ask again and again.
pub(super) fn idle_container_uses_no_cpu(program: &Program) -> CheckResult {
    let args = ["run", "--ti", "sh"];
    let command = command_line(program, &args);
    let session = program.session(args).during(&command)?;
    // The times on a processor don't change while a busy process waits for a processor, but then its state is R. The
    // state alone isn't enough: in state S, a process may only be about to sleep. The third value grows whenever the
    // process sleeps.
    let used = |tree: &ProcessTree| {
        let ours = tree.processes().into_iter().filter(|process| !process.children.is_empty());
        let line = |process: &Process| {
            let pid = process.pids[0];
            let times = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
            (process.state, times, procfs::status_field(pid, "voluntary_ctxt_switches"))
        };
        ours.map(line).collect::<Vec<_>>()
    };
    // On a slow machine, one round of a loop that polls takes longer.
    let quiet = (program.timeout() / 20).clamp(Duration::from_millis(200), Duration::from_secs(1));
    let last = RefCell::new((Instant::now(), Vec::new()));
    let (busy, slept) = (Cell::new(""), Cell::new(Instant::now()));
    let is_quiet = |tree: &ProcessTree| {
        // The quiet time ends before this look and begins after an earlier one, however long a look takes.
        let at = Instant::now();
        let (mut last, now) = (last.borrow_mut(), used(tree));
        if last.1 != now || now.iter().any(|(state, ..)| *state != 'S') {
            let run_sleeps = now.first().is_some_and(|(state, ..)| *state == 'S');
            let is_init = run_sleeps && last.1.first() == now.first();
            busy.set(if is_init { "`init`" } else { "`run`" });
            let index = usize::from(is_init);
            if last.1.get(index).map(|(.., sleeps)| sleeps)
                != now.get(index).map(|(.., sleeps)| sleeps)
            {
                slept.set(at);
            }
            *last = (Instant::now(), now);
        }
        at.saturating_duration_since(last.0) > quiet
    };
    session.wait_for_tree(is_quiet).map(drop).map_err(|error| CheckFailure {
        command,
        expected: "`run` and `init` sleep while the command waits for input".to_owned(),
        actual: match busy.get() {
            "" => error.to_string(),
            // A process that only starts up slowly doesn't sleep in the second half.
            busy if slept.get().elapsed() < program.timeout() / 2 => {
                format!("{busy} wakes up again and again, although nothing happens")
            }
            busy => format!("{busy} uses the CPU all the time"),
        },
    })
}

/// No zombie stays either if nix, or another library, has no name for the signal.
pub(super) fn orphan_killed_by_signal_34_is_reaped(program: &Program) -> CheckResult {
    is_reaped(program, "sh -c 'echo $$; kill -34 $$'", "signal 34 kills an orphan")?;
    keeps_status(program, "34")
}

/// The command's status isn't lost among those of orphans that die at the same time.
pub(super) fn orphan_deaths_keep_command_status(program: &Program) -> CheckResult {
    keeps_status(program, "KILL")
}

/// Kills a hundred orphans at once. If the command itself is PID 1, its status can't be lost.
fn keeps_status(program: &Program, signal: &str) -> CheckResult {
    // Learners type this. In a container that doesn't work, `kill -1` would kill all that they run.
    let script = format!(
        "echo child of $PPID; pids=; n=0; while [ $n -lt 100 ]; do \
         pids=\"$pids $( (sleep 1000 >&- & echo $!) )\"; n=$((n+1)); done; kill -{signal} $pids; exit 42"
    );
    let note = format!("signal {signal} kills a hundred orphans, and the command exits with 42");
    run_script(program, &script)?.noting(&note).has_stdout(b"child of 1\n")?.has_status(42)?;
    Ok(())
}

/// A parent that ignores SIGCHLD gets no status, so `run` doesn't start anything.
pub(super) fn ignored_sigchld_is_refused(program: &Program) -> CheckResult {
    let args = ["run", "sh", "-c", "sleep 1000 & exit 7"];
    let command = format!("env --ignore-signal=CHLD {}", command_line(program, &args));
    let env = ["env", "--ignore-signal=CHLD"];
    RunOutput::of(command, program.supervise(args).wrapped_by(&env))?
        .has_status(125)?
        .has_in_stderr("run: SIGCHLD is ignored")
        .map(drop)
}
