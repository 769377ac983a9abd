//! Used by `run`: gives the container its own uptime.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

use crate::error::{Context, Result, log};
use crate::run::write_proc;

// ANCHOR: reset_boottime
/// Makes the time since boot zero for our children. It is an offset from the
/// host's clock, and it can't be changed after the first child exists.
pub fn reset_boottime() -> Result<()> {
    // nix has no name for this flag.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    match unshare(CLONE_NEWTIME) {
        Err(Errno::EINVAL) => {
            log("run: this kernel has no time namespaces: uptime is the host's");
            return Ok(());
        }
        result => result.context("unshare(CLONE_NEWTIME)")?,
    }
    // Whole seconds, rounded down: a clock below zero is ERANGE.
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).context("clock_gettime")?.tv_sec();
    // If we are in a container, our own clock may have an offset already. The new
    // one starts with the same, and replaces it.
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
