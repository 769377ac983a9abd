//! A limit on processes: the user's or a cgroup's.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Call, CallError};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::advice::Cause;
use super::facts::{Facts, Place};

const LESS: &str = "A program that keeps creating processes can then slow down the machine.";

/// Explains a child that couldn't be created.
pub(super) fn limit(facts: &Facts, error: CallError) -> Option<Cause> {
    // Debian 11's C library reports EPERM for it.
    if error.call != Call::Spawn || !matches!(error.errno, Errno::EAGAIN | Errno::EPERM) {
        return None;
    }
    // A shell at its limit can start nothing, so another one has to help.
    let here =
        "In another shell, with the number that `echo $$` prints in this shell instead of PID: ";
    if let Some((limit, up)) = full_cgroup() {
        let why = format!(
            "A cgroup of this shell has reached its limit of processes (pids.max): {limit}."
        );
        if let Place::Container(_) = facts.place {
            let fix = "docker run --pids-limit=-1 IMAGE; podman run --pids-limit=-1 IMAGE";
            return Some(Cause::new(why, fix, LESS));
        }
        let up = "/..".repeat(up);
        let fix = format!(
            "{here}echo max | sudo tee /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/PID/cgroup){up}/pids.max"
        );
        return Some(Cause::new(why, &fix, LESS));
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap_or_default();
    let number = if soft == RLIM_INFINITY { "unlimited".to_owned() } else { soft.to_string() };
    let why = format!("This user has reached the limit of processes (ulimit -u): {number}.");
    let fix = format!("{here}sudo prlimit --pid PID --nproc=10000");
    let fix = if soft == hard { fix.as_str() } else { "ulimit -S -u hard" };
    Some(Cause::new(why, fix, LESS))
}

/// Finds the innermost cgroup that has as many processes as it may have. Returns its limit, and how many levels above
/// this shell's cgroup it is.
fn full_cgroup() -> Option<(u64, usize)> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = cgroups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        match line.split_once(':')? {
            ("", path) => Some(format!("/sys/fs/cgroup{path}")),
            ("pids", path) => Some(format!("/sys/fs/cgroup/pids{path}")),
            _ => None,
        }
    });
    let above = |own: String| {
        let directories: Vec<PathBuf> = Path::new(&own).ancestors().map(Path::to_owned).collect();
        directories.into_iter().enumerate()
    };
    own.flat_map(above).find_map(|(up, directory)| {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
        };
        let limit = number("pids.max")?;
        (number("pids.current")? >= limit).then_some((limit, up))
    })
}
