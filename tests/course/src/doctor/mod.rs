//! Finds out what this machine can do for the course by trying, and if it can't, why, and what changes that.

mod causes;
mod facts;
mod notes;
mod render;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use harness::probe::Probe;
use harness::{CallError, Caller, UNPRIVILEGED_UID};
use nix::unistd::geteuid;

use crate::step::NEEDS;
use causes::Cause;
use facts::{Facts, is_mapped};

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Ok,
    /// It doesn't, and a step needs it.
    NotOk,
    /// A program isn't installed, and no step needs it.
    Missing,
    /// A fact that changes what a reader sees, and no more.
    Note,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Finding {
    check: String,
    verdict: Verdict,
    needed_for: String,
    /// The call that was refused, or what was found.
    found: Option<String>,
    cause: Option<Cause>,
}

impl Finding {
    fn new(check: impl Into<String>, verdict: Verdict, needed_for: impl Into<String>) -> Self {
        let (check, needed_for) = (check.into(), needed_for.into());
        Finding { check, verdict, needed_for, found: None, cause: None }
    }
}

/// What this machine can do.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
    /// The number of every step, and whether it can run.
    steps: Vec<(u32, bool)>,
}

/// What each probe is called in the report.
const NAMES: [(Probe, &str); 5] = [
    (Probe::Pid, "a PID namespace"),
    (Probe::Mounts, "private mounts"),
    (Probe::Procfs, "a separate /proc"),
    (Probe::Masks, "masks in /proc"),
    (Probe::Time, "a time namespace"),
];

/// Makes every check. It needs no checkout, because it has to work where not much does.
pub fn examine() -> Report {
    let filtered = matches!(try_probe(Caller::Root, Probe::Filter), Err(Refusal::Call(error))
        if error.errno == nix::errno::Errno::EPERM);
    let facts = Facts::read(filtered);
    let mut findings = vec![notes::linux(), notes::proc(&facts)];
    let has_proc = findings[1].verdict == Verdict::Ok;
    let mut tried = Vec::new();
    for caller in callers() {
        if has_proc {
            findings.extend(probe_as(caller, &facts, &mut tried));
        }
    }
    let works = |probe, caller| tried.contains(&(probe, caller, true));
    let basics = findings[..2].iter().all(|finding| finding.verdict == Verdict::Ok);
    let can = |step: u32| {
        let needs: Vec<_> = NEEDS.iter().filter(|(_, first)| *first <= step).collect();
        let works_for =
            |caller: &Caller| needs.iter().all(|(probe, _)| works(*probe, *caller) && basics);
        needs.is_empty() || callers().iter().any(works_for)
    };
    let steps = (1..=last_step()).map(|step| (step, can(step))).collect();
    // One caller is enough for the steps, and the tests use both.
    for finding in &mut findings {
        let name = NAMES.iter().find(|(_, name)| finding.check.starts_with(name));
        let other_works = |probe| tried.iter().any(|(tried, _, ok)| *tried == probe && *ok);
        if finding.verdict == Verdict::NotOk && name.is_some_and(|(probe, _)| other_works(*probe)) {
            finding.needed_for = "the tests; the other way works".to_owned();
        }
    }
    findings.extend(notes::all(&facts));
    Report { findings, steps }
}

/// Who can call a step here: ourselves as root, and an ordinary user.
fn callers() -> Vec<Caller> {
    if geteuid().is_root() { vec![Caller::Root, Caller::Rootless] } else { vec![Caller::Rootless] }
}

/// Probes for one caller, as far as it makes sense: what builds on a refused call would be refused, too.
fn probe_as(caller: Caller, facts: &Facts, tried: &mut Vec<(Probe, Caller, bool)>) -> Vec<Finding> {
    let how = if caller == Caller::Root { "as root" } else { "without root" };
    let mut findings = Vec::new();
    for (probe, name) in NAMES {
        let check = format!("{name}, {how}");
        let needed_for = needed_for(probe);
        let result = try_probe(caller, probe);
        tried.push((probe, caller, result.is_ok()));
        let Err(refusal) = result else {
            findings.push(Finding::new(check, Verdict::Ok, needed_for));
            continue;
        };
        let cause = match &refusal {
            Refusal::Call(error) => causes::find(facts, caller, *error),
            Refusal::Other(_) => causes::unknown(),
        };
        let found = match refusal {
            Refusal::Call(error) => error.to_string(),
            Refusal::Other(message) => message,
        };
        let (found, cause) = (Some(found), Some(cause));
        findings.push(Finding { found, cause, ..Finding::new(check, Verdict::NotOk, needed_for) });
        if matches!(probe, Probe::Pid | Probe::Mounts | Probe::Procfs) {
            break;
        }
    }
    findings
}

/// Returns the number of the last step, which needs the most.
fn last_step() -> u32 {
    NEEDS.iter().map(|(_, first)| *first).max().unwrap_or(1)
}

/// Names the steps that need it: `steps 02 to 05`.
fn needed_for(probe: Probe) -> String {
    let first = NEEDS.iter().find(|(need, _)| *need == probe).map_or(0, |(_, first)| *first);
    let last = last_step();
    if first == last { format!("step {last:02}") } else { format!("steps {first:02} to {last:02}") }
}

enum Refusal {
    Call(CallError),
    Other(String),
}

/// Tries something in a child process.
fn try_probe(caller: Caller, probe: Probe) -> std::result::Result<(), Refusal> {
    let run = |user: Option<u32>| {
        // We are our own helper. In a directory that the other user may be in.
        let mut helper = Command::new("/proc/self/exe");
        helper.arg("as").args(probe.args(caller)).stdin(Stdio::null()).current_dir("/");
        if let Some(user) = user {
            helper.uid(user).gid(user);
        }
        Probe::run(helper)
    };
    // Root becomes an ordinary user for it. Root of a container may not be able to, and then it creates a user
    // namespace itself.
    let other = caller == Caller::Rootless && geteuid().is_root();
    let other = other && ["uid", "gid"].iter().all(|kind| is_mapped(kind, UNPRIVILEGED_UID));
    let result = match run(other.then_some(UNPRIVILEGED_UID)) {
        Err(_) if other => run(None),
        result => result,
    };
    match result {
        Ok(None) => Ok(()),
        Ok(Some(refusal)) => Err(Refusal::Call(refusal)),
        Err(error) => Err(Refusal::Other(error.to_string())),
    }
}

/// Looks for a program in PATH.
fn tool((program, needed_for, package): (&str, &str, &str)) -> Finding {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Err(error) = command.status() else {
        return Finding::new(program, Verdict::Ok, needed_for);
    };
    let found = match error.kind() {
        io::ErrorKind::NotFound => format!("not in PATH; package: {package}"),
        _ => error.to_string(),
    };
    Finding { found: Some(found), ..Finding::new(program, Verdict::Missing, needed_for) }
}

impl Report {
    /// Whether every step can run.
    pub fn all_steps(&self) -> bool {
        self.steps.iter().all(|(_, can)| *can)
    }
}
