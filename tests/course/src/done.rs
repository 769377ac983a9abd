//! The message for a learner whose step passes every check. `done.txt` has a section for each step, such as `[02]`.

use harness::Result;

use crate::print::{section, wrap};
use crate::starter;
use crate::state::{Freshness, State};
use crate::step::Step;
use crate::style::{Style, paint};

/// Returns what to say when every check of a step passes, and what to do next.
///
/// # Errors
/// The steps can't be listed.
pub fn message(step: &Step) -> Result<(String, String)> {
    let label = step.label();
    let lines = section(include_str!("../done.txt"), &label);
    let mut text = paint(Style::Good, &format!("Step {label} is done."));
    for line in lines.filter(|line| !line.is_empty()) {
        text += &match line.strip_prefix("$ ") {
            Some(args) => format!("\n    {} {args}", step.recipe("work")),
            None => format!("\n{}", wrap("", line)),
        };
    }
    let broken = step.recipe("break");
    let rest =
        format!("The rest of the chapter shows our code, and {broken} shows what each part does.");
    text += &format!("\n\n{}\n", wrap("", &rest));
    let next = match next_step(step)? {
        None => {
            text += "\nAll steps are done. You wrote what `docker run --init` starts first in a container.\n";
            format!("{}, and compare: {}", step.recipe("soak"), step.recipe("solution"))
        }
        Some(next) if next.work_dir()?.exists() => next.recipe("watch"),
        Some(next) => {
            let start = next.recipe("start");
            match starter::own_without_todos(&next) {
                Some(mine) => format!("{start} (or {start} --from-mine: {mine})"),
                None => start,
            }
        }
    };
    Ok((text, next))
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
    state.score().is_some_and(|(passed, total)| passed == total)
        && state.freshness(&directory) == Freshness::Current
}
