//! What /proc says of this process and this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{getegid, geteuid};

/// CAP_SETFCAP of linux/capability.h: since Linux 5.12 it's needed to map the outer namespace's uid 0.
pub(super) const SETFCAP: u32 = 31;
/// CAP_SYS_TIME of linux/capability.h: it's needed to set the clock of a time namespace.
pub(super) const SYS_TIME: u32 = 25;

/// Facts that tell causes apart.
pub(super) struct Facts {
    pub(super) status: String,
    pub(super) mounts: String,
    /// Whether our user has a number in the user namespace.
    pub(super) mapped: bool,
    pub(super) chroot: bool,
    /// Whether a filter refuses unshare(2) whatever it's asked for.
    pub(super) filtered: bool,
}

impl Facts {
    pub(super) fn read(filtered: bool) -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mounts = text("/proc/self/mountinfo");
        let is_mount = mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
        // Both are `/`, unless one of us is elsewhere, or we may not look.
        let same = |one: fs::Metadata, other: fs::Metadata| {
            (one.dev(), one.ino()) == (other.dev(), other.ino())
        };
        let elsewhere = match (fs::metadata("/"), fs::metadata("/proc/1/root/")) {
            (Ok(ours), Ok(theirs)) => !same(ours, theirs),
            _ => false,
        };
        Facts {
            status: text("/proc/self/status"),
            mapped: is_mapped("uid", geteuid().as_raw()) && is_mapped("gid", getegid().as_raw()),
            chroot: !mounts.is_empty() && (!is_mount || elsewhere),
            mounts,
            filtered,
        }
    }

    /// Returns a field of /proc/self/status.
    pub(super) fn field(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim()
    }

    /// Whether we have a capability.
    pub(super) fn has_capability(&self, capability: u32) -> bool {
        let mask = u64::from_str_radix(self.field("CapEff:"), 16).unwrap_or(u64::MAX);
        mask >> capability & 1 == 1
    }

    /// Lists the places below /proc that something else is mounted on.
    pub(super) fn covered(&self) -> Vec<&str> {
        let points = self.mounts.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with("/proc/")).collect()
    }

    /// Returns how many PID namespaces deep we are, as far as this /proc knows.
    pub(super) fn pid_levels(&self) -> usize {
        self.field("NSpid:").split_whitespace().count()
    }
}

/// Whether an ID has a number in this user namespace: user_namespaces(7).
pub(super) fn is_mapped(kind: &str, id: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
    map.lines().any(|line| {
        let numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        match numbers.collect::<Vec<_>>()[..] {
            [first, _, count] => (first..first + count).contains(&u64::from(id)),
            _ => false,
        }
    })
}

/// Reads a setting of the kernel.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}
