//! The learner's tool: the steps as data, the checks that they and the learners are held to, and the commands
//! behind `just`.
//!
//! - [`step`]: the steps. [`checks`]: the one list of checks; their hints are in `hints.txt`.
//! - [`commands`]: one function for each command; `main.rs` has the command line.
//! - [`starter`], [`grading`], [`state`]: the learner's own version of a step. [`watch`]: grades it on every save.
//! - [`render`], [`style`], [`terminal`], [`waiting`]: how it looks at a terminal.
//! - [`patch`], [`sandbox`]: lessons taken out of a step, in a copy of the workspace.
//! - [`slow`]: a step in slow motion, as frames.
//! - [`doctor`]: what this machine can do.

#![warn(unreachable_pub)]

pub mod checks;
pub mod cleanup;
pub mod commands;
pub mod diff;
pub mod doctor;
pub mod done;
pub mod editor;
pub mod grading;
pub mod hints;
pub mod keyboard;
pub mod patch;
pub mod print;
pub mod render;
pub mod sandbox;
pub mod slow;
pub mod sources;
pub mod starter;
pub mod state;
pub mod step;
pub mod style;
pub mod terminal;
#[cfg(feature = "test-support")]
pub mod test_support;
pub mod waiting;
pub mod watch;
pub mod workspace;
