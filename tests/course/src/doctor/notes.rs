//! Facts about this machine that need no privilege to find out.

use std::env;

use harness::is_in_path;

use super::advice::{Cause, HARMLESS, OTHER_KERNEL};
use super::facts::{Facts, Place, sysctl, text};
use super::{Finding, Verdict};

/// The programs that the course uses beside the steps: what for, and the package that has it.
const TOOLS: [(&str, &str, &str); 13] = [
    ("git", "just start, just break; tests", "git"),
    ("ps", "the book, tests", "procps"),
    ("unshare", "tests", "util-linux"),
    ("mount", "tests", "mount or util-linux"),
    ("setpriv", "tests", "util-linux or setpriv"),
    ("prlimit", "tests", "util-linux"),
    ("taskset", "the book, tests", "util-linux"),
    ("just", "optional: shorter commands", "just, or cargo install just"),
    ("strace", "optional: just trace", "strace"),
    ("pstree", "optional: another view of trees", "psmisc"),
    ("mdbook", "optional: just book", "cargo install --locked mdbook"),
    ("runc", "optional: tests in a container", "runc"),
    ("tini", "optional: another PID 1 to compare", "tini"),
];

fn tool((program, needed_for, package): (&str, &str, &str)) -> Finding {
    if is_in_path(program, &env::var_os("PATH").unwrap_or_default()) {
        return Finding::new(program, Verdict::Ok, needed_for);
    }
    let found = Some(format!("not in PATH; package: {package}"));
    Finding { found, ..Finding::new(program, Verdict::Missing, needed_for) }
}

fn note(check: impl Into<String>, needed_for: &str) -> Finding {
    Finding::new(check, Verdict::Note, needed_for)
}

/// Lists them.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut notes = vec![limit(), propagation(facts), cgroup(), place(facts), wsl(), filter(facts)];
    notes.extend(subset(facts));
    notes.extend(TOOLS.into_iter().map(tool));
    notes
}

/// The kernel's version, without what a distribution has added to it.
pub(super) fn linux() -> Finding {
    let version = text("/proc/version");
    let release = version.strip_prefix("Linux version ").unwrap_or_default();
    let is_number = |letter: &char| letter.is_ascii_digit() || *letter == '.';
    let number: String = release.chars().take_while(is_number).collect();
    let numbers: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    let check = format!("Linux {}", if number.is_empty() { "of unknown version" } else { &number });
    let finding = Finding::new(check, Verdict::Ok, "4.1; a time namespace needs 5.6");
    if numbers >= vec![4, 1] || number.is_empty() {
        return finding;
    }
    let why = "The course reads NSpid in /proc/PID/status, which exists since Linux 4.1.";
    finding.refused(2, Cause::new(why, OTHER_KERNEL, HARMLESS))
}

fn limit() -> Finding {
    let limit = sysctl("user/max_pid_namespaces").unwrap_or_else(|| "unknown".to_owned());
    note(format!("at most {limit} PID namespaces"), "just soak uses 16 at a time")
}

fn propagation(facts: &Facts) -> Finding {
    let line = facts.mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    let fields = line.and_then(|line| line.split_once(" - ")).map_or("", |(fields, _)| fields);
    if fields.contains(" shared:") {
        note("`/` is shared, as with systemd", "03: a mistake changes the host's /proc")
    } else {
        note("`/` isn't shared", "03: a mistake can't change the host")
    }
}

fn cgroup() -> Finding {
    let cgroups = text("/proc/self/cgroup");
    let (v2, v1): (Vec<_>, Vec<_>) = cgroups.lines().partition(|line| line.starts_with("0::"));
    let version = match (!v1.is_empty(), !v2.is_empty()) {
        (true, true) => "cgroups v1 and v2",
        (true, false) => "cgroups v1",
        (false, true) => "cgroup v2",
        (false, false) => "no cgroup",
    };
    // Not the path, which may name a user.
    let own = cgroups.lines().any(|line| !line.ends_with(":/"));
    let own = if own { "not the root" } else { "the root" };
    note(format!("{version}, {own}"), "this shell's cgroup may set limits")
}

fn place(facts: &Facts) -> Finding {
    match facts.place {
        Place::Container(kind) => note(format!("a container: {kind}"), ""),
        Place::Service => note("no container, but a systemd service", "its unit may forbid things"),
        Place::Sandbox => note("no container, but a user namespace", "a sandbox?"),
        Place::Host => note("no container", ""),
    }
}

/// A procfs that hides everything but processes. The steps run there, because they mount their own.
fn subset(facts: &Facts) -> Option<Finding> {
    let options = facts.mount_options("/proc");
    options.contains(&"subset=pid").then(|| {
        note("/proc has only processes (subset=pid)", "`ps` and `uptime` fail, but steps run")
    })
}

fn wsl() -> Finding {
    match text("/proc/version").to_lowercase() {
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
