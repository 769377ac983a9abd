//! Where the helper program is.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::cargo::{Build, workspace_root};
use crate::error::{Context, Result};

/// The name by which a program knows that it's to be the helper.
pub(crate) const NAME: &str = "harness-helper";

/// The helper's path. Nothing stands for this program itself.
static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Declares that this program can be its own helper: its main function asks `main_if_asked`.
pub(crate) fn use_own_executable() {
    let _ = PATH.set(None);
}

fn known_path() -> Result<Option<PathBuf>> {
    if let Some(path) = PATH.get() {
        return Ok(path.clone());
    }
    // A test doesn't contain the helper, so cargo builds it, once for all threads.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = PATH.get() {
        return Ok(path.clone());
    }
    let directory = env::current_dir().context("getcwd")?;
    let path = Build::bin(&workspace_root(&directory)?, Some("harness"), NAME).run()?;
    Ok(PATH.get_or_init(|| Some(path)).clone())
}

/// Returns the helper's path.
///
/// # Errors
/// It can't be built.
pub fn helper_path() -> Result<PathBuf> {
    match known_path()? {
        Some(path) => Ok(path),
        None => env::current_exe().context("readlink(/proc/self/exe)"),
    }
}

/// Prepares a command that starts the helper.
///
/// # Errors
/// It can't be built.
pub(crate) fn helper_command() -> Result<Command> {
    let mut command = Command::new(known_path()?.unwrap_or("/proc/self/exe".into()));
    command.arg0(NAME);
    Ok(command)
}
