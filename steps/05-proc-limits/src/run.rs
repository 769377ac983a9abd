//! Run by you, on the host: the parent. It makes the namespaces, starts `init`
//! in them, and waits for its end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid, getpgrp, tcgetpgrp};

use crate::both::{block_signals, let_go_of_files};
use crate::wait::wait_for;
use crate::{Failure, failed, say};

// ANCHOR: run
pub fn run(ti: bool, command: &[OsString]) -> Result<ExitCode, Failure> {
    say(format!("run PID: {}", process::id()));
    let stdin = match ti {
        true => Stdio::inherit(),
        false => File::open("/dev/null").map_err(failed("open(/dev/null)"))?.into(),
    };
    status_is_kept()?;
    let blocked = block_signals()?;
    // With --ti and a terminal that is ours, the terminal is the command's.
    let foreground = ti && tcgetpgrp(io::stdin()) == Ok(getpgrp());
    new_namespaces()?;
    new_clock()?;
    // This program once more, and this time it is PID 1. After `--` all is the
    // command's, even what starts with a dash.
    let mut init = Command::new("/proc/self/exe");
    init.arg("init").args(blocked.iter().map(|signal| format!("--blocked={signal}")));
    init.args(foreground.then_some("--foreground")).arg("--").args(command).stdin(stdin);
    if !foreground {
        // Ctrl-C goes to every process of our group. This way it comes to `init`
        // once, through us.
        init.process_group(0);
    }
    // std starts a child with vfork, which older kernels refuse where that child
    // is to have another clock. To set an ID, and be it our own, std has to fork.
    init.gid(getegid().as_raw());
    let child = init.spawn().map_err(failed("start /proc/self/exe"))?;
    drop(init);
    let_go_of_files()?;
    wait_for(child, foreground)
}
// ANCHOR_END: run

/// Where SIGCHLD is ignored, the kernel keeps no exit status and says nothing
/// when a child ends. To undo that takes `unsafe`; so refuse.
fn status_is_kept() -> Result<(), Failure> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if ignored >> (Signal::SIGCHLD as u32 - 1) & 1 == 0 {
        return Ok(());
    }
    let hint = Some("start it through `env --default-signal=CHLD`");
    Err(Failure { message: "run: SIGCHLD is ignored".into(), hint, status: 125 })
}

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

// ANCHOR: clock
/// Let the clock that counts from boot start anew for our children. It is an
/// offset from the host's, and is set before the first child exists or never.
fn new_clock() -> Result<(), Failure> {
    // CLONE_NEWTIME, which nix has no name for.
    match unshare(CloneFlags::from_bits_retain(0x80)) {
        Err(Errno::EINVAL) => {
            say("run: no time namespaces in this kernel: uptime is the host's".into());
            return Ok(());
        }
        outcome => outcome.map_err(failed("unshare(CLONE_NEWTIME)"))?,
    }
    let read = |file| fs::read_to_string(file).map_err(failed(&format!("read({file})")));
    let whole = |number: &str| number.parse::<i64>().unwrap_or(0);
    // Whole seconds: below zero there is no time, and the kernel would refuse.
    let uptime = whole(read("/proc/uptime")?.split('.').next().unwrap_or_default());
    // Our clock may have an offset from the host's already, in a container. A new
    // one begins with the same, in seconds and nanoseconds.
    let offsets = read("/proc/self/timens_offsets")?;
    let ours = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
    let mut ours = ours.unwrap_or_default().split_whitespace().map(whole);
    let (seconds, nanoseconds) = (ours.next().unwrap_or(0), ours.next().unwrap_or(0));
    let new = format!("boottime {} {nanoseconds}", seconds - uptime);
    write("/proc/self/timens_offsets", &new)
}
// ANCHOR_END: clock
