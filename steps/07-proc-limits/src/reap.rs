//! Used by `init`: a dead process is a zombie until its parent waits for it, and
//! PID 1 is the parent of every orphan.

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
        // Peek first: WNOWAIT leaves the zombie in place. Without it, we could take
        // the command's exit status away from `try_wait`.
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

/// nix can't describe a death by a real-time signal (34 to 64): instead of the PID,
/// `waitid` returns an error. So try every process in the container except the
/// command, whose status we need. Waiting for one that isn't a zombie does nothing.
fn reap_by_pid(command: Pid) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != command).for_each(|pid| reap(Some(pid)));
}
// ANCHOR_END: reap_zombies
