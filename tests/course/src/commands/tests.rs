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
    // The tests expect the names and paths of commands that are called without `just`.
    cargo.env_remove("COURSE_CALLED_AS").env_remove("COURSE_CALLED_FROM");
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
    let is_ability = |name: &str| ["root", "userns", "ptrace"].iter().any(|a| name.starts_with(a));
    // The names of what's missing for one reason, and the tests that need one of them.
    let mut skipped: BTreeMap<&str, [BTreeSet<&str>; 2]> = BTreeMap::new();
    let mut programs = None;
    for line in lines.lines() {
        let [requirement, reason, test] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        if !is_root && requirement.starts_with("root") {
            continue;
        }
        let [names, tests] = if is_ability(requirement) {
            skipped.entry(reason).or_default()
        } else {
            programs.get_or_insert_default()
        };
        names.insert(requirement);
        tests.insert(test);
    }
    if skipped.len() > 2 {
        let all = skipped.into_values();
        let all = all.reduce(|[names, tests], [more_names, more_tests]| {
            [&names | &more_names, &tests | &more_tests]
        });
        skipped = all.map(|all| ("see `just doctor`", all)).into_iter().collect();
    }
    let programs = programs.map(|programs| ("not installed", programs));
    let line = |(reason, [names, tests]): (&str, [BTreeSet<&str>; 2])| {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let plural = if tests.len() == 1 { "" } else { "s" };
        format!("not tested without {names} ({reason}): {} test{plural}\n", tests.len())
    };
    skipped.into_iter().chain(programs).map(line).collect()
}
