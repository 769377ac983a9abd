//! Run by `run`, in the container: PID 1 of the new PID namespace, which keeps
//! running, and its child, until that becomes the command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Result, exec_failed, log};
use crate::guard::ensure_started_by_run;
use crate::reap::reap_zombies;
use crate::signals::{close_inherited_fds, next_signal, open_null};

// ANCHOR: init
pub fn init(argv: &[OsString]) -> Result<ExitCode> {
    ensure_started_by_run()?;
    mount_proc()?;
    log(format!("init PID: {}", process::id()));
    let command = argv.join(OsStr::new(" "));
    log(format!("init: first command of the container: {}", command.display()));
    let null = open_null()?;
    let command = spawn_command()?;
    close_inherited_fds(null)?;
    event_loop(command)
}
// ANCHOR_END: init

// ANCHOR: mount_proc
/// Mounts a /proc for the container, so that `ps` shows its processes and not the
/// host's. The host doesn't see this mount.
fn mount_proc() -> Result<()> {
    // Unlike with CLONE_NEWPID, we move into the new mount namespace ourselves. It
    // starts as a copy of the host's mounts.
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    // On a host with systemd, mounts are shared: what we mount would propagate
    // to the host. So make every mount from / on down private first. This call
    // changes mounts instead of creating one.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("mount(/, MS_REC|MS_PRIVATE)")?;
    // A procfs shows the PID namespace of the process that mounts it.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mount(proc, /proc)")
}
// ANCHOR_END: mount_proc

// ANCHOR: spawn_command
/// Starts the command as our child. We stay PID 1 ourselves, because PID 1 has to
/// wait for orphans, and an ordinary command doesn't.
fn spawn_command() -> Result<Child> {
    // Signals stay blocked in the child, because it could lose them otherwise. So it
    // runs this program again, as `exec` with our arguments, to restore the mask.
    let mut exec = Command::new("/proc/self/exe");
    exec.arg("exec").args(env::args_os().skip(2)).spawn().context("start /proc/self/exe")
}

/// Run in the child: restores the signal mask and becomes the command.
pub fn exec(blocked: &[Signal], argv: &[OsString]) -> Result<ExitCode> {
    let unblocked: SigSet = Signal::iterator().filter(|signal| !blocked.contains(signal)).collect();
    unblocked.thread_unblock().context("sigprocmask")?;
    // If `exec` returns at all, it has failed.
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    Ok(exec_failed(&argv[0], error))
}
// ANCHOR_END: spawn_command

// ANCHOR: event_loop
/// Reads one signal after another until the command exits.
fn event_loop(mut command: Child) -> Result<ExitCode> {
    let pid = Pid::from_raw(command.id().cast_signed());
    loop {
        let signal = next_signal()?;
        if signal != Signal::SIGCHLD {
            let _ = kill(pid, signal);
        } else if let Some(code) = reap_zombies(&mut command)? {
            return Ok(code);
        }
    }
}
// ANCHOR_END: event_loop
