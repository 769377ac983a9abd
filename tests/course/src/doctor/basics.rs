//! Files, signals, and directories that every step relies on.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use harness::{Context, ScratchDir};
use nix::sys::stat::makedev;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::advice::{self, Cause, HARMLESS};
use super::facts::{Facts, Place};
use super::{Finding, Verdict};

/// Without a /proc that knows this process, nothing can be tried.
pub(super) fn proc(facts: &Facts) -> Finding {
    let finding = Finding::new("/proc", Verdict::Ok, "all steps but 01");
    if !facts.status.is_empty() && fs::read_link("/proc/self/exe").is_ok() {
        return finding;
    }
    let is_procfs = statfs("/proc").is_ok_and(|proc| proc.filesystem_type() == PROC_SUPER_MAGIC);
    finding.refused(2, if is_procfs {
        let why = "The procfs at /proc belongs to a PID namespace that is dead or isn't this shell's, because a program \
            mounted it without making the mounts private first. Nothing else was tried.";
        Cause::new(why, "sudo umount /proc", "This removes only the wrong procfs.")
    } else {
        let why = "There is no procfs at /proc. Nothing else was tried.";
        Cause::new(why, "sudo mount -t proc proc /proc", "Every system does this when it boots.")
    })
}

/// If SIGCHLD is ignored, no program learns how its children ended.
pub(super) fn sigchld(facts: &Facts) -> Finding {
    let finding = Finding::new("SIGCHLD", Verdict::Ok, "all steps");
    let ignored = u64::from_str_radix(facts.field("SigIgn:"), 16).unwrap_or(0);
    if ignored >> (nix::libc::SIGCHLD - 1) & 1 == 0 {
        return finding;
    }
    let why = "This shell ignores SIGCHLD, because the program that started the shell ignored SIGCHLD, too. So the kernel \
        discards the exit status of every child. Nothing else was tried.";
    finding.refused(1, Cause::new(why, "env --default-signal=CHLD bash", HARMLESS))
}

/// Most programs open /dev/null, and the last step mounts it over files.
pub(super) fn null(facts: &Facts) -> Finding {
    let mut finding = Finding::new("/dev/null", Verdict::Ok, "steps 02 to 07");
    let found = fs::metadata("/dev/null");
    let opened = File::options().read(true).write(true).open("/dev/null");
    finding.found = opened.context("open(/dev/null)").err().map(|error| error.to_string());
    let opens = finding.found.is_none();
    let Some((first, cause)) = null_cause(facts, found, opens) else { return finding };
    if first.is_none() {
        return Finding { needed_for: "ordinary users".into(), ..finding.refused(u32::MAX, cause) };
    }
    finding.refused(first.unwrap_or(2), cause)
}

/// Returns what's wrong with /dev/null, and the first step of this user that can't run because of it.
fn null_cause(
    facts: &Facts,
    found: io::Result<Metadata>,
    opens: bool,
) -> Option<(Option<u32>, Cause)> {
    let remake = "This restores the device that every system has. Until then, programs that need the device may fail.";
    let Ok(found) = found else {
        let fix = "sudo mknod -m 666 /dev/null c 1 3";
        return Some((Some(2), Cause::new("There is no /dev/null.", fix, remake)));
    };
    if !found.file_type().is_char_device() || found.rdev() != makedev(1, 3) {
        let why = "/dev/null isn't the null device (1:3), so it keeps data that programs write to it, and the \
            masks of step 07 would show that data.";
        let fix = "sudo rm /dev/null && sudo mknod -m 666 /dev/null c 1 3";
        let first = if opens { 7 } else { 2 };
        return Some((Some(first), Cause::new(why, fix, remake)));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o006 != 0o006 {
        let why = format!("/dev/null has the mode {mode:04o}, so ordinary users can't open it.");
        let cause =
            Cause::new(why, "sudo chmod 666 /dev/null", "Every system's /dev/null has this mode.");
        return Some(((!opens).then_some(2), cause));
    }
    if opens {
        return None;
    }
    let why =
        "/dev/null is on a mount with the option nodev, or a security module forbids opening it.";
    let cause = if facts.place == Place::Sandbox {
        advice::sandbox(why)
    } else {
        let risk = "Programs can then open devices on that mount, if their user may open them.";
        Cause::new(why, "sudo mount -o remount,bind,dev /dev/null", risk)
    };
    Some((Some(2), cause))
}

/// The tests need a directory in which another user can run programs. If TMPDIR or /tmp won't do, the harness looks for
/// another one.
pub(super) fn temporary_directory(facts: &Facts) -> Finding {
    let name = if std::env::var_os("TMPDIR").is_some() { "TMPDIR" } else { "/tmp" };
    let needed_for = "tests, just check";
    let Some(reason) = ScratchDir::why_not_tmpdir() else {
        return Finding::new("a temporary directory", Verdict::Ok, needed_for);
    };
    if ScratchDir::new("course").is_ok() {
        let found = format!("{name} {reason}");
        return Finding::new(found, Verdict::Note, "the tests use another directory");
    }
    let why = format!("{name} {reason}, and /var/tmp, /dev/shm and /run can't be used either.");
    let finding = Finding::new("a temporary directory", Verdict::Ok, needed_for);
    if facts.place == Place::Sandbox {
        return finding.refused(u32::MAX, advice::sandbox(why));
    }
    let fix = "sudo mount -t tmpfs -o mode=1777 tmpfs /var/tmp";
    let risk = "This hides the files in /var/tmp until you unmount it: sudo umount /var/tmp";
    finding.refused(u32::MAX, Cause::new(why, fix, risk))
}
