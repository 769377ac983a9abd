//! The command that checks a learner's step on every save.

use harness::Result;

use crate::done;
use crate::print::print_next;
use crate::step::Step;
use crate::watch as watching;
use crate::workspace::called_as;

/// Watches a step until the learner quits.
///
/// # Errors
/// There's no terminal, or the step isn't begun.
pub fn watch(step: Step) -> Result {
    let step = watching::watch(step)?;
    print_next(if done::is_done(&step) {
        done::message(&step)?.1
    } else {
        format!("{} watch {}, to continue", called_as(), step.label())
    })
}
