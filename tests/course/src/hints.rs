//! The hints for each check, from `hints.txt`: a section `[check]`, and paragraphs, the broadest hint first. A
//! section may begin with lines `error: TEXT`. Its hints also help with an error that contains this text.

use harness::Result;

use crate::checks::Check;
use crate::print::{section, wrap};
use crate::state::State;
use crate::step::Step;
use crate::style::{Style, paint};

const HINTS: &str = include_str!("../hints.txt");
/// The start of a line with a part of an error's text.
const ERROR: &str = "error: ";

/// Lists the errors that the hints for a check are about, by a part of their text.
pub fn errors(name: &str) -> impl Iterator<Item = &'static str> {
    section(HINTS, name).filter_map(|line| line.strip_prefix(ERROR))
}

/// Returns the hints for a check.
pub fn for_check(name: &str) -> Vec<String> {
    let is_hint = |line: &&str| !line.starts_with(ERROR);
    let section: Vec<_> = section(HINTS, name).filter(is_hint).collect();
    let paragraphs = section.split(|line| line.is_empty());
    paragraphs.filter(|lines| !lines.is_empty()).map(|lines| lines.join(" ")).collect()
}

/// Lists the checks that have hints.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let lines = HINTS.lines();
    lines.filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
}

/// Returns how many hints a learner has with the next one.
///
/// # Errors
/// We aren't in a checkout.
pub fn next(step: &Step, check: &Check) -> Result<usize> {
    let given = State::load(&step.work_dir()?).hints_given(check.name);
    Ok((given + 1).min(for_check(check.name).len()))
}

/// Keeps how many hints a learner has. Call it when the learner has seen them.
///
/// # Errors
/// That can't be written.
pub fn keep(step: &Step, check: &Check, count: usize) -> Result {
    let own = step.work_dir()?;
    if own.exists() && count > State::load(&own).hints_given(check.name) {
        State::keep_hints(&own, check.name, count)?;
    }
    Ok(())
}

/// Returns the first hints for a check, with their numbers.
pub fn text(check: &Check, count: usize) -> String {
    let hints = for_check(check.name);
    let mut text = paint(Style::Bold, &check.title()) + "\n";
    for (index, hint) in hints.iter().take(count).enumerate() {
        text += &wrap(&format!("  {} of {}: ", index + 1, hints.len()), hint);
        text.push('\n');
    }
    text
}
