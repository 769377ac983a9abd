//! What is possible when a step is done: from `done.txt`, a section `[02]` for each step.

use harness::Result;

use crate::print::wrap;
use crate::starter;
use crate::state::{Freshness, State};
use crate::step::Step;
use crate::style::{Style, paint};
use crate::workspace::called_as;

/// Returns what to say when every check of a step passes, and what to do next.
///
/// # Errors
/// The steps can't be listed.
pub fn message(step: &Step) -> Result<(String, String)> {
    let (just, label) = (called_as(), step.label());
    let head = format!("[{label}]");
    let lines = include_str!("../done.txt").lines().skip_while(|line| *line != head).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let mut text = paint(Style::Good, &format!("Step {label} is done."));
    for line in lines.filter(|line| !line.is_empty()) {
        text += &match line.strip_prefix("$ ") {
            Some(args) => format!("\n    {just} work {label} {args}"),
            None => format!("\n{}", wrap("", line)),
        };
    }
    text += "\n";
    let next = next(step)?;
    if next.is_none() {
        text += "\nAll steps are done. You wrote what `docker run --init` starts first in a container.\n";
    }
    Ok((
        text,
        next.unwrap_or_else(|| {
            format!("{just} soak {label}, and compare: {just} solution {label}")
        }),
    ))
}

/// Returns the command for the step to write next, if one is left.
fn next(done: &Step) -> Result<Option<String>> {
    let just = called_as();
    Ok(next_step(done)?.map(|step| {
        let label = step.label();
        if step.work_dir().is_ok_and(|path| path.exists()) {
            format!("{just} watch {label}")
        } else {
            format!(
                "{just} start {label} (or {just} start {label} --from-mine, from your own code)"
            )
        }
    }))
}

/// Returns the step to write after this one: the next that isn't done, or else an earlier one.
///
/// # Errors
/// The steps can't be listed.
pub fn next_step(done: &Step) -> Result<Option<Step>> {
    let open = |step: &Step| step != done && !is_done(step);
    let (later, earlier): (Vec<_>, Vec<_>) =
        starter::steps()?.into_iter().filter(open).partition(|step| step > done);
    Ok(later.into_iter().chain(earlier).next())
}

/// Whether the learner's version passed every check, and hasn't changed since.
pub fn is_done(step: &Step) -> bool {
    let Ok(directory) = step.work_dir() else { return false };
    let state = State::load(&directory);
    state.score.is_some_and(|score| score.passed == score.total)
        && state.freshness(&directory) == Freshness::Current
}
