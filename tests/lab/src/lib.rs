//! The instruments of the course: what its tests, its book and `just`'s verbs look through.
//!
//! - [`Step`]: a step's program and who calls it, root or an ordinary user.
//! - [`Session`]: a step that runs a shell, held still, so that it can be looked at.
//! - [`ProcessTree`]: who is whose child, with all the PIDs that each process has.
//! - [`Transcript`]: a command line, what it printed, and its exit status.
//! - [`Ended`]: what a run left behind: processes, mounts.
//! - [`diff`]: what one step adds to the step before.
//!
//! The functions for tests panic where a test should fail, as `assert!` does. The program `lab` does
//! not: it prints one line, and exits with 1.

mod ability;
pub mod contract;
pub mod diff;
pub mod memory;
mod session;
mod step;
pub mod subreaper;
mod transcript;
mod tree;
mod watch;
mod workspace;

pub use ability::{Ability, attempts};
pub use session::{Held, Session, Terminal};
pub use step::{Caller, Step, callers};
pub use transcript::Transcript;
pub use tree::{Process, ProcessTree};
pub use watch::{Ended, Watch};
pub use workspace::{build, root, step_named, steps};

/// Runs the assertions in `body` with the course's settings for [`insta`]: a header of three lines in
/// each snapshot, since the book shows a snapshot from its fourth line on.
pub fn snapshots(body: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(body);
}
