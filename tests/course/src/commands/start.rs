//! The command that begins a learner's own version of a step.

use clap::Args;
use harness::Result;

use crate::editor;
use crate::print::{print, print_next};
use crate::starter::{self, Begin};
use crate::step::Step;
use crate::workspace::relative_path;

/// The arguments of `start`.
#[derive(Args, Debug)]
pub struct Start {
    /// Step to write: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Move your existing step aside, and start over
    #[arg(long)]
    pub again: bool,
    /// Copy your own version of the previous step, without TODOs
    #[arg(long)]
    pub from_mine: bool,
}

/// Lays out a starter, or a copy of the learner's last step, in `work/`.
///
/// # Errors
/// There's none, or something is there already.
pub fn start(options: &Start) -> Result {
    let Start { step, again, from_mine } = options;
    let directory = step.work_dir()?;
    let begin = if *from_mine { Begin::WithMine } else { Begin::WithStarter };
    let path = relative_path(&directory);
    if let Some(aside) = starter::lay_out(step, &directory, begin, *again)? {
        print(format!("your previous {path} is now {}\n", relative_path(&aside)))?;
    }
    print(format!("{path} is yours. The chapter is book/src/{step}.md.\n"))?;
    if let Some(mine) = starter::own_without_todos(step).filter(|_| *from_mine) {
        print(format!("It's {mine}.\n"))?;
    }
    let [work, check, watch] = ["work", "check", "watch"].map(|name| step.recipe(name));
    print(format!("`{work}` runs it, and `{check}` grades it.\n"))?;
    if let Some(line) = editor::link_projects()? {
        print(line)?;
    }
    let next = match (starter::first_todo(&directory), begin) {
        // The diff of the two steps is the solution.
        (_, Begin::WithMine) => {
            format!("read \"Write it yourself\" in the chapter, and run {watch}")
        }
        (Some(place), _) => format!("open {place}, the first TODO, and run {watch}"),
        (None, _) => watch,
    };
    print_next(next)
}
