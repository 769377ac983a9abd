//! A limit on processes: the user's or a cgroup's.

use std::fs;

use harness::{Call, CallError};
use nix::errno::Errno;

use super::causes::Cause;
use super::facts::{Facts, Place};

const LESS: &str = "A program that creates processes without end can then slow down the machine.";

/// Explains a child that couldn't be created.
pub(super) fn limit(facts: &Facts, error: CallError) -> Option<Cause> {
    // Debian 11's C library reports EPERM for it.
    if error.call != Call::Spawn || !matches!(error.errno, Errno::EAGAIN | Errno::EPERM) {
        return None;
    }
    if let Some(limit) = full_cgroup() {
        let why = format!(
            "A cgroup of this shell is at its limit of processes (pids.max), which is {limit}."
        );
        let fix = match facts.place {
            Place::Container(_) => {
                "docker run --pids-limit=-1 IMAGE; podman run --pids-limit=-1 IMAGE"
            }
            _ => {
                "echo max | sudo tee /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/pids.max"
            }
        };
        return Some(Cause::new(why, fix, LESS).not_tried());
    }
    let [soft, hard] = user_limit();
    let why = format!("This user is at the limit of processes (ulimit -u), which is {soft}.");
    let fix =
        if soft == hard { "sudo prlimit --pid $$ --nproc=10000" } else { "ulimit -S -u hard" };
    Some(Cause::new(why, fix, LESS))
}

/// Returns the soft and the hard limit of `ulimit -u`.
fn user_limit() -> [String; 2] {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max processes"));
    let mut words = line.unwrap_or_default().split_whitespace().map(str::to_owned);
    [(); 2].map(|()| words.next().unwrap_or_else(|| "unknown".to_owned()))
}

/// Returns the limit of the innermost cgroup that has as many processes as it may have.
fn full_cgroup() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let paths = cgroups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", path)),
            "pids" => Some(("/sys/fs/cgroup/pids", path)),
            _ => None,
        }
    });
    paths
        .flat_map(|(root, path)| {
            let inner = std::path::Path::new(path).ancestors();
            inner.map(move |path| format!("{root}{}", path.display()))
        })
        .find_map(|directory| {
            let number = |file: &str| {
                fs::read_to_string(format!("{directory}/{file}")).ok()?.trim().parse::<u64>().ok()
            };
            let limit = number("pids.max")?;
            (number("pids.current")? >= limit).then_some(limit)
        })
}
