//! Used by `init` to reap zombies. A dead process is a zombie until its parent
//! waits for it. A process whose parent dies is an orphan, and PID 1 of its PID
//! namespace becomes its new parent.

use std::fs;
use std::process::{Child, ExitCode};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Reaps every dead child, and returns the command's exit status if the command is
/// one of them. One SIGCHLD can stand for ten dead children, because the kernel
/// doesn't count pending signals. All children except the command are orphans.
pub fn reap_zombies(command: &mut Child) -> Result<Option<ExitCode>> {
    loop {
        // Find a dead child, but only peek: WNOWAIT leaves it a zombie. Without
        // WNOWAIT, this call could reap the command, and `try_wait` couldn't get
        // its exit status. WNOHANG makes the call return at once if every child is
        // alive.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let dead = waitid(Id::All, peek);
        if let Some(status) = command.try_wait().context("wait")? {
            return Ok(Some(exit_code(status)));
        }
        // The command isn't dead, so if `waitid` found a dead child, it's an orphan.
        match dead {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(orphan) => reap(orphan.pid()),
            // A real-time signal killed the orphan, so nix gives us no PID: see
            // reap_by_pid.
            Err(_) => reap_by_pid(Pid::from_raw(command.id().cast_signed())),
        }
    }
}

/// Reaps an orphan if it is dead, and returns at once otherwise (WNOHANG). We don't
/// need the result. If a real-time signal killed the orphan, nix's `waitpid` fails,
/// as `waitid` does, but by then the kernel has already reaped the orphan.
fn reap(orphan: Option<Pid>) {
    // None would mean any child, even the command. But `orphan` is never None,
    // because it's the PID of a child that is dead.
    let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
}

/// Reaps every orphan that is dead. If a real-time signal (34 to 64) killed an
/// orphan, nix's `waitid` returns an error instead of a PID, because nix can't
/// represent that signal. So this tries every PID except the command's, because
/// only `try_wait` should collect the command's exit status.
fn reap_by_pid(command: Pid) {
    // /proc lists the container's processes. If a process is alive or isn't our
    // child, `reap` does nothing. We skip every name that isn't a PID.
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != command).for_each(|pid| reap(Some(pid)));
}
// ANCHOR_END: reap_zombies
