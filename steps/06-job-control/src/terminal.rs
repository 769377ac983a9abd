//! Used by `run` and `init`: what a shell expects of a job on its terminal.

use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};

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
    let peek = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(command), peek) {
        // `run` has no PID inside, but it is in our process group.
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    }
}
// ANCHOR_END: propagate_stop

// ANCHOR: give_terminal_to
/// Run by `init`: after `fg`, the foreground process group is ours. If the command
/// is a shell that made its own group, the terminal has to go there.
pub fn give_terminal_to(command: Pid) {
    let Ok(mut terminal) = File::open("/dev/tty") else { return };
    // In the background, even a read of 0 bytes fails.
    if terminal.read(&mut []).is_ok() {
        let _ = getpgid(Some(command)).map(|group| tcsetpgrp(&terminal, group));
    }
}
// ANCHOR_END: give_terminal_to

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
