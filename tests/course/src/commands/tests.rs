//! The command that runs the course's own tests, and sums up what this machine couldn't test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, ExitCode};

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
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.arg("test").current_dir(root()?).env("COURSE_SKIPS", &skips);
    if let Some(step) = step {
        cargo.args(["--package", &step.package()]);
    }
    let status = cargo.status().context("start cargo")?;
    print(summary(&fs::read_to_string(&skips).unwrap_or_default()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns a line for each requirement that wasn't met. Root's half of the tests doesn't exist for an ordinary
/// user, so it isn't mentioned.
fn summary(lines: &str) -> String {
    let mut tests: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in lines.lines() {
        let [requirement, reason, test] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        if geteuid().is_root() || !requirement.starts_with("root") {
            tests.entry(requirement).or_insert((reason, BTreeSet::new())).1.insert(test);
        }
    }
    let line = |(requirement, (reason, tests)): (&str, (&str, BTreeSet<&str>))| {
        let (count, plural) = (tests.len(), if tests.len() == 1 { "" } else { "s" });
        format!("not tested without {requirement} ({reason}): {count} test{plural}\n")
    };
    tests.into_iter().map(line).collect()
}
