//! Run by you, on the host: the parent of the container. It creates the
//! namespaces, starts `init` in them and waits for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid};

use crate::error::{Context, Result, log};

// ANCHOR: run
pub fn run(interactive: bool, argv: &[OsString]) -> Result<ExitCode> {
    log(format!("run PID: {}", process::id()));
    ensure_sigchld_not_ignored()?;
    let stdin = if interactive {
        Stdio::inherit()
    } else {
        File::open("/dev/null").context("open(/dev/null)")?.into()
    };
    unshare_pid_namespace()?;
    // The same program again, but this time it is PID 1. Everything after `--`
    // belongs to the command, even if it starts with a dash.
    let mut init = Command::new("/proc/self/exe");
    init.args(["init", "--"]).args(argv).stdin(stdin);
    Ok(exit_code(init.status().context("start /proc/self/exe")?))
}

/// A process that a signal kills has no exit status. Shells report 128 + N.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    ExitCode::from(code.unwrap_or(125) as u8)
}
// ANCHOR_END: run

// ANCHOR: sigchld
/// If SIGCHLD is ignored, the kernel discards exit statuses and doesn't signal
/// when a child dies. A child inherits this setting, and changing it takes `unsafe`.
fn ensure_sigchld_not_ignored() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if ignored >> (Signal::SIGCHLD as u32 - 1) & 1 == 1 {
        return Err("run: SIGCHLD is ignored: start this with env --default-signal=CHLD".into());
    }
    Ok(())
}
// ANCHOR_END: sigchld

// ANCHOR: namespaces
/// From now on, our children are created in a new PID namespace. We stay in the
/// old one, because a process never changes its PID.
fn unshare_pid_namespace() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // We lack CAP_SYS_ADMIN, as every ordinary user does.
        Err(Errno::EPERM) => unshare_as_user(),
        result => result.context("unshare(CLONE_NEWPID)"),
    }
}

/// Any user may create a user namespace, and has every capability in it.
fn unshare_as_user() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .context("unshare(CLONE_NEWUSER|CLONE_NEWPID)")?;
    // Make our own IDs root's inside. The kernel first wants setgroups(2) off:
    // leaving a group could open files that are closed to that group.
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_proc("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write_proc(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).context(format!("write({file})"))
}
// ANCHOR_END: namespaces
