//! Run by you, on the host: the parent. It makes the namespaces, starts `init`
//! in them, and waits for its end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::{Failure, failed, say};

// ANCHOR: run
pub fn run(ti: bool, command: &[OsString]) -> Result<ExitCode, Failure> {
    say(format!("run PID: {}", process::id()));
    let stdin = match ti {
        true => Stdio::inherit(),
        false => File::open("/dev/null").map_err(failed("open(/dev/null)"))?.into(),
    };
    new_namespaces()?;
    // This program once more, and this time it is PID 1. After `--` all is the
    // command's, even what starts with a dash.
    let mut init = Command::new("/proc/self/exe");
    init.args(["init", "--"]).args(command).stdin(stdin);
    let status = init.status().map_err(failed("start /proc/self/exe"))?;
    // A signal leaves no exit status. Shells make one up: 128 + its number.
    let code = status.code().or(status.signal().map(|n| 128 + n));
    Ok(ExitCode::from(code.unwrap_or(125) as u8))
}
// ANCHOR_END: run

// ANCHOR: namespaces
/// From now on our children are born in a new PID namespace. We stay where we
/// are: the PIDs of a process never change.
fn new_namespaces() -> Result<(), Failure> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // We lack CAP_SYS_ADMIN, as all do who are not root.
        Err(Errno::EPERM) => rootless(),
        outcome => outcome.map_err(failed("unshare(CLONE_NEWPID)")),
    }
}

/// Everybody may make a user namespace, and has all capabilities in it.
fn rootless() -> Result<(), Failure> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)
        .map_err(failed("unshare(CLONE_NEWUSER|CLONE_NEWPID)"))?;
    // Our ID outside is 0, root, inside. The kernel wants setgroups(2) shut off
    // first: who could drop a group could open what is closed to that group.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write(file: &str, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(failed(&format!("write({file})")))
}
// ANCHOR_END: namespaces
