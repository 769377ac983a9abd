//! Used by `init` to reap zombies. A dead process remains a zombie and keeps its PID
//! until its parent waits for it (*reaps* it). A process whose parent dies is an
//! orphan, and PID 1 of its PID namespace becomes its new parent. If PID 1 didn't
//! reap dead orphans, the container could run out of PIDs.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};

use rustix::process::{Pid, WaitOptions, wait};

use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Reaps every dead child. If one of them is the command, returns its exit status
/// at once. One SIGCHLD can stand for ten dead children, because the kernel doesn't
/// count pending signals. All children except the command are orphans.
pub fn reap_zombies(command: &Child) -> Option<ExitCode> {
    let command = Pid::from_child(command);
    // With NOHANG, `wait` returns None if every child is alive. Without any child, it
    // fails.
    while let Ok(Some((child, status))) = wait(WaitOptions::NOHANG) {
        if child == command {
            return Some(exit_code(ExitStatus::from_raw(status.as_raw())));
        }
    }
    None
}
// ANCHOR_END: reap_zombies
