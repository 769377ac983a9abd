//! Used by `init`: waiting for children, which is PID 1's duty.

use std::fs;
use std::process::{Child, ExitCode};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::run::exit_code;

// ANCHOR: reap_zombies
/// Waits for every child until the command exits. That includes processes that
/// we never started, because the kernel makes PID 1 the parent of every orphan.
pub fn reap_zombies(mut command: Child) -> ExitCode {
    loop {
        // Peek first: WNOWAIT leaves the zombie in place. If we waited for any
        // child, we could take the command's exit status away from `try_wait`.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let dead = waitid(Id::All, peek);
        match command.try_wait() {
            Ok(Some(status)) => return exit_code(status),
            Ok(None) => {}
            // SIGCHLD is ignored, so the kernel discarded the status. `run` fails
            // for the same reason, and reports it.
            Err(_) => return ExitCode::from(125),
        }
        match dead {
            Ok(orphan) => reap(orphan.pid()),
            Err(_) => reap_by_pid(&command),
        }
    }
}

fn reap(orphan: Option<Pid>) {
    let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
}

/// If a real-time signal killed an orphan, nix can't decode its status or PID.
/// So this tries every process except the command, whose status we need.
fn reap_by_pid(command: &Child) {
    let command = Pid::from_raw(command.id().cast_signed());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != command).for_each(|pid| reap(Some(pid)));
}
// ANCHOR_END: reap_zombies
