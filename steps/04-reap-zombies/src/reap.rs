//! Used by `init` to reap zombies. A dead process is a zombie until its parent
//! waits for it. If its parent dies first, a process is an orphan, and the kernel
//! makes PID 1 its parent.

use std::fs;
use std::process::{Child, ExitCode};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Reaps each child that dies until the command dies, and returns the command's
/// exit status. Our children include orphans that we didn't start. After that, we
/// exit, and the kernel kills every process that is left in the container.
pub fn reap_zombies(mut command: Child) -> Result<ExitCode> {
    loop {
        // Peek first: WNOWAIT leaves the dead child a zombie. Without WNOWAIT, this
        // call could reap the command, and `try_wait` couldn't get its exit status.
        let dead = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        if let Some(status) = command.try_wait().context("wait")? {
            return Ok(exit_code(status));
        }
        // The command isn't dead, so the dead child is an orphan.
        match dead {
            Ok(orphan) => reap(orphan.pid()),
            Err(_) => reap_by_pid(Pid::from_raw(command.id().cast_signed())),
        }
    }
}

/// Reaps an orphan if it is dead, and returns at once otherwise (WNOHANG). We
/// ignore the result, because we don't need an orphan's exit status. If `orphan`
/// were None, `waitpid` would reap any child, but `waitid` always gives us a dead
/// child's PID.
fn reap(orphan: Option<Pid>) {
    let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
}

/// Reaps every orphan that is dead. If a real-time signal (34 to 64) killed an
/// orphan, nix's `waitid` returns an error instead of a PID, because nix can't
/// represent that signal. So this tries each PID in /proc except the command's,
/// whose exit status we need.
fn reap_by_pid(command: Pid) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != command).for_each(|pid| reap(Some(pid)));
}
// ANCHOR_END: reap_zombies
