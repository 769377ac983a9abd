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
    print(summary(&fs::read_to_string(&skips).unwrap_or_default(), geteuid().is_root()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sums up in at most three lines what wasn't tested: a line for each ability that this machine lacks, and one for
/// all programs that aren't installed. Root's half of the tests doesn't exist for an ordinary user, so it isn't
/// mentioned.
pub fn summary(lines: &str, is_root: bool) -> String {
    let mut tests: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in lines.lines() {
        let [requirement, reason, test] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        if is_root || !requirement.starts_with("root") {
            tests.entry(requirement).or_insert((reason, BTreeSet::new())).1.insert(test);
        }
    }
    let is_ability = |name: &str| name.starts_with("root") || name.starts_with("userns");
    let (abilities, programs): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|(requirement, _)| is_ability(requirement));
    let count = |number: usize| format!("{number} test{}", if number == 1 { "" } else { "s" });
    let line = |(requirement, (reason, tests)): &(&str, (&str, BTreeSet<&str>))| {
        format!("not tested without {requirement} ({reason}): {}\n", count(tests.len()))
    };
    let mut text: String = if abilities.len() <= 2 {
        abilities.iter().map(line).collect()
    } else {
        let names: Vec<_> = abilities.iter().map(|(name, _)| *name).collect();
        let tests: BTreeSet<_> = abilities.iter().flat_map(|(_, (_, tests))| tests).collect();
        let names = names.join(", ");
        format!("not tested without {names} (see `just doctor`): {}\n", count(tests.len()))
    };
    if !programs.is_empty() {
        let names: Vec<_> = programs.iter().map(|(name, _)| *name).collect();
        let tests: BTreeSet<_> = programs.iter().flat_map(|(_, (_, tests))| tests).collect();
        let names = names.join(", ");
        text += &format!("not tested without {names} (not installed): {}\n", count(tests.len()));
    }
    text
}
