//! Run by you, on the host: the parent of the container. It creates the
//! namespaces, starts `init` in them and waits for it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

use crate::clock::reset_boottime;
use crate::error::{Context, Result, log};
use crate::signals::{
    Received, block_signals, close_inherited_fds, next_signal, open_null, release,
};
use crate::terminal::{reclaim_terminal, stop_self};

// ANCHOR: run
pub fn run(interactive: bool, argv: &[OsString]) -> Result<ExitCode> {
    // Do this before the PID is printed, so that no signal comes too early.
    let old_mask = block_signals()?;
    log(format!("run PID: {}", process::id()));
    ensure_sigchld_not_ignored()?;
    let null = open_null()?;
    let stdin = if interactive { Stdio::inherit() } else { Stdio::null() };
    unshare_pid_namespace()?;
    reset_boottime()?;
    // Start our own program again, this time as PID 1. Without `--`, clap would
    // take a command that starts with a dash for an option.
    let mut init = Command::new("/proc/self/exe");
    init.arg("init").args(old_mask.iter().map(|signal| format!("--blocked={signal}")));
    init.arg("--").args(argv).stdin(stdin);
    // Older kernels refuse to start a child in a new time namespace with vfork, as
    // std does. If std has to set an ID, even our own, it forks.
    init.gid(getegid().as_raw());
    let child = init.spawn().context("start /proc/self/exe")?;
    close_inherited_fds(null)?;
    supervise(child)
}

/// A process that signal N kills has no exit code, so shells report 128 + N.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    ExitCode::from(code.unwrap_or(125) as u8)
}
// ANCHOR_END: run

// ANCHOR: supervise
/// Forwards signals to `init` until it exits.
fn supervise(mut init: Child) -> Result<ExitCode> {
    let pid = Pid::from_raw(init.id().cast_signed());
    release(pid)?;
    loop {
        let Received { signal, from_terminal } = next_signal()?;
        if signal == Signal::SIGCHLD {
            let Some(status) = init.try_wait().context("wait")? else { continue };
            reclaim_terminal();
            return Ok(exit_code(status));
        }
        if from_terminal {
            // The command has it. If that stopped it, `init` sends us SIGTSTP, which
            // may have merged with this signal. So make `init` look once more.
            let _ = kill(pid, Signal::SIGCHLD);
            continue;
        }
        // If `init` is dead already, it is a zombie until we wait for it, and no
        // other process can have its PID.
        let _ = kill(pid, signal);
        if matches!(signal, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) {
            stop_self(signal)?;
        }
    }
}
// ANCHOR_END: supervise

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

pub fn write_proc(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).context(format!("write({file})"))
}
// ANCHOR_END: namespaces
