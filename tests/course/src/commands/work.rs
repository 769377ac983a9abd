//! Commands for the learner's own version of a step.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use harness::namespace::make_mounts_private;
use harness::{Context, Error, Result};
use nix::unistd::{AccessFlags, access};

use crate::print::{print, print_next};
use crate::state::{Freshness, State};
use crate::step::Step;
use crate::style::{Style, paint};
use crate::workspace::called_as;
use crate::{diff, done, starter};

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

/// Returns the absolute path of a program that can be started.
pub(super) fn executable(program: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(program).context(format!("open {}", program.display()))?;
    if !path.is_file() || access(&path, AccessFlags::X_OK).is_err() {
        return Err(Error::new(format!("{} isn't an executable file", program.display())));
    }
    Ok(path)
}

/// Checks the learner's step on every save, until the learner quits.
///
/// # Errors
/// There's no terminal, or the step isn't begun.
pub fn watch(step: Step) -> Result {
    let step = crate::watch::watch(step)?;
    print_next(if done::is_done(&step) {
        done::message(&step)?.1
    } else {
        step.recipe("watch") + ", to continue"
    })
}

/// Shows what is missing from the learner's step to the finished one.
///
/// # Errors
/// The learner hasn't begun.
pub fn solution(step: &Step) -> Result {
    starter::ensure_begun(step, &step.work_dir()?)?;
    let diff = diff::with_ours(step)?;
    print(&diff)?;
    let check = step.recipe("check");
    print_next(match diff.as_str() {
        _ if done::is_done(step) => done::message(step)?.1,
        diff::SAME => check,
        _ => format!("change your code, and run {check}"),
    })
}

/// Shows how far the learner's steps are.
///
/// # Errors
/// The steps can't be listed.
pub fn progress() -> Result {
    for step in starter::steps()? {
        print(format!("{:24}{}\n", step.to_string(), status(&step, &step.work_dir()?)))?;
    }
    // A learner may begin with any step, so the one after the last that's done comes first.
    let steps = starter::steps()?;
    let open = match steps.iter().rfind(|step| done::is_done(step)) {
        Some(last) => done::next_step(last)?,
        None => steps.iter().find(|step| step.work_dir().is_ok_and(|path| path.exists())).cloned(),
    };
    let open = open.or_else(|| steps.into_iter().find(|step| !done::is_done(step)));
    print_next(match open {
        Some(step) if step.work_dir()?.exists() => step.recipe("watch"),
        Some(step) => step.recipe("start"),
        None => format!("every step is done; break one: {} break 02", called_as()),
    })
}

/// Says in a line how far one step is, and whether that still holds.
fn status(step: &Step, directory: &Path) -> String {
    if !directory.exists() {
        return paint(Style::Faint, "  not begun");
    }
    let state = State::load(directory);
    let is_full = state.score().is_some_and(|(passed, total)| passed == total);
    let score = state.score().map(|(passed, total)| {
        if is_full { format!("all {total} checks") } else { format!("{passed} of {total} checks") }
    });
    match (state.freshness(directory), score) {
        (Freshness::Broken, None) => paint(Style::Bad, "✗ doesn't compile"),
        (Freshness::Broken, Some(old)) => {
            paint(Style::Bad, &format!("✗ doesn't compile (before: {old})"))
        }
        (_, None) => "… begun".to_owned(),
        (Freshness::Outdated, Some(old)) => {
            format!("? {old}, before your last change: {}", step.recipe("check"))
        }
        (Freshness::Current, Some(now)) if is_full => paint(Style::Good, &format!("✓ {now}")),
        (Freshness::Current, Some(now)) => format!("… {now}"),
    }
}
