//! Instruments that observe programs which create processes and namespaces. The tests, the book, and the learner's
//! tool use them. They know no step by name.
//!
//! - [`Program`]: a program and its caller, root or an ordinary user, in a clean environment.
//! - [`Supervisor`]: the one way to run anything. It reports what a run leaves behind, and kills it.
//! - [`Session`]: a shell, asked one question at a time. [`Terminal`]: a pseudo-terminal.
//! - [`ProcessTree`], [`Transcript`], [`Trace`], [`diagram()`]: what a reader sees.
//! - [`Stepper`]: a program under ptrace(2), one system call at a time. [`Held`]: a process that stands still.
//! - [`Requirement`]: what a machine must be able to do for a test. [`Restriction`]: a place that refuses.
//! - [`soak`]: many runs, some of them killed, and what is left. [`probe`]: what this machine allows.
//!
//! An instrument returns an [`Error`] if it has no answer. Only `test_support` panics, as `assert!` does.

#![warn(unreachable_pub)]

mod call;
mod caller;
pub mod cargo;
mod diagram;
mod environment;
mod error;
mod exit;
pub mod helper;
mod helper_path;
mod hold;
pub mod namespace;
mod output;
pub mod placeholders;
mod poll;
pub mod probe;
mod process_tree;
pub mod procfs;
mod program;
mod requirement;
mod restriction;
mod runc;
mod running;
mod scratch;
mod seccomp;
mod session;
pub mod soak;
mod stepper;
mod supervisor;
mod terminal;
#[cfg(feature = "test-support")]
pub mod test_support;
mod trace;
pub mod tracee;
mod transcript;

pub use call::{Call, CallError, CallResult};
pub use caller::{Caller, UNPRIVILEGED_UID};
pub use diagram::{Highlights, diagram, moment};
pub use environment::{Environment, SEARCH_PATH};
pub use error::{Context, Error, OUTPUT_LIMIT, Result};
pub use exit::{Captured, Exit, exit_code, shell_status};
pub use helper_path::helper_path;
pub use hold::Held;
pub use poll::wait_readable;
pub use process_tree::{Process, ProcessTree};
pub use program::Program;
pub use requirement::{Requirement, is_in_path};
pub use restriction::Restriction;
pub use running::{Running, send_signal};
pub use scratch::ScratchDir;
pub use session::Session;
pub use stepper::{Event, Stepper};
pub use supervisor::{Supervisor, full_pipe, pass_on};
pub use terminal::Terminal;
pub use trace::Trace;
pub use transcript::Transcript;
