//! The command that helps with a check.

use std::process::ExitCode;

use clap::Args;
use harness::{Error, Result};

use crate::checks::Check;
use crate::grading::{self, grade};
use crate::print::{print, print_next, wrap};
use crate::state::State;
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::show_if_slow;
use crate::workspace::called_as;
use crate::{checks, hints, starter};

/// What `hint` is told.
#[derive(Args, Debug)]
pub struct Hint {
    /// Step you are writing: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Check to show hints for, by its name or a part of it [default: the first that fails]
    pub name: Option<String>,
    /// Show all hints at once
    #[arg(long)]
    pub all: bool,
}

/// Prints the next hint for a check, and those before it.
///
/// # Errors
/// There's nothing to grade, or it doesn't compile.
pub fn hint(options: &Hint) -> Result<ExitCode> {
    let Hint { step, name, all } = options;
    let (just, label) = (called_as(), step.label());
    let check = match name {
        Some(name) => Some(the_one(step, name)?),
        None => first_failing(step)?,
    };
    let Some(check) = check else {
        print("Every check passes, so you need no hint.\n")?;
        print_next(format!("{just} progress"))?;
        return Ok(ExitCode::SUCCESS);
    };
    let hints = hints::for_check(check.name);
    let count = if *all { hints.len() } else { give(step, check)? };
    print(text(check, &hints[..count]))?;
    let then = format!("change your code, then run {just} check {label} {}", check.name);
    let last = count == hints.len();
    print_next(if last { format!("{then}, or see {just} solution {label}") } else { then })?;
    Ok(ExitCode::SUCCESS)
}

/// Gives one hint more for a check, and returns all that are given.
///
/// # Errors
/// That can't be kept.
pub(crate) fn give_hint(step: &Step, check: &Check) -> Result<String> {
    let count = give(step, check)?;
    Ok(text(check, &hints::for_check(check.name)[..count]))
}

/// Gives one hint more for a check, and returns how many are given now.
fn give(step: &Step, check: &Check) -> Result<usize> {
    let own = step.work_dir()?;
    let given = State::load(&own).hints_given(check.name);
    let count = (given + 1).min(hints::for_check(check.name).len());
    if own.exists() && count > given {
        State::keep_hints(&own, check.name, count)?;
    }
    Ok(count)
}

/// Returns hints with their numbers. The last one is the new one.
fn text(check: &Check, hints: &[String]) -> String {
    let total = hints::for_check(check.name).len();
    let mut text = paint(Style::Bold, &check.title()) + "\n";
    for (index, hint) in hints.iter().enumerate() {
        text += &wrap(&format!("  {} of {total}: ", index + 1), hint);
        text.push('\n');
    }
    text
}

/// Returns the one check that the name matches.
fn the_one(step: &Step, name: &str) -> Result<&'static Check> {
    match checks::matching(step, name)?[..] {
        [check] => Ok(check),
        ref several => {
            let names: Vec<_> = several.iter().map(|check| check.name).collect();
            Err(Error::new(format!("{name:?} matches several checks:\n  {}", names.join("\n  "))))
        }
    }
}

fn first_failing(step: &Step) -> Result<Option<&'static Check>> {
    let program = starter::build(step, &step.work_dir()?)?;
    let mut grades = grade(step, checks::for_step(step), &program, grading::timeout()?)?;
    let failing = || grades.find(|grade| grade.failure.is_some());
    let failing = show_if_slow("Looking for the first check that fails…", failing);
    Ok(failing.map(|grade| grade.check))
}
