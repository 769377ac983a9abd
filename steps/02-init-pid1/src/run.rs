//! You start `run` on the host. It creates namespaces, starts `init` in them, and
//! waits until `init` dies. A namespace limits what its processes see, for example
//! which PIDs. The processes in the new PID namespace are the container, and
//! everything outside is the host.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::error::{Context, Result, log};

// ANCHOR: run
pub fn run(interactive: bool, argv: &[OsString]) -> Result<ExitCode> {
    log(format!("run PID: {}", process::id()));
    let stdin = if interactive {
        Stdio::inherit()
    } else {
        // Open /dev/null now, so that an error names it. With Stdio::null(), the error
        // would name the start of `init` instead.
        File::open("/dev/null").context("open(/dev/null)")?.into()
    };
    unshare_pid_namespace()?;
    // Instead of the command, start our own program again as PID 1, because some
    // setup, such as mounting /proc in step 3, works only inside the container.
    // The link /proc/self/exe leads to our program even if the program's file was
    // moved or deleted.
    let mut init = Command::new("/proc/self/exe");
    // Without `--`, clap would mistake a command such as `-x` for one of our options.
    init.args(["init", "--"]).args(argv).stdin(stdin);
    Ok(exit_code(init.status().context("start /proc/self/exe")?))
}

/// Converts an ExitStatus to an ExitCode. If signal N killed the process, `code()`
/// is None, so this returns 128 + N, as shells do.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    // A dead process has an exit status or a signal, so we never need the 125.
    ExitCode::from(code.unwrap_or(125) as u8)
}
// ANCHOR_END: run

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
