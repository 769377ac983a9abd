//! Finds out what this machine can do for the course by trying, and if it can't, why, and what changes that.

mod advice;
mod basics;
mod causes;
mod facts;
mod notes;
mod processes;
mod render;

use std::iter;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::probe::Probe;
use harness::{Call, CallError, Caller, Program, Result, UNPRIVILEGED_UID, helper_path};
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::step::NEEDS;
use advice::Cause;
use facts::{Facts, SETUID, is_mapped};

/// The meaning of a finding.
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
    /// The first step that can't run because of it, and with it every later one.
    stops: Option<u32>,
}

impl Finding {
    fn new(check: impl Into<String>, verdict: Verdict, needed_for: impl Into<String>) -> Self {
        let (check, needed_for) = (check.into(), needed_for.into());
        Finding { check, verdict, needed_for, found: None, cause: None, stops: None }
    }

    /// Makes it one that stops steps from `first` on.
    fn refused(self, first: u32, cause: Cause) -> Self {
        Finding { verdict: Verdict::NotOk, cause: Some(cause), stops: Some(first), ..self }
    }
}

/// The findings about this machine.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
    /// The number of every step, and whether it can run as this user.
    steps: Vec<(u32, bool)>,
    /// For root: whether every step can run as an ordinary user.
    other_user: bool,
}

/// Makes every check. It needs no checkout, because it has to work where not much does.
pub fn examine() -> Report {
    let mut facts = Facts::read();
    let mut findings = vec![notes::linux(), basics::proc(&facts), basics::sigchld(&facts)];
    let can_try = findings.iter().all(|finding| finding.verdict == Verdict::Ok);
    findings.push(basics::null(&facts));
    let mut other_user = findings.iter().all(|finding| finding.stops.is_none());
    if can_try {
        let filter = try_probe(Caller::Root, Probe::Filter).ok().flatten();
        facts.filtered = filter.is_some_and(|error| error.errno == Errno::EPERM);
        let own = if geteuid().is_root() { Caller::Root } else { Caller::Rootless };
        findings.extend(probe_as(own, &facts));
        if can_change_user(&facts) {
            let mut others = probe_as(Caller::Rootless, &facts);
            other_user &= others.iter().all(|finding| finding.stops.is_none());
            for finding in &mut others {
                finding.stops = None;
                if finding.verdict == Verdict::NotOk {
                    finding.needed_for = "the tests".to_owned();
                }
            }
            findings.extend(others);
        } else {
            other_user = false;
        }
    }
    let stops = |finding: &Finding, step| finding.stops.is_some_and(|first| first <= step);
    let can = |step: u32| !findings.iter().any(|finding| stops(finding, step));
    let steps = (1..=last_step()).map(|step| (step, can(step))).collect();
    findings.push(basics::temporary_directory(&facts));
    findings.extend(notes::all(&facts));
    Report { findings, steps, other_user }
}

/// Whether we are root and can become the ordinary user of the tests.
fn can_change_user(facts: &Facts) -> bool {
    let mapped = || ["uid", "gid"].iter().all(|kind| is_mapped(kind, UNPRIVILEGED_UID));
    geteuid().is_root() && facts.has_capability(SETUID) && mapped()
}

/// Probes for one caller, as far as it makes sense: what builds on a refused call would be refused, too.
fn probe_as(caller: Caller, facts: &Facts) -> Vec<Finding> {
    let how = if caller == Caller::Root { "as root" } else { "without root" };
    let mut findings = Vec::new();
    // A mask is made of /dev/null, which has its own finding.
    let can_mask = Path::new("/dev/null").exists();
    for (probe, name, first) in NEEDS.into_iter().filter(|need| can_mask || need.0 != Probe::Masks)
    {
        let finding = Finding::new(format!("{name}, {how}"), Verdict::Ok, needed_for(first));
        let (found, refusal, cause) = match try_probe(caller, probe) {
            Ok(None) => {
                findings.push(finding);
                continue;
            }
            Ok(Some(error)) => (error.to_string(), Some(error), causes::find(facts, caller, error)),
            Err(error) if caller == Caller::Rootless && geteuid().is_root() => {
                let finding = Finding::new("an ordinary user", Verdict::Note, "the tests");
                let found = Some(error.to_string());
                findings.push(Finding { found, stops: Some(2), ..finding });
                break;
            }
            Err(error) => (error.to_string(), None, advice::unknown()),
        };
        let spawn = refusal.is_some_and(|error| error.call == Call::Spawn);
        let first = if spawn { 1 } else { first };
        let mut finding = Finding { found: Some(found), ..finding.refused(first, cause) };
        // The step goes on without it.
        if refusal == Some(CallError { call: Call::UnshareTime, errno: Errno::EINVAL }) {
            let needed_for = "step 07 runs without it: uptime is the host's".to_owned();
            finding = Finding { verdict: Verdict::Note, needed_for, stops: None, ..finding };
        }
        findings.push(finding);
        if spawn || matches!(probe, Probe::Pid | Probe::Mounts | Probe::Procfs) {
            break;
        }
    }
    findings
}

/// Returns the number of the last step, which needs the most.
fn last_step() -> u32 {
    NEEDS.iter().map(|(.., first)| *first).max().unwrap_or(1)
}

/// Names the steps that need something from `first` on: `steps 02 to 05`.
fn needed_for(first: u32) -> String {
    let last = last_step();
    if first == last { format!("step {last:02}") } else { format!("steps {first:02} to {last:02}") }
}

/// Tries something in a child process, as a step does. Returns the refusal, if there is one.
fn try_probe(caller: Caller, probe: Probe) -> Result<Option<CallError>> {
    // We are our own helper. In a directory that the other user may be in.
    let mut helper = Command::new("/proc/self/exe");
    helper.arg("as").args(probe.args("step")).current_dir("/").stdin(Stdio::inherit());
    let other = caller == Caller::Rootless && geteuid().is_root();
    if other {
        helper.uid(UNPRIVILEGED_UID).gid(UNPRIVILEGED_UID);
    }
    Probe::run(helper).or_else(|error| {
        if !other {
            return Err(error);
        }
        // Another user may not be allowed to run this program. If so, that user gets a copy.
        let helper = Program::new(&helper_path()?, caller)?;
        let mut helper = helper.command(iter::once("as".to_owned()).chain(probe.args("step")));
        helper.current_dir("/");
        Probe::run(helper)
    })
}

impl Report {
    /// Whether every step can run.
    pub fn all_steps(&self) -> bool {
        self.steps.iter().all(|(_, can)| *can)
    }
}
