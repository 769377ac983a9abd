//! `run` starts `init` in the container, as PID 1 of the new PID namespace. `init`
//! then becomes the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, Result, exec_failed, log};
use crate::guard::ensure_started_by_run;

// ANCHOR: init
pub fn init(argv: &[OsString]) -> Result<ExitCode> {
    ensure_started_by_run()?;
    // The check above reads the host's /proc, so mount our own only now.
    mount_proc()?;
    log(format!("init PID: {}", process::id()));
    let command = argv.join(OsStr::new(" "));
    log(format!("init: first command of the container: {}", command.display()));
    Ok(exec_command(argv))
}
// ANCHOR_END: init

// ANCHOR: mount_proc
/// Mounts a procfs, the filesystem of /proc, so that `ps` shows the container's
/// processes and not the host's. The host doesn't see this mount, which exists only
/// as long as the container.
fn mount_proc() -> Result<()> {
    // A mount namespace has its own list of mounts, which starts as a copy of the
    // host's. Unlike CLONE_NEWPID, CLONE_NEWNS (mount) moves the caller. It requires
    // CAP_SYS_ADMIN, as `mount` does. We have this capability, because `run` was
    // root or made us root.
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    // With systemd, the host's mounts are shared: what we mount on the copy of a mount
    // also appears on the original. If root started `run`, our procfs would appear on
    // the host. (In a user namespace, the kernel prevents that.) So first make the copy
    // of / private and, with MS_REC, all copies below it, too.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // This call only changes existing mounts, so it needs just a target and flags.
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("mount(/, MS_REC|MS_PRIVATE)")?;
    // A procfs shows the PID namespace of the process that mounts it. The flags are
    // the usual ones for /proc, which needs no set-user-ID programs, device files,
    // or executable files. The first "proc" is only a label.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mount(proc, /proc)")
}
// ANCHOR_END: mount_proc

// ANCHOR: exec_command
/// Becomes the command, which has PID 1 from then on. If `exec` returns at all, it
/// has failed.
fn exec_command(argv: &[OsString]) -> ExitCode {
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    exec_failed(&argv[0], error)
}
// ANCHOR_END: exec_command
