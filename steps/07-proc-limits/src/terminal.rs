//! Used by `run` and `init`: what a shell expects of a job on its terminal.

use std::fs::File;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::error::{Context, Result};

// ANCHOR: stop_self
/// Run by `run`: stops, as we would have if the signal weren't blocked. The
/// shell that started us waits for that before it takes the terminal.
pub fn stop_self(signal: Signal) -> Result<()> {
    let mask: SigSet = [signal].into_iter().collect();
    raise(signal).and(mask.thread_unblock()).context("raise")?;
    // We are running again, so SIGCONT came: it is the next signal to forward.
    mask.thread_block().context("sigprocmask")
}
// ANCHOR_END: stop_self

// ANCHOR: propagate_stop
/// Run by `init`: if the command stopped, stops `run` too. The shell that started
/// `run` doesn't know the command, so it waits until `run` stops.
pub fn propagate_stop(command: Pid) {
    let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(command), stopped) {
        // `run` has no PID inside, but it is in our process group.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    }
}
// ANCHOR_END: propagate_stop

// ANCHOR: reclaim_terminal
/// Run by `run`: a shell in the container makes its own process group the
/// foreground one. When that group is gone, the terminal is ours again.
pub fn reclaim_terminal() {
    let Ok(terminal) = File::open("/dev/tty") else { return };
    let foreground = tcgetpgrp(&terminal);
    if foreground.is_ok_and(|group| killpg(group, None) == Err(Errno::ESRCH)) {
        let _ = tcsetpgrp(&terminal, getpgrp());
    }
}
// ANCHOR_END: reclaim_terminal
