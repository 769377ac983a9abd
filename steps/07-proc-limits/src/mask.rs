//! Used by `init` to hide files of the host in /proc and /sys, or to make them
//! read-only.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::makedev;

use crate::error::{Context, Result};

// ANCHOR: paths
/// Lists the paths that runc masks by default.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

/// Lists the paths that runc makes read-only by default.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
// ANCHOR_END: paths

// ANCHOR: mask_paths
/// Mounts an empty file or directory over each path in MASKED that exists on this
/// kernel, because files in /proc and /sys can't be deleted.
pub fn mask_paths() -> Result<()> {
    let null = fs::metadata("/dev/null").context("stat(/dev/null)")?;
    // The null device is the character device with the numbers 1 and 3 (null(4)).
    if !null.file_type().is_char_device() || null.rdev() != makedev(1, 3) {
        return Err("init: /dev/null isn't the null device, so it would mask nothing".into());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in MASKED.into_iter().filter(|path| Path::new(path).exists()) {
        match mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE) {
            // The path is a directory, so only a directory can be mounted over it.
            Err(Errno::ENOTDIR) => {
                mount(Some("tmpfs"), path, Some("tmpfs"), flags | MsFlags::MS_RDONLY, NONE)
                    .context(format!("mount(tmpfs, {path})"))?;
            }
            result => result.context(format!("mount(/dev/null, {path}, MS_BIND)"))?,
        }
    }
    Ok(())
}
// ANCHOR_END: mask_paths

// ANCHOR: make_read_only
/// Mounts each path over itself and makes that mount read-only. This takes two
/// calls, because the first ignores MS_RDONLY. The second call removes every flag
/// that it doesn't name, so it repeats the flags of /proc.
pub fn make_read_only() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE)
            .context(format!("mount({path}, {path}, MS_BIND)"))?;
        mount(NONE, path, NONE, read_only, NONE)
            .context(format!("mount({path}, MS_BIND|MS_REMOUNT|MS_RDONLY)"))?;
    }
    Ok(())
}

const NONE: Option<&str> = None;
// ANCHOR_END: make_read_only
