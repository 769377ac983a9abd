//! Used by `init` to reap zombies. A dead process remains a zombie and keeps its PID
//! until its parent waits for it (*reaps* it). A process whose parent dies is an
//! orphan, and PID 1 of its PID namespace becomes its new parent. If PID 1 didn't
//! reap dead orphans, the container could run out of PIDs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};

use rustix::process::{Pid, WaitOptions, wait};

use crate::error::{Context, Result};
use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Waits until the command dies, and returns its exit status. Meanwhile, reaps every
/// other child that dies. Those children are orphans that we didn't start. After
/// this, we exit, and the kernel kills every process that is left in the container.
pub fn reap_zombies(command: &Child) -> Result<ExitCode> {
    let command = Pid::from_child(command);
    loop {
        // Sleep until any child is dead, and reap it. We'd get None only with the option
        // NOHANG. (nix's `waitpid` fails if a real-time signal, 34 to 64, killed the
        // child, so we use the crate rustix.)
        let dead = wait(WaitOptions::empty()).context("wait")?;
        if let Some((child, status)) = dead
            && child == command
        {
            return Ok(exit_code(ExitStatus::from_raw(status.as_raw())));
        }
    }
}
// ANCHOR_END: reap_zombies
