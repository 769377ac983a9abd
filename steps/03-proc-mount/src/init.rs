//! Run by `run`, inside: PID 1 of the new PID namespace, until it becomes the
//! command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::{Failure, failed, say};

// ANCHOR: init
pub fn init(command: &[OsString]) -> Result<ExitCode, Failure> {
    only_inside()?;
    mount_proc()?;
    say(format!("init PID: {}", process::id()));
    let words = command.join(OsStr::new(" "));
    say(format!("init: first command of the container: {}", words.display()));
    become_the(command)
}
// ANCHOR_END: init

// ANCHOR: only_inside
/// Refuse to run on the host, and never outlive `run`.
fn only_inside() -> Result<(), Failure> {
    let refusal = |reason: String| {
        let hint = Some("`init` is for `run` to start: use `run`");
        Err(Failure { message: format!("init: {reason}"), hint, status: 125 })
    };
    if process::id() != 1 {
        return refusal(format!("this is PID {}, not PID 1", process::id()));
    }
    // When our parent dies, however it dies, the kernel kills us; and with
    // PID 1 it kills everything in the namespace.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("prctl(PR_SET_PDEATHSIG)"))?;
    // That goes for a death still to come. Did `run` die before? Then we have
    // another parent now. getppid() is 0 either way, since no parent has a
    // number in here; but this /proc is the host's, and it knows.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or("0");
    let its_children = fs::read_link(format!("/proc/{parent}/ns/pid_for_children"));
    match (its_children, fs::read_link("/proc/self/ns/pid")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
        _ => refusal("the parent is not `run`".into()),
    }
}
// ANCHOR_END: only_inside

// ANCHOR: mount_proc
/// Put a /proc of our PID namespace in place of the host's, for us alone.
fn mount_proc() -> Result<(), Failure> {
    // In a mount namespace of our own we have a copy of all the host's mounts...
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare(CLONE_NEWNS)"))?;
    // ...but where the originals are shared, as on every host with systemd, the
    // copies are tied to them: what we mount, the host gets. Untie them all.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(failed("mount(/, MS_REC|MS_PRIVATE)"))?;
    // A procfs shows the PID namespace of the process that mounts it: ours.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(failed("mount(proc, /proc)"))
}
// ANCHOR_END: mount_proc

// ANCHOR: become_the
/// From here on PID 1 is the command, and this program is gone.
fn become_the(command: &[OsString]) -> Result<ExitCode, Failure> {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    // Still here: there was no exec. The statuses are the shell's: 127 is "not
    // found", 126 "found, but it cannot be executed".
    let status = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    let tried = format!("exec {}", command[0].display());
    Err(Failure { status, hint: None, ..failed(&tried)(error) })
}
// ANCHOR_END: become_the
