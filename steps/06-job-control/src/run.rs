//! You start `run` on the host. It creates namespaces, starts `init` in them, and
//! waits until `init` dies. A namespace limits what its processes see, for example
//! which PIDs. The processes in the new PID namespace are the container, and
//! everything outside is the host.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

use crate::error::{Context, Result, log};
use crate::signals::{
    Received, block_signals, close_inherited_fds, next_signal, open_null, release,
};
use crate::terminal::{reclaim_terminal, stop_self};

// ANCHOR: run
pub fn run(interactive: bool, argv: &[OsString]) -> Result<ExitCode> {
    // Block signals before we print our PID, because from then on you can send us
    // signals, which stay pending until we read them. `init` inherits our mask.
    let old_mask = block_signals()?;
    log(format!("run PID: {}", process::id()));
    ensure_sigchld_not_ignored()?;
    let null = open_null()?;
    // `open_null` has just opened /dev/null, so Stdio::null() will succeed, too.
    let stdin = if interactive { Stdio::inherit() } else { Stdio::null() };
    unshare_pid_namespace()?;
    // Instead of the command, start our own program again as PID 1, because some
    // setup, such as mounting /proc in step 3, works only inside the container.
    // The link /proc/self/exe leads to our program even if the program's file was
    // moved or deleted.
    let mut init = Command::new("/proc/self/exe");
    init.arg("init").args(old_mask.iter().map(|signal| format!("--blocked={signal}")));
    // Without `--`, clap would mistake a command such as `-x` for one of our options.
    init.arg("--").args(argv).stdin(stdin);
    let child = init.spawn().context("start /proc/self/exe")?;
    close_inherited_fds(null)?;
    supervise(child)
}

/// Converts an ExitStatus to an ExitCode. If signal N killed the process, `code()`
/// is None, so this returns 128 + N, as shells do.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    // A dead process has an exit status or a signal, so we never need the 125.
    ExitCode::from(code.unwrap_or(125) as u8)
}
// ANCHOR_END: run

// ANCHOR: supervise
/// Forwards signals to `init` until `init` dies, and returns its exit status.
fn supervise(mut init: Child) -> Result<ExitCode> {
    let pid = Pid::from_raw(init.id().cast_signed());
    release(pid)?;
    loop {
        let Received { signal, from_terminal } = next_signal()?;
        if signal == Signal::SIGCHLD {
            // The kernel also sends SIGCHLD if `init` stops or continues. In that
            // case, `init` has no exit status yet.
            let Some(status) = init.try_wait().context("wait")? else { continue };
            reclaim_terminal();
            return Ok(exit_code(status));
        }
        if from_terminal {
            // The terminal also sent this signal to the command. If that stops the
            // command, `init` sends us a SIGTSTP. But the kernel discards the signal
            // from `init` while the terminal's SIGTSTP is still pending. So make
            // `init` check again.
            let _ = kill(pid, Signal::SIGCHLD);
            continue;
        }
        // If this fails, continue, because other signals still have to arrive. If
        // `init` is already dead, it keeps its PID as a zombie until we wait for it,
        // so the signal can't hit another process.
        let _ = kill(pid, signal);
        if matches!(signal, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) {
            stop_self(signal)?;
        }
    }
}
// ANCHOR_END: supervise

// ANCHOR: sigchld
/// Returns an error if our caller ignores SIGCHLD, the signal that a parent gets
/// when a child dies. We and `init` inherit that, so the kernel discards exit
/// statuses. To stop ignoring SIGCHLD, we'd need `sigaction`, which is `unsafe` in
/// nix, and our course forbids `unsafe`.
fn ensure_sigchld_not_ignored() -> Result<()> {
    // If we can't read this file, skip the check.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    // Bit N - 1 of this hexadecimal number stands for signal N.
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if (mask >> (Signal::SIGCHLD as u32 - 1)) & 1 == 1 {
        return Err("run: SIGCHLD is ignored: start this with env --default-signal=CHLD".into());
    }
    Ok(())
}
// ANCHOR_END: sigchld

// ANCHOR: namespaces
/// Creates a PID namespace, in which the kernel numbers processes from 1. Our
/// children will be in this namespace, and they will also have a PID on the host.
/// `unshare` doesn't move us there, because a process never changes its PID.
fn unshare_pid_namespace() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // Linux divides root's power into capabilities. Creating a PID namespace
        // requires CAP_SYS_ADMIN, which an ordinary user's processes don't have.
        Err(Errno::EPERM) => unshare_as_user(),
        result => result.context("unshare(CLONE_NEWPID)"),
    }
}

/// Creates a user namespace, which has its own user IDs, and a PID namespace in it.
/// Unless the system forbids it, any user may do that. We then have all capabilities,
/// but they count only in these namespaces and in others that we create inside.
fn unshare_as_user() -> Result<()> {
    // Ask for our IDs first, because inside, both are 65534 until we map them
    // below. An ordinary user may map only the effective IDs, not the real ones.
    let (uid, gid) = (geteuid(), getegid());
    // The kernel first creates the user namespace and moves us there, so we already
    // have CAP_SYS_ADMIN when it creates the PID namespace.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .context("unshare(CLONE_NEWUSER|CLONE_NEWPID)")?;
    // The kernel accepts the gid_map below only if we give up setgroups(2). With
    // it, we could leave a group, and then open files that others may read but
    // members of that group may not (mode 604).
    write_proc("/proc/self/setgroups", "deny")?;
    // Become root inside: map ID 0 inside to our ID outside. The 1 is the number of
    // IDs. Only root keeps its capabilities when it executes a program. `init` needs
    // them to read our links in /proc/PID/ns, and to mount (from step 3).
    write_proc("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_proc("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write_proc(file: &str, text: &str) -> Result<()> {
    fs::write(file, text).context(format!("write({file})"))
}
// ANCHOR_END: namespaces
