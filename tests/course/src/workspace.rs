//! The checkout that the learner works in.

use std::env;
use std::path::{Path, PathBuf};

use harness::cargo::workspace_root;
use harness::{Context, Result};

/// Returns the root of the checkout that holds the current directory.
///
/// # Errors
/// The current directory isn't in one.
pub fn root() -> Result<PathBuf> {
    workspace_root(&env::current_dir().context("getcwd")?)
}

/// Returns the path as a learner at the root would write it.
pub fn relative_path(path: &Path) -> String {
    let root = root().unwrap_or_default();
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// Returns a path that the learner typed. `just` changes the directory, and passes on the one it was called in.
pub fn typed_path(path: &Path) -> PathBuf {
    let called_from = env::var_os("COURSE_CALLED_FROM").map(PathBuf::from).unwrap_or_default();
    called_from.join(path)
}

/// Returns what the learner typed to get here: `just`, or `cargo course`.
pub fn called_as() -> String {
    env::var("COURSE_CALLED_AS").unwrap_or_else(|_| "cargo course".to_owned())
}
