//! Run by `run`, on the host: what the parent does while the container runs.

use std::fs::{self, File};
use std::process::{Child, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::both::{exit_code, next_signal};
use crate::{Failure, failed};

// ANCHOR: wait
/// Send signals on to `init`, until it ends.
pub fn wait_for(mut init: Child, foreground: bool) -> Result<ExitCode, Failure> {
    let pid = Pid::from_raw(init.id().cast_signed());
    loop {
        let signal = next_signal()?;
        if signal == Signal::SIGCHLD {
            let Some(status) = init.try_wait().map_err(failed("wait"))? else { continue };
            if foreground {
                take_terminal_back();
            }
            return Ok(exit_code(status));
        }
        if signal == Signal::SIGCONT && foreground {
            lend_terminal(pid);
            continue;
        }
        // It may have ended meanwhile; but until we wait for it, no other
        // process gets its PID.
        let _ = kill(pid, signal);
        if signal == Signal::SIGTSTP {
            stop()?;
            // Still here? So somebody has sent us CONT; or nobody could, and the
            // kernel has not stopped us. In either case the command is to go on.
            let _ = raise(Signal::SIGCONT);
        }
    }
}
// ANCHOR_END: wait

// ANCHOR: terminal
/// Stop, as TSTP would have stopped us were it not blocked: the shell that
/// started us is to have its terminal.
fn stop() -> Result<(), Failure> {
    let tstp: SigSet = [Signal::SIGTSTP].into_iter().collect();
    raise(Signal::SIGTSTP).and(tstp.thread_unblock()).map_err(failed("raise(SIGTSTP)"))?;
    tstp.thread_block().map_err(failed("sigprocmask"))
}

/// `fg` in the shell has put our process group into the foreground, and not the
/// command's, which must be there before it goes on. `bg` has not; only we can
/// see that, as groups of the host's have no number inside.
fn lend_terminal(init: Pid) {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"));
    let first = children.ok().and_then(|all| all.split(' ').next()?.parse().ok());
    let Some(command) = first.map(Pid::from_raw) else { return };
    if let Ok(terminal) = File::open("/dev/tty")
        && tcgetpgrp(&terminal) == Ok(getpgrp())
    {
        let _ = tcsetpgrp(&terminal, command);
    }
    let _ = killpg(command, Signal::SIGCONT);
}

/// If a group of the container was in the foreground, nobody is there now.
fn take_terminal_back() {
    let Ok(terminal) = File::open("/dev/tty") else { return };
    let front = tcgetpgrp(&terminal);
    if front.is_ok_and(|front| killpg(front, None) == Err(Errno::ESRCH)) {
        let _ = tcsetpgrp(&terminal, getpgrp());
    }
}
// ANCHOR_END: terminal
