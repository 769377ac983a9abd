//! Used by `run` to give the container its own uptime.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

use crate::error::{Context, Result, log};
use crate::run::write_proc;

// ANCHOR: reset_boottime
/// Resets the time since boot to zero for our children. A time namespace holds an
/// offset that the kernel adds to the host's clock. The offset can't change once
/// the first child exists.
pub fn reset_boottime() -> Result<()> {
    // nix doesn't define this flag.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    match unshare(CLONE_NEWTIME) {
        Err(Errno::EINVAL) => {
            log("run: this kernel has no time namespaces: uptime is the host's");
            return Ok(());
        }
        result => result.context("unshare(CLONE_NEWTIME)")?,
    }
    // Round down to whole seconds, so that the container's clock starts at zero or
    // above. If the offset made the clock negative, the write would fail
    // (ERANGE).
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).context("clock_gettime")?.tv_sec();
    // If `run` itself runs in a container, its clock may already have an offset.
    // /proc/self/timens_offsets shows that offset until our line replaces it. So
    // read the offset, and subtract the uptime from it instead of from zero.
    let offsets = fs::read_to_string("/proc/self/timens_offsets");
    let offsets = offsets.context("read(/proc/self/timens_offsets)")?;
    let ours = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
    let mut ours = ours.unwrap_or_default().split_whitespace().map(parse_seconds);
    let (seconds, nanoseconds) = (ours.next().unwrap_or(0), ours.next().unwrap_or(0));
    let boottime = format!("boottime {} {nanoseconds}", seconds - uptime);
    write_proc("/proc/self/timens_offsets", &boottime)
}

fn parse_seconds(number: &str) -> i64 {
    number.parse().unwrap_or(0)
}
// ANCHOR_END: reset_boottime
