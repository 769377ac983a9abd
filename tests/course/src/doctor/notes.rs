//! Facts about this machine that need no privilege to find out.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::causes::{Cause, HARMLESS};
use super::facts::{Facts, sysctl};
use super::{Finding, Verdict, tool};

/// The programs that the course uses beside the steps: what for, and the package that has it.
const TOOLS: [(&str, &str, &str); 12] = [
    ("ps", "the book, tests", "procps"),
    ("unshare", "tests", "util-linux"),
    ("mount", "tests", "mount or util-linux"),
    ("setpriv", "tests", "util-linux or setpriv"),
    ("prlimit", "tests", "util-linux"),
    ("taskset", "the book, tests", "util-linux"),
    ("just", "optional: shorter commands", "just, or cargo install just"),
    ("strace", "optional: just trace", "strace"),
    ("pstree", "optional: another view of trees", "psmisc"),
    ("mdbook", "optional: just book", "cargo install mdbook"),
    ("runc", "optional: tests in a container", "runc"),
    ("tini", "optional: another PID 1 to compare", "tini"),
];

fn note(check: impl Into<String>, needed_for: &str) -> Finding {
    Finding::new(check, Verdict::Note, needed_for)
}

/// Lists them.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut notes = vec![limit(), propagation(facts), cgroup(), container(), wsl(), filter(facts)];
    notes.extend(TOOLS.into_iter().map(tool));
    notes
}

/// The kernel's version, without what a distribution has added to it.
pub(super) fn linux() -> Finding {
    let version = fs::read_to_string("/proc/version").unwrap_or_default();
    let release = version.strip_prefix("Linux version ").unwrap_or_default();
    let is_number = |letter: &char| letter.is_ascii_digit() || *letter == '.';
    let number: String = release.chars().take_while(is_number).collect();
    let numbers: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    let version = (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0));
    let check = format!("Linux {}", if number.is_empty() { "of unknown version" } else { &number });
    let enough = version >= (4, 1) || number.is_empty();
    let verdict = if enough { Verdict::Ok } else { Verdict::NotOk };
    let cause = (!enough).then(|| Cause {
        why: "NSpid in /proc/PID/status, which the course reads, is there since Linux 4.1.".into(),
        fix: "Use a newer kernel, or a virtual machine.",
        risk: HARMLESS,
    });
    Finding { cause, ..Finding::new(check, verdict, "4.1; a time namespace needs 5.6") }
}

/// Without a /proc that knows this process, nothing can be tried.
pub(super) fn proc(facts: &Facts) -> Finding {
    let known = !facts.status.is_empty() && fs::read_link("/proc/self/exe").is_ok();
    let verdict = if known { Verdict::Ok } else { Verdict::NotOk };
    let cause = (!known).then(|| Cause {
        why: "There is no procfs at /proc, or it belongs to a PID namespace that is dead or isn't ours. Someone \
              mounted it without making the mounts private first. Nothing else was tried."
            .into(),
        fix: "sudo umount /proc; if there was none, sudo mount -t proc proc /proc",
        risk: "The first removes what is wrong, and the second is what every boot does.",
    });
    Finding { cause, ..Finding::new("/proc", verdict, "all steps but 01") }
}

fn limit() -> Finding {
    let limit = sysctl("user/max_pid_namespaces").unwrap_or_else(|| "unknown".to_owned());
    note(format!("at most {limit} PID namespaces"), "just soak has 16 at a time")
}

fn propagation(facts: &Facts) -> Finding {
    let line = facts.mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    let fields = line.and_then(|line| line.split_once(" - ")).map_or("", |(fields, _)| fields);
    if fields.contains(" shared:") {
        note("`/` is shared, as with systemd", "03: a careless /proc is the host's")
    } else {
        note("`/` isn't shared", "03: a careless /proc harms nothing")
    }
}

fn cgroup() -> Finding {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let version = match (
        text.lines().any(|line| !line.starts_with("0::")),
        text.lines().any(|line| line.starts_with("0::")),
    ) {
        (true, true) => "cgroups v1 and v2",
        (true, false) => "cgroups v1",
        (false, true) => "cgroup v2",
        (false, false) => "no cgroup",
    };
    // Not the path, which may name a user.
    let own = text.lines().any(|line| !line.ends_with(":/"));
    let own = if own { "not the root" } else { "the root" };
    note(format!("{version}, {own}"), "this shell's; it may set limits")
}

/// The inode numbers of a machine's first namespaces: linux/proc_ns.h.
const FIRST: [(&str, u64); 3] = [("pid", 0xEFFF_FFFC), ("uts", 0xEFFF_FFFE), ("user", 0xEFFF_FFFD)];

/// Names the kind of container by what engines leave behind. That alone proves nothing, because a virtual machine
/// may have been made from an image, so the first namespaces count more.
fn container() -> Finding {
    let namespace = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).map(|ns| ns.ino());
    if FIRST.iter().all(|(kind, number)| namespace(kind).is_ok_and(|inode| inode == *number)) {
        return note("no container", "");
    }
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let cgroup = text("/proc/self/cgroup");
    let environ = text("/proc/1/environ") + &text("/run/systemd/container");
    let says = |word: &str| environ.contains(word) || cgroup.contains(word);
    let exists = |path: &str| fs::metadata(path).is_ok();
    let kubernetes = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let kinds = [
        ("Docker's", exists("/.dockerenv") || cgroup.contains("docker")),
        ("Podman's", exists("/run/.containerenv") || says("libpod") || says("podman")),
        ("one of Kubernetes", cgroup.contains("kubepods") || kubernetes),
        ("LXC's", says("lxc")),
        ("systemd-nspawn's", says("systemd-nspawn")),
        ("OpenVZ's", exists("/proc/vz") && !exists("/proc/bc")),
    ];
    let kind = kinds.iter().find(|(_, fits)| *fits).map_or("of unknown kind", |(kind, _)| kind);
    note(format!("a container: {kind}"), "")
}

fn wsl() -> Finding {
    match fs::read_to_string("/proc/version").unwrap_or_default().to_lowercase() {
        release if release.contains("wsl2") => note("WSL2", "its `/` is private"),
        release if release.contains("microsoft") => note("WSL1", "no namespaces: use WSL2"),
        _ => note("no WSL", ""),
    }
}

fn filter(facts: &Facts) -> Finding {
    match (facts.field("Seccomp:"), facts.filtered) {
        (_, true) => note("a seccomp filter", "it refuses unshare(2)"),
        ("2", _) => note("a seccomp filter", "it allows unshare(2)"),
        ("0", _) => note("no seccomp filter", ""),
        _ => note("seccomp: unknown", ""),
    }
}
