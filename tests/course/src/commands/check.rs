//! The command that grades a learner's step.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, value_parser};
use harness::Result;
use serde_json::json;

use crate::grading::{self, Grade, Grades, grade_all, report, try_simplest};
use crate::print::{print, print_next};
use crate::state::{State, fingerprint};
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::{bar, show_if_slow};
use crate::workspace::typed_path;
use crate::{checks, done, render, starter};

/// The arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Step to check: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Check to run, by its name or a part of it [default: all]
    pub name: Option<String>,
    /// Grade this program, in any language, instead of building your step
    #[arg(long, value_name = "PROGRAM")]
    pub bin: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Show every failure in full
    #[arg(long, short)]
    pub verbose: bool,
    /// Wait this many seconds for an answer [default: at least 5]
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
}

/// Grades the learner's step, or any program.
///
/// # Errors
/// There's nothing to grade, or it doesn't compile.
pub fn check(options: &Check) -> Result<ExitCode> {
    let Check { step, json, .. } = options;
    let own = step.work_dir()?;
    let checks = match &options.name {
        Some(name) => checks::matching(step, name)?,
        None => checks::for_step(step),
    };
    // This round doesn't grade files that are saved from now on.
    let sources = fingerprint(&own);
    let program = match &options.bin {
        Some(program) => super::work::executable(&typed_path(program)),
        None => starter::build(step, &own),
    };
    let program = match program {
        Err(error) if *json => {
            let report =
                json!({ "step": step.to_string(), "passed": 0, "error": error.to_string() });
            print(format!("{report:#}\n"))?;
            return Ok(ExitCode::FAILURE);
        }
        program => program?,
    };
    let timeout = options.timeout.map_or_else(grading::timeout, |s| Ok(Duration::from_secs(s)))?;
    let total = checks.len();
    let mut grades = Grades::default();
    // Checks that the learner chose show by themselves why they failed.
    if options.name.is_none() {
        let simplest = || try_simplest(step, &program, timeout);
        grades.simplest = show_if_slow("Running the simplest command…", simplest)?;
    }
    let timeout = if options.timeout.is_none() { grades.shorten(timeout) } else { timeout };
    let mut running = grade_all(step, checks.clone(), &program, timeout)?;
    let before = State::load(&own);
    let is_own = options.bin.is_none();
    for (done, check) in checks.iter().enumerate() {
        let line = format!("{}  {}", bar(done, total), check.title());
        let Some(mut grade) = show_if_slow(&line, || running.next()) else { break };
        grade.passed_before = is_own && before.has_passed_before(grade.check.name, &sources);
        if !json {
            print(render::line(&grade))?;
        }
        grades.checks.push(grade);
    }
    let passed = grades.passed();
    if is_own && options.name.is_none() {
        State::keep_score(&own, &grades.names_of_passed(), total, sources)?;
    }
    if *json {
        print(format!("{:#}\n", report(step, &grades)))?;
    } else {
        print_failures(&grades, options.verbose)?;
        let style = if passed == total { Style::Good } else { Style::Bold };
        let checks = if total == 1 { "check" } else { "checks" };
        print(format!("\n{}\n", paint(style, &format!("{passed} of {total} {checks} passed"))))?;
        print_end(options, &grades)?;
    }
    Ok(if passed == total { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows why most checks failed, or else the first failure, or all of that in full. If only one check ran, its title is
/// in the line above.
fn print_failures(grades: &Grades, verbose: bool) -> Result {
    if let [Grade { failure: Some(failure), .. }] = &*grades.checks {
        return print(render::details(failure, verbose));
    }
    let mut shown = if verbose { usize::MAX } else { 1 };
    if let Some(cause) = grades.cause() {
        print(format!("\n{}", render::cause(cause, verbose)))?;
        shown -= 1;
    }
    for grade in grades.failed().take(shown) {
        print(format!("\n{}", render::failure(grade, verbose)))?;
    }
    Ok(())
}

/// Says what to do next, and what is possible now if everything passed.
fn print_end(options: &Check, grades: &Grades) -> Result {
    let Check { step, name, bin, .. } = options;
    let hint = |grade: &Grade| format!("{} {}", step.recipe("hint"), grade.check.name);
    match (grades.first_to_fix(), bin, name) {
        (Some(grade), None, _) if grades.about_cause().is_none() => {
            let cause = grades.cause().map(|cause| format!("{}, or for a hint, ", cause.command));
            print_next(cause.unwrap_or_default() + &hint(grade))
        }
        (Some(grade), Some(_), _) => print_next(hint(grade) + " --all"),
        (Some(grade), None, _) => print_next(hint(grade)),
        (None, None, Some(_)) => print_next(step.recipe("check") + ", for all checks"),
        (None, None, None) => {
            let (message, next) = done::message(step)?;
            print(format!("\n{message}"))?;
            print_next(next)
        }
        (None, Some(_), _) => print_next(step.recipe("start") + ", to write it in Rust"),
    }
}
