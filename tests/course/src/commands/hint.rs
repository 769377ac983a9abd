//! The command that helps with a check.

use clap::Args;
use harness::{Error, Result};

use crate::checks::Check;
use crate::grading::{self, Grades, grade, try_simplest};
use crate::print::{print, print_next};
use crate::step::Step;
use crate::waiting::show_if_slow;
use crate::{checks, done, hints, starter};

/// The arguments of `hint`.
#[derive(Args, Debug)]
pub struct Hint {
    /// Step you are writing: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Check, or a part of its name [default: the one to fix first]
    pub name: Option<String>,
    /// Show all hints at once
    #[arg(long)]
    pub all: bool,
}

/// Prints the next hint for a check, and those before it.
///
/// # Errors
/// There's nothing to grade, or it doesn't compile.
pub fn hint(options: &Hint) -> Result {
    let Hint { step, name, all } = options;
    let check = match name {
        Some(name) => Some(the_one(step, name)?),
        None => first_to_fix(step)?,
    };
    let Some(check) = check else {
        print("Every check passes, so you need no hint.\n")?;
        if *all {
            let every = checks::for_step(step).into_iter();
            let mut texts = every.map(|check| hints::text(check, usize::MAX));
            texts.try_for_each(|text| print(format!("\n{text}")))?;
        }
        print_next(done::message(step)?.1)?;
        return Ok(());
    };
    let total = hints::for_check(check.name).len();
    let count = if *all { total } else { hints::next(step, check)? };
    print(hints::text(check, count))?;
    if !all {
        hints::keep(step, check, count)?;
    }
    let then = format!("change your code, then run {} {}", step.recipe("check"), check.name);
    let last = count == total;
    print_next(if last { format!("{then}, or see {}", step.recipe("solution")) } else { then })
}

/// Returns the one check that the name matches.
fn the_one(step: &Step, name: &str) -> Result<&'static Check> {
    match checks::matching(step, name)?[..] {
        [check] => Ok(check),
        ref several => {
            let names = several.iter().map(|check| check.name).collect::<Vec<_>>().join("\n  ");
            let message = format!("{name:?} matches several checks; name one of them:\n  {names}");
            Err(Error::new(message))
        }
    }
}

/// Returns the check that fails first, if any. If the simplest command fails, too, we need every check.
fn first_to_fix(step: &Step) -> Result<Option<&'static Check>> {
    let program = starter::build(step, &step.work_dir()?)?;
    let timeout = grading::timeout()?;
    let find = || -> Result<_> {
        let simplest = try_simplest(step, &program, timeout)?;
        let mut checks = grade(step, checks::for_step(step), &program, timeout)?;
        let checks = match simplest {
            Some(_) => checks.collect(),
            None => checks.find(|grade| grade.failure.is_some()).into_iter().collect(),
        };
        Ok(Grades { simplest, checks }.first_to_fix().map(|grade| grade.check))
    };
    show_if_slow("Looking for the first check that fails…", find)
}
