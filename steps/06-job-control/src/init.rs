//! `run` starts `init` in the container, as PID 1 of the new PID namespace. `init`
//! then starts our subcommand `exec` as its child, which becomes the command.

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
use crate::signals::{
    Received, close_inherited_fds, next_signal, open_null, release, wait_for_release,
};
use crate::terminal::{give_terminal_to, propagate_stop};

// ANCHOR: init
pub fn init(argv: &[OsString]) -> Result<ExitCode> {
    ensure_started_by_run()?;
    // The check above reads the host's /proc, so mount our own only now.
    mount_proc()?;
    log(format!("init PID: {}", process::id()));
    let command = argv.join(OsStr::new(" "));
    log(format!("init: first command of the container: {}", command.display()));
    let null = open_null()?;
    wait_for_release()?;
    let command = spawn_command()?;
    close_inherited_fds(null)?;
    event_loop(command)
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

// ANCHOR: spawn_command
/// Starts the command as our child. We remain PID 1, because PID 1 becomes the
/// parent of orphans (processes whose parent died), and has to wait for them.
/// Ordinary commands aren't written to do that.
fn spawn_command() -> Result<Child> {
    // The child inherits our mask. We can't restore `run`'s original mask for the spawn,
    // because the kernel discards signals for which PID 1 has no handler, unless they're
    // blocked. So the child first runs our program again, as `exec` with the arguments
    // after our own `init`. `exec` restores the mask, and then becomes the command.
    let mut child = Command::new("/proc/self/exe");
    child.arg("exec").args(env::args_os().skip(2)).spawn().context("start /proc/self/exe")
}
// ANCHOR_END: spawn_command

// ANCHOR: exec
/// Restores `run`'s original signal mask, and becomes the command. The child runs this.
pub fn exec(blocked: &[Signal], argv: &[OsString]) -> Result<ExitCode> {
    wait_for_release()?;
    let unblocked: SigSet = Signal::iterator().filter(|signal| !blocked.contains(signal)).collect();
    unblocked.thread_unblock().context("sigprocmask")?;
    // If Command::exec() returns at all, it has failed.
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    Ok(exec_failed(&argv[0], error))
}
// ANCHOR_END: exec

// ANCHOR: event_loop
/// Reads one signal after another until the command dies. SIGCHLD tells us to look
/// for dead children, and the command gets every other signal. A dead command keeps
/// its PID until we reap it, so `kill` can't hit another process.
fn event_loop(command: Child) -> Result<ExitCode> {
    let pid = Pid::from_raw(command.id().cast_signed());
    release(pid)?;
    loop {
        let Received { signal, from_terminal } = next_signal()?;
        if from_terminal {
            continue;
        }
        if signal == Signal::SIGCONT {
            give_terminal_to(pid);
        }
        if signal != Signal::SIGCHLD {
            let _ = kill(pid, signal);
        } else if let Some(code) = reap_zombies(&command) {
            return Ok(code);
        } else {
            propagate_stop(pid);
        }
    }
}
// ANCHOR_END: event_loop
