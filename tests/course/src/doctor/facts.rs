//! Facts about this process and this machine, mostly from /proc.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{getegid, geteuid};

/// CAP_SETFCAP of linux/capability.h: since Linux 5.12 it's needed to map the outer namespace's uid 0.
pub(super) const SETFCAP: u32 = 31;
/// CAP_SYS_ADMIN of linux/capability.h: it's needed for namespaces and mounts.
pub(super) const SYS_ADMIN: u32 = 21;
/// CAP_SETUID of linux/capability.h.
pub(super) const SETUID: u32 = 7;
/// CAP_SYS_TIME of linux/capability.h: it's needed to set the clock of a time namespace.
pub(super) const SYS_TIME: u32 = 25;

/// The inode numbers of a machine's first namespaces: linux/proc_ns.h.
const FIRST: [(&str, u64); 3] = [("pid", 0xEFFF_FFFC), ("uts", 0xEFFF_FFFE), ("user", 0xEFFF_FFFD)];

/// Directories that the kernel keeps empty so that something can be mounted there. A mount on one of them covers
/// nothing: is_empty_dir_inode() in fs/namespace.c.
const EMPTY: [&str; 3] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom"];

/// The kind of place that we run in, which may explain a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A container, with the name of its engine.
    Container(&'static str),
    /// A systemd service, whose unit may forbid things.
    Service,
    /// A user namespace without a PID namespace, or root without CAP_SYS_ADMIN, as sandboxes make.
    Sandbox,
    /// None of these.
    Host,
}

impl Place {
    fn find(may_mount: bool) -> Place {
        let [pid, uts, user] = FIRST.map(|(kind, number)| {
            let namespace = fs::metadata(format!("/proc/self/ns/{kind}"));
            namespace.map_or(true, |namespace| namespace.ino() == number)
        });
        let cgroup = text("/proc/self/cgroup");
        if !pid || !uts {
            return Place::Container(engine(&cgroup));
        }
        if user && cgroup.lines().any(|line| line.ends_with(".service")) {
            return Place::Service;
        }
        let tame_root = geteuid().is_root() && !may_mount;
        if user && !tame_root { Place::Host } else { Place::Sandbox }
    }
}

/// Names a container's engine by what it leaves behind. That alone proves nothing, because a virtual machine may
/// have been made from an image.
fn engine(cgroup: &str) -> &'static str {
    let environ = text("/proc/1/environ") + &text("/run/systemd/container");
    let says = |word: &str| environ.contains(word) || cgroup.contains(word);
    let exists = |path: &str| fs::metadata(path).is_ok();
    let kubernetes = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let kinds = [
        ("Podman's", exists("/run/.containerenv") || says("libpod") || says("podman")),
        ("Docker's", exists("/.dockerenv") || cgroup.contains("docker")),
        ("one of Kubernetes", cgroup.contains("kubepods") || kubernetes),
        ("LXC's", says("lxc")),
        ("systemd-nspawn's", says("systemd-nspawn")),
        ("OpenVZ's", exists("/proc/vz") && !exists("/proc/bc")),
    ];
    kinds.iter().find(|(_, fits)| *fits).map_or("of unknown kind", |(kind, _)| kind)
}

/// Facts that tell causes apart.
pub(super) struct Facts {
    pub(super) status: String,
    pub(super) mounts: String,
    /// Whether our user has a number in the user namespace.
    pub(super) mapped: bool,
    pub(super) chroot: bool,
    pub(super) place: Place,
    /// Whether a filter refuses unshare(2) whatever it's asked for.
    pub(super) filtered: bool,
}

impl Facts {
    pub(super) fn read() -> Self {
        let mounts = text("/proc/self/mountinfo");
        let is_mount = mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
        // Both are `/`, unless one of us is elsewhere, or we may not look.
        let id = |path: &str| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let roots = id("/").zip(id("/proc/1/root/"));
        let elsewhere = roots.is_some_and(|(ours, theirs)| ours != theirs);
        let mut facts = Facts {
            status: text("/proc/self/status"),
            mapped: is_mapped("uid", geteuid().as_raw()) && is_mapped("gid", getegid().as_raw()),
            place: Place::Host,
            chroot: !mounts.is_empty() && (!is_mount || elsewhere),
            mounts,
            filtered: false,
        };
        facts.place = Place::find(facts.has_capability(SYS_ADMIN));
        facts
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

    /// Whether a seccomp filter is at work.
    pub(super) fn has_filter(&self) -> bool {
        self.field("Seccomp:") == "2"
    }

    /// Returns the AppArmor profile that confines us, unless its name may be a path.
    pub(super) fn apparmor_profile(&self) -> Option<String> {
        let label = fs::read_to_string("/proc/self/attr/current").ok()?;
        let profile = label.trim().strip_suffix(" (enforce)")?;
        (!profile.contains('/')).then(|| profile.to_owned())
    }

    /// Lists the places below /proc that something else is mounted on, and that aren't empty anyway.
    pub(super) fn covered(&self) -> Vec<&str> {
        let points = self.mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let points = points.filter(|point| point.starts_with("/proc/") && !EMPTY.contains(point));
        points.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the options of the newest mount at a place, its own and its filesystem's.
    pub(super) fn mount_options(&self, place: &str) -> Vec<&str> {
        let line = self.mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(place));
        let fields: Vec<_> = line.unwrap_or_default().split(' ').collect();
        let own = fields.get(5).unwrap_or(&"").split(',');
        own.chain(fields.last().unwrap_or(&"").split(',')).collect()
    }
}

/// Reads a file, or nothing if that's not possible.
pub(super) fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Whether an ID has a number in this user namespace: user_namespaces(7).
pub(super) fn is_mapped(kind: &str, id: u32) -> bool {
    let map = text(&format!("/proc/self/{kind}_map"));
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
