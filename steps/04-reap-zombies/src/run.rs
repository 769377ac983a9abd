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
    // Start our own program again, this time as PID 1. Without `--`, clap would
    // take a command that starts with a dash for an option.
    let mut init = Command::new("/proc/self/exe");
    init.args(["init", "--"]).args(argv).stdin(stdin);
    Ok(exit_code(init.status().context("start /proc/self/exe")?))
}

/// A process that signal N kills has no exit code, so shells report 128 + N.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    ExitCode::from(code.unwrap_or(125) as u8)
}
// ANCHOR_END: run

// ANCHOR: sigchld
/// The kernel sends SIGCHLD when a child dies. If our caller ignores SIGCHLD, so do
/// we and `init`, and the kernel discards exit statuses. Changing that takes
/// `unsafe`, which this course forbids.
fn ensure_sigchld_not_ignored() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    // Bit N - 1 of this hexadecimal number stands for signal N.
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if mask >> (Signal::SIGCHLD as u32 - 1) & 1 == 1 {
        return Err("run: SIGCHLD is ignored: start this with env --default-signal=CHLD".into());
    }
    Ok(())
}
// ANCHOR_END: sigchld

// ANCHOR: namespaces
/// A PID namespace numbers its processes itself, from 1. From now on, our children
/// are created in a new one. They also have a PID on the host. We stay in the old
/// namespace, because a process never changes its PID.
fn unshare_pid_namespace() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // We lack CAP_SYS_ADMIN, as every ordinary user does.
        Err(Errno::EPERM) => unshare_as_user(),
        result => result.context("unshare(CLONE_NEWPID)"),
    }
}

/// A user namespace has its own user IDs. Any user may create one, and has every
/// capability inside. They don't count on the host, but allow more namespaces.
fn unshare_as_user() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .context("unshare(CLONE_NEWUSER|CLONE_NEWPID)")?;
    // Be root inside: map ID 0 to our own, for 1 ID. Before gid_map, the kernel
    // wants setgroups(2) off, because leaving a group could open files that are
    // closed to its members.
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_proc("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write_proc(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).context(format!("write({file})"))
}
// ANCHOR_END: namespaces
