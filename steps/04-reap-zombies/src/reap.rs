//! Used by `init` to reap zombies. A dead process is a zombie until its parent
//! waits for it. A process whose parent dies is an orphan, and PID 1 of its PID
//! namespace becomes its new parent.

use std::fs;
use std::process::{Child, ExitCode};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Waits until the command dies, and returns its exit status. Meanwhile, reaps every
/// other child that dies. Those children are orphans that we didn't start. After
/// this, we exit, and the kernel kills every process that is left in the container.
pub fn reap_zombies(mut command: Child) -> Result<ExitCode> {
    loop {
        // Sleep until a child is dead, and only peek: WNOWAIT leaves it a zombie.
        // So `try_wait` can still reap the command. We get its status from std,
        // because nix can't represent every signal (see reap_by_pid).
        let dead = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        if let Some(status) = command.try_wait().context("wait")? {
            return Ok(exit_code(status));
        }
        // The command isn't dead, so the dead child is an orphan.
        match dead {
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
