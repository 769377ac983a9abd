//! Run by `run`, inside: PID 1 of the new PID namespace, which stays; and its
//! child, until that becomes the command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, ExitCode};

use clap::ArgMatches;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpid, setpgid, tcsetpgrp};

use crate::both::let_go_of_files;
use crate::mask::mask;
use crate::reaper::reap_and_forward;
use crate::{Failure, failed, say};

// ANCHOR: init
pub fn init(foreground: bool, command: &[OsString]) -> Result<ExitCode, Failure> {
    only_inside()?;
    mount_proc()?;
    mask()?;
    say(format!("init PID: {}", process::id()));
    let words = command.join(OsStr::new(" "));
    say(format!("init: first command of the container: {}", words.display()));
    let command = start()?;
    let_go_of_files()?;
    reap_and_forward(command, foreground)
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

// ANCHOR: start
/// A child, which will be the command. It starts out as this program, with the
/// same words after `exec` as we have after `init`.
fn start() -> Result<Child, Failure> {
    let mut exec = Command::new("/proc/self/exe");
    exec.arg("exec").args(env::args_os().skip(2));
    // It inherits our signal mask. `run` has blocked all signals before it
    // started us, so that there was no moment to lose one in.
    exec.spawn().map_err(failed("start /proc/self/exe"))
}

/// In that child: what must be set before the command is there.
pub fn exec(notes: &ArgMatches, command: &[OsString]) -> Result<ExitCode, Failure> {
    // A process group of its own. A `kill 0` in there must not reach PID 1, which
    // would send it back; and a shell wants to lead a group that has a number.
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(failed("setpgid"))?;
    if notes.get_flag("foreground") {
        tcsetpgrp(io::stdin(), getpid()).map_err(failed("tcsetpgrp"))?;
    }
    // Unblock what was not blocked when `run` was started.
    let found: Vec<&Signal> = notes.get_many("blocked").unwrap_or_default().collect();
    let ours: SigSet = Signal::iterator().filter(|signal| !found.contains(&signal)).collect();
    ours.thread_unblock().map_err(failed("sigprocmask"))?;
    become_the(command)
}
// ANCHOR_END: start

// ANCHOR: become_the
/// From here on PID 2 is the command, and this program is gone from it.
fn become_the(command: &[OsString]) -> Result<ExitCode, Failure> {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    // Still here: there was no exec. The statuses are the shell's: 127 is "not
    // found", 126 "found, but it cannot be executed".
    let status = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    let tried = format!("exec {}", command[0].display());
    Err(Failure { status, hint: None, ..failed(&tried)(error) })
}
// ANCHOR_END: become_the
