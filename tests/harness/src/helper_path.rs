//! The path of the helper program, which cargo builds if necessary.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::cargo::{Build, workspace_root};
use crate::error::{Context, Result};
use crate::scratch::ScratchDir;

/// The name by which a program knows that it's to be the helper.
pub(crate) const NAME: &str = "harness-helper";

/// A link to the program of the process that follows the link.
const ITSELF: &str = "/proc/self/exe";

static PATH: OnceLock<PathBuf> = OnceLock::new();

/// Declares that this program can be its own helper: its main function asks `main_if_asked`.
pub(crate) fn use_own_executable() {
    let _ = PATH.set(ITSELF.into());
}

fn known_path() -> Result<&'static Path> {
    // A test doesn't contain the helper, so cargo builds it, once for all threads.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = PATH.get() {
        return Ok(path);
    }
    let directory = env::current_dir().context("getcwd")?;
    let path = Build::bin(&workspace_root(&directory)?, Some("harness"), NAME).run()?;
    Ok(PATH.get_or_init(|| path))
}

/// Returns the helper's path, which also holds for other processes.
///
/// # Errors
/// It can't be built.
pub fn helper_path() -> Result<PathBuf> {
    let path = known_path()?;
    if path != Path::new(ITSELF) {
        return Ok(path.into());
    }
    let path = env::current_exe().context("readlink(/proc/self/exe)")?;
    if path.exists() { Ok(path) } else { copy_of_itself() }
}

/// Returns a copy of this program. If cargo builds it again, there's a new file at its path, and the process that runs
/// the old one goes on.
fn copy_of_itself() -> Result<PathBuf> {
    static COPY: Mutex<Option<ScratchDir>> = Mutex::new(None);
    let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = &*copy {
        return Ok(directory.path().join(NAME));
    }
    let directory = ScratchDir::new("helper")?;
    let path = directory.path().join(NAME);
    fs::copy(ITSELF, &path).context(format!("copy this program to {}", path.display()))?;
    *copy = Some(directory);
    Ok(path)
}

/// Prepares a command that starts the helper.
///
/// # Errors
/// It can't be built.
pub(crate) fn helper_command() -> Result<Command> {
    let mut command = Command::new(known_path()?);
    command.arg0(NAME);
    Ok(command)
}
