//! Where a verb works that starts programs which nobody knows: it ends as one, with all that it has made.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{self, Command, ExitCode};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};
use procfs::process::{Stat, all_processes};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::contract::shell_status;
use crate::subreaper::descendants;

/// In the environment of the process that does the work: the PID of the one that clears away after it.
const CLEARED_BY: &str = "LAB_CLEARED_BY";

/// Does the work in a process of its own, with a directory for its temporary files, and waits for it. When the
/// work is done, or the verb is ended from outside, Ctrl-C among the ways, all that still runs of it is killed, and
/// the directory goes.
///
/// # Errors
/// Those of the work are printed by its own process. Here: the directory, or the process, could not be made.
pub fn in_a_workplace(work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if is_the_work() {
        return work();
    }
    let directory = tempfile::Builder::new().prefix("lab-").tempdir();
    let directory = directory.context("make a temporary directory")?;
    // The ordinary user, as whom root runs a step too, must get through.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    // What outlives the work is ours to end.
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("install handlers")?;
    let mut worker = Command::new("/proc/self/exe");
    worker.args(env::args_os().skip(1));
    worker.env("TMPDIR", directory.path()).env(CLEARED_BY, process::id().to_string());
    let mut worker = worker.spawn().context("start /proc/self/exe")?;
    // The worker's end; or a signal that is to end all.
    let ended = signals.forever().find_map(|signal| match signal {
        SIGCHLD => worker.try_wait().map(|status| status.map(shell_status)).transpose(),
        signal => Some(Ok(128 + signal)),
    });
    let status = ended.context("no signal comes any more")?.context("wait for the work")?;
    end_all()?;
    directory.close().context("remove the temporary directory")?;
    Ok(ExitCode::from(u8::try_from(status)?))
}

/// Whether the calling process is the one that does the work.
fn is_the_work() -> bool {
    env::var(CLEARED_BY).is_ok_and(|pid| pid == getppid().to_string())
}

/// What the work has started and what has outlived its parent, by the PIDs that /proc here knows. Whoever is not in
/// a workplace does not get to know of such.
pub(crate) fn left_behind() -> Vec<i32> {
    let Ok(all) = all_processes() else { return Vec::new() };
    if !is_the_work() {
        return Vec::new();
    }
    let me = process::id().cast_signed();
    let adopted = |stat: &Stat| stat.ppid == getppid().as_raw() && stat.pid != me;
    let stats = all.filter_map(|process| process.ok()?.stat().ok());
    stats.filter(adopted).map(|stat| stat.pid).collect()
}

/// Kills all that this process has started, and waits until nothing is left of it. What one of them starts in
/// its last moment is ours when that one has ended, and comes next.
fn end_all() -> Result<()> {
    loop {
        for process in descendants()? {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        match waitid(Id::All, WaitPidFlag::WEXITED) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno).context("waitid"),
        }
    }
}
