//! Run by `init`, inside: what in /proc and /sys is the host's, and cannot be
//! the container's own, is hidden or can only be read.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::{Failure, failed};

// ANCHOR: paths
/// What runc hides by default...
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

/// ...and what it lets nobody write to.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
// ANCHOR_END: paths

// ANCHOR: mask
/// Nothing in here can be deleted, but something can be mounted over it. Not
/// every kernel has every path.
pub fn mask() -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in MASKED.into_iter().filter(|path| Path::new(path).exists()) {
        match mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE) {
            // It is a directory, and so must be what hides it: an empty one.
            Err(Errno::ENOTDIR) => {
                mount(Some("tmpfs"), path, Some("tmpfs"), flags | MsFlags::MS_RDONLY, NONE)
                    .map_err(failed(&format!("mount(tmpfs, {path})")))?;
            }
            outcome => outcome.map_err(failed(&format!("mount(/dev/null, {path}, MS_BIND)")))?,
        }
    }
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        // A mount can be read-only, a file cannot. So mount it over itself, and
        // change that mount in a second call: the first heeds no MS_RDONLY. What
        // the second does not name is lost, so it names what /proc has.
        let read_only = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE)
            .map_err(failed(&format!("mount({path}, {path}, MS_BIND)")))?;
        mount(NONE, path, NONE, read_only, NONE)
            .map_err(failed(&format!("mount({path}, MS_BIND|MS_REMOUNT|MS_RDONLY)")))?;
    }
    Ok(())
}

const NONE: Option<&str> = None;
// ANCHOR_END: mask
