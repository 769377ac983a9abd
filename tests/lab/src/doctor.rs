//! `lab doctor`: what this machine can do for the course, found by trying, each trial in a process of its
//! own; and where it cannot, why, and what changes that.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::step::NOBODY;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It does not, and a step needs it.
    NotOk,
    /// A program that no step needs is not installed.
    Missing,
    /// A fact that changes what a reader sees, and no more.
    Note,
}

/// One check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked for.
    pub check: String,
    /// Whether it is there.
    pub verdict: Verdict,
    /// The steps, or else, that it is for.
    pub needed_for: &'static str,
    /// The call that was refused and the kernel's answer, or what was found.
    pub found: Option<String>,
    /// Why, and the way out.
    pub cause: Option<Cause>,
}

/// Why a trial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The reason.
    pub reason: String,
    /// The command or setting that changes it.
    pub way_out: &'static str,
    /// What that means for the machine's safety.
    pub safety: &'static str,
}

/// What this machine can do.
#[derive(Clone, Debug)]
pub struct Report {
    /// The checks, in their order.
    pub findings: Vec<Finding>,
    /// The steps that can run, by their numbers.
    pub steps: Vec<&'static str>,
}

const STEPS: [&str; 5] = ["01", "02", "03", "04", "05"];

/// The programs that the course uses beside the steps: what for, the package that has it, and whether one
/// can do without.
const TOOLS: [(&str, &str, &str); 12] = [
    ("ps", "the book, tests", "procps"),
    ("unshare", "tests", "util-linux"),
    ("mount", "tests", "mount or util-linux"),
    ("setpriv", "tests", "util-linux or setpriv"),
    ("prlimit", "tests", "util-linux"),
    ("taskset", "the book, tests", "util-linux"),
    ("just", "optional: shorter commands", "just, or `cargo install just`"),
    ("strace", "optional: `just trace`", "strace"),
    ("pstree", "optional: another view of trees", "psmisc"),
    ("mdbook", "optional: `just book`", "`cargo install mdbook`"),
    ("runc", "optional: tests in a container", "runc"),
    ("tini", "optional: another PID 1 to compare", "tini"),
];

const SETTINGS: &str = "It lasts until the next start; a file in /etc/sysctl.d keeps it. Programs of \
    every user can then reach parts of the kernel that are else for root alone, and flaws in those have \
    been used to become root. Set it back when you are done.";
const BY_ENGINE: &str = "Programs in such a container can reach more of the machine's kernel. Start it so \
    only for the course, not for what you do not trust. A virtual machine needs none of this.";
const HARMLESS: &str = "This changes nothing for anybody else.";

/// Makes all checks.
pub fn examine() -> Report {
    let facts = Facts::read();
    let mut findings = vec![linux(), proc(&facts)];
    let has_proc = findings[1].verdict == Verdict::Ok;
    let mut steps = vec!["01"];
    let mut ways = vec![(Way::User, "without root")];
    if geteuid().is_root() {
        ways.insert(0, (Way::Root, "as root"));
    }
    let several = ways.len() > 1;
    let mut tried = Vec::new();
    for (way, words) in ways {
        let mut possible = true;
        for trial in TRIALS {
            // What builds on a thing that is refused is refused in the same words: once is enough.
            if !possible || !has_proc {
                break;
            }
            let outcome = run(way, trial.word);
            let ok = outcome.is_ok();
            tried.push((way, trial.word, ok));
            possible &= ok || ["mask", "time"].contains(&trial.word);
            let cause = outcome.as_ref().err().map(|refusal| cause(&facts, way, refusal));
            findings.push(Finding {
                check: format!("{}, {words}", trial.check),
                verdict: if ok { Verdict::Ok } else { Verdict::NotOk },
                needed_for: trial.needed_for,
                found: outcome.err(),
                cause,
            });
            if ok {
                steps.extend(
                    trial
                        .steps
                        .iter()
                        .filter(|step| !steps.contains(step))
                        .copied()
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    if several && has_proc {
        // One way is enough for the steps; the tests go both.
        for finding in &mut findings {
            let other = |word: &str| tried.iter().any(|(_, trial, ok)| *trial == word && *ok);
            let trial = TRIALS.iter().find(|trial| finding.check.starts_with(trial.check));
            if finding.verdict == Verdict::NotOk && trial.is_some_and(|trial| other(trial.word)) {
                finding.needed_for = "the tests; the other way works";
            }
        }
    }
    steps.sort_unstable();
    steps.retain(|step| *step != "05" || allow_step_05(&tried));
    findings.push(limit(&facts));
    findings.extend([propagation(&facts), cgroup(), container(), wsl(), filter(&facts)]);
    findings.extend(TOOLS.into_iter().map(tool));
    Report { findings, steps }
}

/// One way must do for both.
fn allow_step_05(tried: &[(Way, &str, bool)]) -> bool {
    let both = |way| ["mask", "time"].iter().all(|word| tried.contains(&(way, *word, true)));
    both(Way::Root) || both(Way::User)
}

/// Who makes the trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Root,
    User,
}

struct Trial {
    word: &'static str,
    check: &'static str,
    needed_for: &'static str,
    steps: &'static [&'static str],
}

const TRIALS: [Trial; 5] = [
    Trial { word: "pid", check: "a PID namespace", needed_for: "steps 02 to 05", steps: &["02"] },
    Trial {
        word: "mounts",
        check: "mounts of one's own",
        needed_for: "steps 03 to 05",
        steps: &[],
    },
    Trial {
        word: "proc",
        check: "a /proc of one's own",
        needed_for: "steps 03 to 05",
        steps: &["03", "04"],
    },
    Trial { word: "mask", check: "masks in /proc", needed_for: "step 05", steps: &[] },
    Trial { word: "time", check: "a time namespace", needed_for: "step 05", steps: &["05"] },
];

/// Makes one trial in a child process. The error is the refused call and the kernel's answer.
fn run(way: Way, trial: &str) -> Result<(), String> {
    let attempt = |user: Option<u32>| {
        let mut command = Command::new("/proc/self/exe");
        let word = if way == Way::Root { "root" } else { "userns" };
        // In a directory that the other user may be in.
        command.args(["try", word, trial]).stdin(Stdio::null()).current_dir("/");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.output()
    };
    // Root tries it as somebody else. Root of a container may not be able to be somebody else, or know
    // anybody else: then it makes a user namespace itself.
    let other = way == Way::User && geteuid().is_root();
    let other = other && mapped("uid", NOBODY) && mapped("gid", NOBODY);
    let output = match attempt(other.then_some(NOBODY)) {
        Err(_) if other => attempt(None),
        outcome => outcome,
    };
    let output = output.map_err(|error| format!("start a process: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // The innermost process speaks first.
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().find_map(|line| line.strip_prefix("lab: ")).unwrap_or(&said).trim().to_owned())
}

/// What /proc says of this process and this machine.
struct Facts {
    status: String,
    mounts: String,
    mapped: bool,
    chroot: bool,
    filtered: bool,
}

impl Facts {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mounts = text("/proc/self/mountinfo");
        let is_mount = mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
        // Both are /, unless one of the two is elsewhere, or we may not look.
        let same = |one: fs::Metadata, other: fs::Metadata| {
            (one.dev(), one.ino()) == (other.dev(), other.ino())
        };
        let elsewhere = match (fs::metadata("/"), fs::metadata("/proc/1/root/")) {
            (Ok(ours), Ok(theirs)) => !same(ours, theirs),
            _ => false,
        };
        Facts {
            status: text("/proc/self/status"),
            mapped: mapped("uid", geteuid().as_raw()) && mapped("gid", getegid().as_raw()),
            chroot: !mounts.is_empty() && (!is_mount || elsewhere),
            mounts,
            filtered: run(Way::Root, "filter").is_err_and(|refusal| refusal.contains("(EPERM)")),
        }
    }

    fn line(&self, key: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim()
    }

    /// Whether root has this capability, a number of linux/capability.h.
    fn capable(&self, capability: u32) -> bool {
        let mask = u64::from_str_radix(self.line("CapEff:"), 16).unwrap_or(u64::MAX);
        mask >> capability & 1 == 1
    }

    /// The places below /proc on which something else is mounted.
    fn covered(&self) -> Vec<&str> {
        let points = self.mounts.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with("/proc/")).collect()
    }
}

/// Whether an ID has a number in this user namespace: user_namespaces(7).
fn mapped(kind: &str, id: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
    map.lines().any(|line| {
        let numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        match numbers.collect::<Vec<_>>()[..] {
            [first, _, count] => (first..first + count).contains(&u64::from(id)),
            _ => false,
        }
    })
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// CAP_SETFCAP of linux/capability.h: since Linux 5.12 needed to map uid 0 of the outer namespace.
const SETFCAP: u32 = 31;

/// CAP_SYS_TIME of linux/capability.h: needed to set the clock of a time namespace.
const SYS_TIME: u32 = 25;

/// What most likely refused `refusal`, `CALL: WORDS (ERRNO)`.
fn cause(facts: &Facts, way: Way, refusal: &str) -> Cause {
    let is = |call: &str, errno: &str| {
        refusal.starts_with(call) && refusal.ends_with(&format!("({errno})"))
    };
    let apparmor = setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    let engine = "Docker: --security-opt seccomp=unconfined --security-opt systempaths=unconfined; \
        Podman: --security-opt seccomp=unconfined --security-opt unmask=ALL";
    let (reason, way_out, safety): (String, _, _) = if refusal.ends_with("(ENOSPC)") {
        return limited(facts, refusal);
    } else if is("unshare", "EINVAL") || is("unshare", "ENOSYS") {
        (
            "This kernel was built without that kind of namespace, or is no Linux kernel but something \
             that answers like one."
                .into(),
            "Another kernel: that of a usual distribution, 5.6 or later, in a virtual machine.",
            HARMLESS,
        )
    } else if facts.filtered && (is("unshare", "EPERM") || is("mount", "EPERM")) {
        (
            "A seccomp filter refuses the call unshare(2), whatever it asks for: that of a container \
             engine, as a rule."
                .into(),
            engine,
            BY_ENGINE,
        )
    } else if is("unshare", "EPERM") && !facts.mapped {
        (
            "This process's user has no number in its user namespace (see /proc/self/uid_map)."
                .into(),
            "Map it: `unshare --user --map-root-user` in place of `unshare --user`.",
            HARMLESS,
        )
    } else if is("unshare", "EPERM")
        && way == Way::User
        && setting("kernel/unprivileged_userns_clone").as_deref() == Some("0")
    {
        (
            "kernel.unprivileged_userns_clone is 0: only root makes user namespaces.".into(),
            "sudo sysctl kernel.unprivileged_userns_clone=1",
            SETTINGS,
        )
    } else if facts.chroot && (is("unshare", "EPERM") || is("mount(/,", "EINVAL")) {
        (
            "This is a chroot: the kernel makes no user namespace there, and `/` may be no mount."
                .into(),
            "Leave the chroot, or enter it with pivot_root(2), as `bwrap` and engines do.",
            HARMLESS,
        )
    } else if apparmor && way == Way::User && refusal.contains("(E") {
        (
            "AppArmor gives a program without a profile no rights in a user namespace of its own \
             (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu since 23.10)."
                .into(),
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            SETTINGS,
        )
    } else if refusal.ends_with("(EACCES)") {
        (
            "A security module forbids it: SELinux or AppArmor. Its log says by which rule \
             (`sudo dmesg`, or `sudo ausearch -m avc`)."
                .into(),
            "A rule of that module for this program; or the steps as root.",
            "A rule for one program opens the way for that program alone.",
        )
    } else if is("write(/proc/self/uid_map)", "EPERM") && !facts.capable(SETFCAP) {
        (
            "Root without CAP_SETFCAP, as in a container, may not map user 0 into a user namespace."
                .into(),
            "An ordinary user in the container (Docker: --user 1000), or --cap-add SETFCAP.",
            BY_ENGINE,
        )
    } else if is("write(/proc/self/timens_offsets)", "EPERM")
        && way == Way::Root
        && !facts.capable(SYS_TIME)
    {
        (
            "Root without CAP_SYS_TIME, as in a container, may make a time namespace and not set its \
             clock."
                .into(),
            "An ordinary user in the container (Docker: --user 1000), or --cap-add SYS_TIME.",
            "With CAP_SYS_TIME the container's root can set the machine's clock. Prefer the other way.",
        )
    } else if is("write", "EROFS") {
        (
            "/proc is read-only, as in a sandbox (bwrap --ro-bind / /).".into(),
            "Start outside the sandbox, or give it a /proc of its own (bwrap --proc /proc).",
            HARMLESS,
        )
    } else if is("mount", "EINVAL") {
        (
            "This kernel cannot mount so. It is an old one, or no Linux kernel but something that \
             answers like one, as gVisor does, which cannot change a mount."
                .into(),
            "Another kernel: that of a usual distribution, 5.6 or later, in a virtual machine.",
            HARMLESS,
        )
    } else if is("mount(proc", "EPERM") && !facts.covered().is_empty() {
        (
            format!(
                "Parts of /proc are covered ({}), as engines do: who does not see all of the old /proc \
                 gets no new one.",
                facts.covered().join(", ")
            ),
            "Docker: --security-opt systempaths=unconfined; Podman: --security-opt unmask=ALL",
            BY_ENGINE,
        )
    } else if is("mount", "EPERM") {
        (
            "A filter or a security module refuses mount(2): a container engine's, as a rule."
                .into(),
            engine,
            BY_ENGINE,
        )
    } else if is("unshare(CLONE_NEWTIME)", "EPERM") {
        (
            "A seccomp filter that looks at the flags, as a sandbox has: it allows a PID namespace, and no \
             time namespace."
                .into(),
            "Start outside the sandbox or the container, or see its options.",
            BY_ENGINE,
        )
    } else if is("unshare", "EPERM") && way == Way::Root {
        (
            "Root without CAP_SYS_ADMIN, as in a container.".into(),
            "Docker, Podman: --cap-add SYS_ADMIN; or as an ordinary user, if that is ok below.",
            "With CAP_SYS_ADMIN the container's root is nearly the machine's root. Prefer the other way.",
        )
    } else if is("unshare", "EPERM") {
        (
            "One of these: a chroot; a seccomp filter that looks at the flags; a security module. All \
             settings that this program knows allow it."
                .into(),
            "Leave the chroot or the container, or see its engine's options.",
            BY_ENGINE,
        )
    } else {
        (
            "Not known to this program.".into(),
            "Please open an issue with all that is written here.",
            "Nothing in it names you or your machine.",
        )
    };
    Cause { reason, way_out, safety }
}

fn limited(facts: &Facts, refusal: &str) -> Cause {
    // With the outermost /proc all levels are seen, else some.
    let levels = facts.line("NSpid:").split_whitespace().count();
    let limit = |kind: &str| setting(&format!("user/max_{kind}_namespaces"));
    let (kind, way_out) = match refusal {
        _ if refusal.contains("NEWUSER") => ("user", "sudo sysctl user.max_user_namespaces=10000"),
        _ if refusal.contains("NEWNS") => ("mnt", "sudo sysctl user.max_mnt_namespaces=10000"),
        _ if refusal.contains("NEWTIME") => ("time", "sudo sysctl user.max_time_namespaces=10000"),
        _ => ("pid", "sudo sysctl user.max_pid_namespaces=10000"),
    };
    match limit(kind) {
        _ if levels >= 32 && kind == "pid" => Cause {
            reason: "This shell is 32 PID namespaces deep; the kernel allows no more.".into(),
            way_out: "Leave some of them: `exit`.",
            safety: HARMLESS,
        },
        Some(limit) if limit == "0" => Cause {
            reason: format!("user.max_{kind}_namespaces is 0: nobody makes such namespaces."),
            way_out,
            safety: SETTINGS,
        },
        limit => Cause {
            reason: format!(
                "The limit on namespaces (user.max_{kind}_namespaces, {}) is used up, or that of an outer \
                 user namespace is, or namespaces are 32 levels deep.",
                limit.unwrap_or_else(|| "unknown".to_owned())
            ),
            way_out,
            safety: SETTINGS,
        },
    }
}

fn finding(check: impl Into<String>, verdict: Verdict, needed_for: &'static str) -> Finding {
    Finding { check: check.into(), verdict, needed_for, found: None, cause: None }
}

/// The version without what a distribution or an owner has added to it.
fn linux() -> Finding {
    let version = fs::read_to_string("/proc/version").unwrap_or_default();
    let release = version.strip_prefix("Linux version ").unwrap_or_default();
    let number: String =
        release.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    let numbers: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    let version = (numbers.first().copied().unwrap_or(0), numbers.get(1).copied().unwrap_or(0));
    let check = format!("Linux {}", if number.is_empty() { "of unknown version" } else { &number });
    let enough = version >= (4, 1);
    let verdict = if enough || number.is_empty() { Verdict::Ok } else { Verdict::NotOk };
    let mut finding = finding(check, verdict, "4.1; 5.6 for all of step 05");
    if verdict == Verdict::NotOk {
        finding.cause = Some(Cause {
            reason: "NSpid in /proc/PID/status, which the lab reads, is there since Linux 4.1."
                .into(),
            way_out: "A newer kernel, or a virtual machine.",
            safety: HARMLESS,
        });
    }
    finding
}

/// Without a /proc that knows this process, nothing can be tried.
fn proc(facts: &Facts) -> Finding {
    let known = !facts.status.is_empty() && fs::read_link("/proc/self/exe").is_ok();
    let mut finding =
        finding("/proc", if known { Verdict::Ok } else { Verdict::NotOk }, "all steps but 01");
    if !known {
        finding.cause = Some(Cause {
            reason: "There is no procfs at /proc, or it belongs to PID namespace that is dead or not \
                ours: somebody has mounted it without a private mount first. Nothing else was tried."
                .into(),
            way_out: "sudo umount /proc; if there was none, sudo mount -t proc proc /proc",
            safety: "The first takes away what is wrong; the second is what every start does.",
        });
    }
    finding
}

fn limit(_: &Facts) -> Finding {
    let limit = setting("user/max_pid_namespaces");
    let limit = limit.unwrap_or_else(|| "unknown".to_owned());
    finding(
        format!("PID namespaces at most: {limit}"),
        Verdict::Note,
        "`just soak` has 16 at a time",
    )
}

fn propagation(facts: &Facts) -> Finding {
    let line = facts.mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    let fields = line.and_then(|line| line.split_once(" - ")).map_or("", |(fields, _)| fields);
    let shared = fields.contains(" shared:");
    let (check, needed_for) = match shared {
        true => ("`/` is shared, as with systemd", "03: a careless /proc is the host's"),
        false => ("`/` is not shared", "03: a careless /proc harms nobody"),
    };
    finding(check, Verdict::Note, needed_for)
}

fn cgroup() -> Finding {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let second = text.lines().any(|line| line.starts_with("0::"));
    let first = text.lines().any(|line| !line.starts_with("0::"));
    let version = match (first, second) {
        (true, true) => "cgroups v1 and v2",
        (true, false) => "cgroups v1",
        (false, true) => "cgroup v2",
        (false, false) => "no cgroup",
    };
    // The path may name a user.
    let own = text.lines().any(|line| !line.ends_with(":/"));
    let own = if own { "not the root" } else { "the root" };
    finding(format!("{version}, {own}"), Verdict::Note, "this shell's; it may set limits")
}

/// The inode numbers of a machine's first namespaces: linux/proc_ns.h.
const FIRST: [(&str, u64); 3] = [("pid", 0xEFFF_FFFC), ("uts", 0xEFFF_FFFE), ("user", 0xEFFF_FFFD)];

/// Which kind of container this is, by what engines leave behind. That alone proves nothing: a virtual
/// machine may have been made from an image. In the machine's first namespaces there is no container.
fn container() -> Finding {
    let namespace = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).map(|ns| ns.ino());
    if FIRST.iter().all(|(kind, number)| namespace(kind).is_ok_and(|inode| inode == *number)) {
        return finding("no container", Verdict::Note, "");
    }
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let cgroup = text("/proc/self/cgroup");
    let environ = text("/proc/1/environ") + &text("/run/systemd/container");
    let says = |word: &str| environ.contains(word) || cgroup.contains(word);
    let exists = |path: &str| fs::metadata(path).is_ok();
    let kind = if exists("/.dockerenv") || cgroup.contains("docker") {
        "Docker's, by its traces"
    } else if exists("/run/.containerenv") || says("libpod") || says("podman") {
        "Podman's"
    } else if cgroup.contains("kubepods") || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        "one of Kubernetes"
    } else if says("lxc") {
        "LXC's"
    } else if says("systemd-nspawn") {
        "systemd-nspawn's"
    } else if exists("/proc/vz") && !exists("/proc/bc") {
        "OpenVZ's"
    } else {
        "its kind is not known"
    };
    finding(format!("a container: {kind}"), Verdict::Note, "")
}

fn wsl() -> Finding {
    let release = fs::read_to_string("/proc/version").unwrap_or_default();
    let (check, needed_for) = match release.to_lowercase() {
        release if release.contains("wsl2") => ("WSL2", "its `/` is private"),
        release if release.contains("microsoft") => ("WSL1", "no namespaces: use WSL2"),
        _ => ("no WSL", ""),
    };
    finding(check, Verdict::Note, needed_for)
}

fn filter(facts: &Facts) -> Finding {
    let (check, needed_for) = match (facts.line("Seccomp:"), facts.filtered) {
        (_, true) => ("a seccomp filter", "it refuses unshare(2)"),
        ("2", _) => ("a seccomp filter", "it lets unshare(2) pass"),
        ("0", _) => ("no seccomp filter", ""),
        _ => ("seccomp: not known", ""),
    };
    finding(check, Verdict::Note, needed_for)
}

fn tool((program, needed_for, package): (&str, &'static str, &str)) -> Finding {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(_) => finding(program, Verdict::Ok, needed_for),
        Err(error) => Finding {
            found: Some(match error.kind() {
                std::io::ErrorKind::NotFound => format!("not in PATH; package: {package}"),
                _ => format!("{error}"),
            }),
            ..finding(program, Verdict::Missing, needed_for)
        },
    }
}

impl Report {
    /// Whether all steps can run.
    pub fn all_steps(&self) -> bool {
        self.steps == STEPS && self.findings[..2].iter().all(|found| found.verdict == Verdict::Ok)
    }

    /// For people: one line a check, of at most 80 columns, and more where something is not ok.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::NotOk => "not ok",
                Verdict::Missing => "missing",
                Verdict::Note => "note",
            };
            let line = format!("{verdict:<8} {:<35} {}", finding.check, finding.needed_for);
            if line.chars().count() <= 80 {
                let _ = writeln!(text, "{}", line.trim_end());
            } else {
                let _ = writeln!(text, "{verdict:<8} {}", finding.check);
                wrap(&mut text, "", finding.needed_for);
            }
            if let Some(found) = &finding.found {
                wrap(&mut text, "", found);
            }
            if let Some(cause) = &finding.cause {
                wrap(&mut text, "why:    ", &cause.reason);
                wrap(&mut text, "change: ", cause.way_out);
                wrap(&mut text, "safe?   ", cause.safety);
            }
        }
        let line = match self.all_steps() {
            true => "All steps can run.".to_owned(),
            false => {
                let cannot: Vec<_> =
                    STEPS.iter().filter(|step| !self.steps.contains(step)).collect();
                let cannot: Vec<_> = cannot.into_iter().copied().collect();
                format!("Not all steps can run here. These cannot: {}.", cannot.join(", "))
            }
        };
        let _ = writeln!(text, "\n{line}");
        text
    }

    /// For scripts: `all_steps`, `steps`, and `checks`, each with `check`, `verdict` (`ok`, `not ok`,
    /// `missing`, `note`), `for`, and, or null, `found`, `why`, `change`, `safety`.
    pub fn json(&self) -> Value {
        let checks = self.findings.iter().map(|finding| {
            let cause = finding.cause.as_ref();
            json!({
                "check": finding.check,
                "verdict": match finding.verdict {
                    Verdict::Ok => "ok",
                    Verdict::NotOk => "not ok",
                    Verdict::Missing => "missing",
                    Verdict::Note => "note",
                },
                "for": finding.needed_for,
                "found": finding.found,
                "why": cause.map(|cause| &cause.reason),
                "change": cause.map(|cause| cause.way_out),
                "safety": cause.map(|cause| cause.safety),
            })
        });
        let checks: Vec<_> = checks.collect();
        json!({ "all_steps": self.all_steps(), "steps": self.steps, "checks": checks })
    }
}

/// Adds `words` to `text`, after `head`, in lines of at most 80 columns below the checks.
fn wrap(text: &mut String, head: &str, words: &str) {
    const INDENT: usize = 9;
    let mut line = format!("{:INDENT$}{head}", "");
    let start = line.chars().count();
    let mut length = start;
    for word in words.split_whitespace() {
        if length > start && length + 1 + word.chars().count() > 80 {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(start);
            length = start;
        }
        if length > start {
            line.push(' ');
        }
        line += word;
        length = line.chars().count();
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
