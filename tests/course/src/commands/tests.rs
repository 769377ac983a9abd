//! The command that runs the course's own tests, and sums up what this machine couldn't test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

use harness::cargo::cargo;
use harness::{Context, Result, ScratchDir};
use nix::unistd::geteuid;

use crate::print::print;
use crate::step::Step;
use crate::workspace::root;

/// Runs all tests, or those of one step.
///
/// # Errors
/// Cargo doesn't start.
pub fn test(step: Option<&Step>) -> Result<ExitCode> {
    let directory = ScratchDir::new("course")?;
    let skips = directory.path().join("skips");
    let mut cargo = cargo();
    // The summary is complete only if every test program runs.
    cargo.args(["test", "--no-fail-fast"]).current_dir(root()?).env("COURSE_SKIPS", &skips);
    if let Some(step) = step {
        cargo.args(["--package", &step.package()]);
    }
    let status = cargo.status().context("start cargo")?;
    print(summary(&fs::read_to_string(&skips).unwrap_or_default(), geteuid().is_root()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sums up in at most three lines what wasn't tested: a line for each reason why this machine lacks abilities, and one
/// for all programs that aren't installed. Root's half of the tests doesn't exist for an ordinary user, so it isn't
/// mentioned.
pub fn summary(lines: &str, is_root: bool) -> String {
    let mut skipped: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in lines.lines() {
        let [requirement, reason, test] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        if is_root || !requirement.starts_with("root") {
            skipped.entry(requirement).or_insert((reason, BTreeSet::new())).1.insert(test);
        }
    }
    let is_ability =
        |name: &str| name.starts_with("root") || name.starts_with("userns") || name == "ptrace";
    let (abilities, programs): (Vec<_>, Vec<_>) =
        skipped.iter().partition(|(requirement, _)| is_ability(requirement));
    // The names of several, and how many tests need one of them.
    let sum = |several: &[(&&str, &(&str, BTreeSet<&str>))]| {
        let names: Vec<_> = several.iter().map(|(name, _)| **name).collect();
        let tests: BTreeSet<_> = several.iter().flat_map(|(_, (_, tests))| tests).collect();
        let plural = if tests.len() == 1 { "" } else { "s" };
        (names.join(", "), format!("{} test{plural}\n", tests.len()))
    };
    let mut text = String::new();
    let mut by_reason: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for ability in &abilities {
        by_reason.entry(ability.1.0).or_default().push(*ability);
    }
    if by_reason.len() > 2 {
        by_reason = BTreeMap::from([("see `just doctor`", abilities)]);
    }
    for (reason, abilities) in &by_reason {
        let (names, tests) = sum(abilities);
        text += &format!("not tested without {names} ({reason}): {tests}");
    }
    if !programs.is_empty() {
        let (names, tests) = sum(&programs);
        text += &format!("not tested without {names} (not installed): {tests}");
    }
    text
}
