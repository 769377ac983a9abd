//! Run by `init`, inside: what PID 1 owes the others while the command runs.

use std::process::{Child, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::Failure;
use crate::both::{exit_code, next_signal};

// ANCHOR: reap_and_forward
/// Take one signal after the other, until the command has ended.
pub fn reap_and_forward(mut command: Child, foreground: bool) -> Result<ExitCode, Failure> {
    let pid = Pid::from_raw(command.id().cast_signed());
    loop {
        match next_signal()? {
            Signal::SIGCHLD => match reap(&mut command) {
                Some(code) => return Ok(code),
                None if foreground => stop_too(pid),
                None => {}
            },
            // The shell sends CONT to our whole group. But first `run` has to see
            // to the terminal; then it sends CONT to the command itself.
            Signal::SIGCONT if foreground => {}
            signal => forward(signal, pid),
        }
    }
}
// ANCHOR_END: reap_and_forward

// ANCHOR: reap
/// Wait for all that are dead. Signals do not queue up: if ten children die
/// while we are busy, we get one SIGCHLD.
fn reap(command: &mut Child) -> Option<ExitCode> {
    loop {
        // See who is dead, and leave it so: whoever waits for any child may
        // get the command, and with it the status that is to be ours.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let dead = waitid(Id::All, look);
        match command.try_wait() {
            // Our end is the end of all others: the kernel kills them.
            Ok(Some(status)) => return Some(exit_code(status)),
            Ok(None) => {}
            // It has been waited for in the last line below, and its status is lost.
            Err(_) => return Some(ExitCode::from(125)),
        }
        let orphan = match dead {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(status) => status.pid(),
            // Killed by a real-time signal, which nix has no name for.
            Err(_) => None,
        };
        let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
    }
}
// ANCHOR_END: reap

// ANCHOR: forward
/// Send on what was sent to us. A terminal sends its signals to a process group,
/// the command and its children; others send theirs to one process.
fn forward(signal: Signal, command: Pid) {
    use Signal::{SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
    let of_terminals = matches!(signal, SIGINT | SIGQUIT | SIGTSTP | SIGCONT | SIGWINCH);
    // The child has not got as far as to make its group? Then it is alone.
    if !of_terminals || killpg(command, signal).is_err() {
        let _ = kill(command, signal);
    }
}
// ANCHOR_END: forward

// ANCHOR: stop_too
/// Ctrl-Z has stopped the command, in a process group of its own. Pass it on to
/// our group, which has `run` in it. We know no other name for `run`; and it is
/// what the terminal would have done. PID 1 itself cannot be stopped by it.
fn stop_too(command: Pid) {
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(command), look) {
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    }
}
// ANCHOR_END: stop_too
