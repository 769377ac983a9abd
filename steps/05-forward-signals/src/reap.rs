//! Used by `init`: waiting for children, which is PID 1's duty.

use std::fs;
use std::process::{Child, ExitCode};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Waits for every dead child, and returns the command's exit status if it is one
/// of them. Signals don't queue: if ten children die while we are busy, we get
/// one SIGCHLD. The others are orphans, whose parent the kernel makes PID 1.
pub fn reap_zombies(command: &mut Child) -> Result<Option<ExitCode>> {
    loop {
        // Peek first: WNOWAIT leaves the zombie in place. If we waited for any
        // child, we could take the command's exit status away from `try_wait`.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let dead = waitid(Id::All, peek);
        if let Some(status) = command.try_wait().context("wait")? {
            return Ok(Some(exit_code(status)));
        }
        match dead {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(orphan) => reap(orphan.pid()),
            Err(_) => reap_by_pid(Pid::from_raw(command.id().cast_signed())),
        }
    }
}

fn reap(orphan: Option<Pid>) {
    let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
}

/// If a real-time signal killed an orphan, nix can't decode its status or PID.
/// So this tries every process except the command, whose status we need.
fn reap_by_pid(command: Pid) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != command).for_each(|pid| reap(Some(pid)));
}
// ANCHOR_END: reap_zombies
