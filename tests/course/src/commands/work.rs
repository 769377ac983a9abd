//! Commands for the learner's own version of a step.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use harness::namespace::make_mounts_private;
use harness::{Context, Error, Result};
use nix::unistd::{AccessFlags, access};
use serde_json::json;

use crate::grading::{Grade, grade, keep, last_score, report};
use crate::print::{print, truncate};
use crate::step::Step;
use crate::workspace::{called_as, relative_path, typed_path};
use crate::{checks, diff, hints, starter};

/// How long a learner's program may take for an answer, in seconds.
const TIMEOUT: u64 = 5;

/// Lays out a starter in `work/`.
///
/// # Errors
/// There's none, or something is there already.
pub fn start(step: &Step, again: bool) -> Result<ExitCode> {
    let directory = step.work_dir()?;
    let path = relative_path(&directory);
    if again && directory.exists() {
        let free = |number: &u32| !directory.with_extension(number.to_string()).exists();
        let number = (1..).find(free).unwrap_or_default();
        let aside = directory.with_extension(number.to_string());
        fs::rename(&directory, &aside).context(format!("rename {path}"))?;
        print(format!("{path} is now {}\n", relative_path(&aside)))?;
    }
    starter::lay_out(step, &directory)?;
    let (label, just) = (step.label(), called_as());
    print(format!(
        "{path} is yours. Look for TODO in {path}/src; the chapter is book/src/{step}.md.\n\
         `{just} work {label}` runs it, `{just} check {label}` grades it, `{just} hint {label}` helps.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes the learner's step. As root, in private mounts, which keep from the host what the step forgets to.
///
/// # Errors
/// It doesn't build or start.
pub fn work(step: &Step, args: &[OsString]) -> Result<ExitCode> {
    super::run::explain(step, args, "work")?;
    let program = starter::build(step, &step.work_dir()?)?;
    make_mounts_private()?;
    Err(Command::new(program).arg0(step.bin()).args(args).exec()).context(format!("exec {step}"))
}

/// What `check` is told.
#[derive(Args, Debug)]
pub struct Check {
    /// Step to check: 02, 2 or 02-init-pid1
    pub step: Step,
    /// Grade this program, in whatever language, and build nothing
    #[arg(long, value_name = "PROGRAM")]
    pub bin: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Wait so long for an answer, in seconds
    #[arg(long, default_value_t = TIMEOUT)]
    pub timeout: u64,
}

/// Grades the learner's step, or any program.
///
/// # Errors
/// There's nothing to grade, or it doesn't compile.
pub fn check(options: &Check) -> Result<ExitCode> {
    let Check { step, json, .. } = options;
    let own = step.work_dir()?;
    let program = match &options.bin {
        Some(program) => executable(&typed_path(program)),
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
    let mut grades = Vec::new();
    for grade in grade(step, &program, Duration::from_secs(options.timeout))? {
        let mark = if grade.failure.is_none() { '✓' } else { '✗' };
        if !json {
            print(format!("{mark} {}\n", grade.check.title()))?;
        }
        grades.push(grade);
    }
    let report = report(step, &grades);
    if own.exists() && options.bin.is_none() {
        keep(&own, &report)?;
    }
    if *json {
        print(format!("{report:#}\n"))?;
    } else {
        print_first_failure(&grades)?;
        print(format!("\n{} of {} checks passed\n", report["passed"], report["total"]))?;
    }
    let all = grades.iter().all(|grade| grade.failure.is_none());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_first_failure(grades: &[Grade]) -> Result {
    let first = grades.iter().find_map(|grade| Some((grade.check, grade.failure.as_ref()?)));
    let Some((check, failure)) = first else { return Ok(()) };
    let hint = hints::for_check(check.name).into_iter().next().unwrap_or_default();
    print(format!(
        "\nThe first that fails: {}\n  command:  {}\n  expected: {}\n  actual:   {}\n  hint:     {hint}\n",
        check.title(),
        failure.command,
        indent(&failure.expected),
        indent(&failure.actual),
    ))
}

/// Leaves room on the left of every line but the first.
fn indent(text: &str) -> String {
    let text = if text.trim().is_empty() { "nothing" } else { text.trim() };
    truncate(text).replace('\n', "\n            ")
}

/// Returns the absolute path of a program that can be started.
pub(super) fn executable(program: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(program).context(format!("open {}", program.display()))?;
    if !path.is_file() || access(&path, AccessFlags::X_OK).is_err() {
        return Err(Error::new(format!("{} isn't an executable file", program.display())));
    }
    Ok(path)
}

/// Prints the next hint for the first check that fails.
///
/// # Errors
/// There's nothing to grade, or it doesn't compile.
pub fn hint(step: &Step) -> Result<ExitCode> {
    let own = step.work_dir()?;
    let program = starter::build(step, &own)?;
    let mut grades = grade(step, &program, Duration::from_secs(TIMEOUT))?;
    let Some(Grade { check, .. }) = grades.find(|grade| grade.failure.is_some()) else {
        print("Every check passes, so there's nothing to hint at.\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    // The file keeps how many hints for this check were given.
    let file = own.join("hints.txt");
    let given = fs::read_to_string(&file).unwrap_or_default();
    let given = given.strip_prefix(check.name).and_then(|text| text.trim().parse().ok());
    let next: usize = given.unwrap_or(0);
    let hints = hints::for_check(check.name);
    let title = check.title();
    let Some(hint) = hints.get(next) else {
        let (just, label) = (called_as(), step.label());
        print(format!(
            "{title}: that was the last hint; `{just} solution {label}` shows the finished step\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::write(&file, format!("{} {}", check.name, next + 1)).context("write hints.txt")?;
    print(format!("{title} ({} of {}): {hint}\n", next + 1, hints.len()))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what is missing from the learner's step to the finished one.
///
/// # Errors
/// The learner hasn't begun.
pub fn solution(step: &Step) -> Result<ExitCode> {
    let own = step.work_dir()?;
    starter::ensure_begun(step, &own)?;
    print(diff::between_directories(&own.join("src"), &step.dir()?.join("src"))?)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows how far the learner's steps are.
///
/// # Errors
/// The steps can't be listed.
pub fn progress() -> Result<ExitCode> {
    for step in Step::all()?.iter().filter(|step| !checks::for_step(step).is_empty()) {
        let directory = step.work_dir()?;
        let line = match last_score(&directory) {
            Some((passed, total)) if passed == total => format!("✓ all {total} checks"),
            Some((passed, total)) => format!("… {passed} of {total} checks"),
            None if directory.exists() => "… begun".to_owned(),
            None => format!("  not begun: {} start {}", called_as(), step.label()),
        };
        print(format!("{:24}{line}\n", step.to_string()))?;
    }
    Ok(ExitCode::SUCCESS)
}
