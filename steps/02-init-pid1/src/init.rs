//! Run by `run`, inside: PID 1 of the new PID namespace, until it becomes the
//! command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::{Failure, failed, say};

// ANCHOR: init
pub fn init(command: &[OsString]) -> Result<ExitCode, Failure> {
    only_inside()?;
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
