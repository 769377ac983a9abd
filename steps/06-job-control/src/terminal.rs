//! Used by `run` and `init` to stop `run` when the command stops, and to share the
//! terminal with the command, as a shell expects of its jobs.

use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::error::{Context, Result};

// ANCHOR: stop_self
/// Stops the calling process (`run`), as the signal would have done if we hadn't
/// blocked it. The shell that started `run` prints its prompt only after `run`
/// stops.
pub fn stop_self(signal: Signal) -> Result<()> {
    let only: SigSet = [signal].into_iter().collect();
    raise(signal).context("raise")?;
    only.thread_unblock().context("sigprocmask")?;
    // We were stopped in the line above until a SIGCONT resumed us. A blocked
    // SIGCONT still resumes a process, but it also stays pending, so `next_signal`
    // reads it, and we forward it.
    only.thread_block().context("sigprocmask")
}
// ANCHOR_END: stop_self

// ANCHOR: propagate_stop
/// Stops `run` if the command is stopped. The shell that started `run` isn't the
/// command's parent, so it can only see `run` stop. `init` calls this.
pub fn propagate_stop(command: Pid) {
    let peek = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(command), peek) {
        // `run` has no PID inside the container, but it is in our process group.
        // PID 0 means that group.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    }
}
// ANCHOR_END: propagate_stop

// ANCHOR: give_terminal_to
/// Gives the terminal to the command's process group if our group is in the
/// foreground. That's the case after `fg`, but a shell in the container has its own
/// group, and that group needs the terminal. `init` calls this.
pub fn give_terminal_to(command: Pid) {
    let Ok(mut terminal) = File::open("/dev/tty") else { return };
    // Our group has no ID inside the container, so tcgetpgrp can't tell us whether
    // it is in the foreground. But in the background, even a read of 0 bytes fails.
    if terminal.read(&mut []).is_ok() {
        let _ = getpgid(Some(command)).map(|group| tcsetpgrp(&terminal, group));
    }
}
// ANCHOR_END: give_terminal_to

// ANCHOR: reclaim_terminal
/// Takes the terminal back if the foreground process group no longer exists. A
/// shell in the container makes its own group the foreground one, and might exit
/// without changing that back. `run` calls this.
pub fn reclaim_terminal() {
    let Ok(terminal) = File::open("/dev/tty") else { return };
    let foreground = tcgetpgrp(&terminal);
    // With None, killpg sends no signal, but fails if the group doesn't exist
    // (ESRCH).
    if foreground.is_ok_and(|group| killpg(group, None) == Err(Errno::ESRCH)) {
        let _ = tcsetpgrp(&terminal, getpgrp());
    }
}
// ANCHOR_END: reclaim_terminal
