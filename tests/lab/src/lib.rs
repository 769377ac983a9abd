//! The instruments of the course: what its tests, its book and `just`'s verbs look through.
//!
//! - [`Step`]: a step's program and who calls it, root or an ordinary user.
//! - [`Session`]: a step that runs a shell, held still, so that it can be looked at.
//! - [`ProcessTree`]: who is whose child, with all the PIDs that each process has.
//! - [`picture()`]: the same, with the namespaces, as a drawing for the book.
//! - [`Transcript`]: a command line, what it printed, and its exit status.
//! - [`Trace`]: the system calls of a run, as strace saw them.
//! - [`soak`]: many runs, killed at random moments, and what they leave.
//! - [`Ended`]: what a run left behind: processes, mounts.
//! - [`Hostile`]: places in which a step is refused what it wants.
//! - [`doctor`]: what a machine can do for the course, and why not.
//! - [`diff`]: what one step adds to the step before.
//!
//! The functions for tests panic where a test should fail, as `assert!` does. The program `lab` does
//! not: it prints one line, and exits with 1.

mod ability;
pub mod breaks;
pub mod contract;
pub mod diff;
pub mod doctor;
pub mod grade;
mod hostile;
pub mod lessons;
pub mod memory;
mod picture;
mod session;
pub mod soak;
mod step;
pub mod subreaper;
mod trace;
mod transcript;
mod tree;
mod watch;
mod workplace;
mod workspace;

pub use ability::{Ability, attempts, skipped, tools};
pub use hostile::{Hostile, deep, fails_well, refuse};
pub use picture::picture;
pub use session::{Held, Session, Terminal};
pub use step::{Caller, Step, callers};
pub use trace::Trace;
pub use transcript::Transcript;
pub use tree::{Process, ProcessTree};
pub use watch::{Ended, Watch};
pub use workplace::in_a_workplace;
pub use workspace::{build, root, step_named, steps};

/// Runs the assertions in `body` with the course's settings for [`insta`]: a header of three lines in
/// each snapshot, since the book shows a snapshot from its fourth line on.
pub fn snapshots(body: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(body);
}
