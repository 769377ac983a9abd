//! Grades a program by the checks of a step.

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{Caller, Context, Error, Program, Requirement, Result};
use serde_json::{Value, json};

use crate::checks::{self, Check, CheckFailure};
use crate::print::truncate;
use crate::step::Step;
use crate::workspace::called_as;

/// How one check came out.
#[derive(Debug)]
pub struct Grade {
    /// The check.
    pub check: &'static Check,
    /// Why it failed, if it did.
    pub failure: Option<CheckFailure>,
}

/// Grades a program for each caller that this machine can have, check by check, as the iterator is asked. The
/// program is told that its name is the step's.
///
/// # Errors
/// This machine can have no caller.
pub fn grade(
    step: &Step,
    program: &Path,
    timeout: Duration,
) -> Result<impl Iterator<Item = Grade> + use<>> {
    let mut programs = Vec::new();
    for caller in callers(step) {
        let program = Program::new(program, caller)?.named(&step.bin());
        programs.push(program.with_timeout(timeout));
    }
    if programs.is_empty() {
        let message = format!("no step can run on this machine: `{} doctor` says why", called_as());
        return Err(Error::new(message));
    }
    Ok(checks::for_step(step).into_iter().map(move |check| {
        let failure = programs.iter().find_map(|program| {
            let mut failure = check.run(program).err()?;
            if programs.len() > 1 && program.caller() == Caller::Rootless {
                failure.command += " (as an ordinary user)";
            }
            Some(failure)
        });
        Grade { check, failure }
    }))
}

/// Lists the callers for which this machine can run the step.
pub fn callers(step: &Step) -> Vec<Caller> {
    let can = |caller: &Caller| {
        let procfs = || !step.mounts_procfs() || Requirement::procfs(*caller).check().is_ok();
        Requirement::caller(*caller).check().is_ok() && procfs()
    };
    [Caller::Root, Caller::Rootless].into_iter().filter(can).collect()
}

/// Renders grades for a script: `{"step", "passed", "total", "behaviours": [{"name", "passed", "tried",
/// "expected", "seen"}]}`. The last two are cut after some lines.
pub fn report(step: &Step, grades: &[Grade]) -> Value {
    let passed = grades.iter().filter(|grade| grade.failure.is_none()).count();
    let behaviours = grades.iter().map(|grade| match &grade.failure {
        None => json!({ "name": grade.check.name, "passed": true }),
        Some(failure) => json!({
            "name": grade.check.name,
            "passed": false,
            "tried": failure.command,
            "expected": truncate(&failure.expected),
            "seen": truncate(&failure.actual),
        }),
    });
    let behaviours: Vec<_> = behaviours.collect();
    json!({ "step": step.to_string(), "passed": passed, "total": grades.len(), "behaviours": behaviours })
}

/// The file, in the learner's directory, that keeps the last grades.
const FILE: &str = "checked.json";

/// Keeps a report for [`last_score`].
///
/// # Errors
/// It can't be written.
pub fn keep(directory: &Path, report: &Value) -> Result<()> {
    let path = directory.join(FILE);
    fs::write(&path, report.to_string()).context(format!("write {}", path.display()))
}

/// Returns how many of how many checks passed when the step was graded last.
pub fn last_score(directory: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(directory.join(FILE)).ok()?;
    let report: Value = serde_json::from_str(&text).ok()?;
    Some((report["passed"].as_u64()?, report["total"].as_u64()?))
}
