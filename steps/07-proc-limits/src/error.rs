//! Used by `run` and `init`: what they write to standard error.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::{env, process::ExitCode};

use nix::errno::Errno;

// ANCHOR: error
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HINT: &str = "hint: run 'just doctor'; it finds out why";

/// Names the call that failed and adds the hint. Used like `anyhow`'s `Context`.
pub trait Context<T> {
    fn context(self, call: impl Display) -> Result<T>;
}

// std fails with io::Error and nix with Errno. Both convert to io::Error.
impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, call: impl Display) -> Result<T> {
        let named = |error| format!("{call}: {}\n{HINT}", reason(errno(error)));
        self.map_err(|error| named(error.into()).into())
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// For example `Operation not permitted (EPERM)`.
fn reason(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}
// ANCHOR_END: error

// ANCHOR: log
/// Writes a line to standard error, because standard output is the command's.
pub fn log(line: impl Display) {
    // `eprintln!` would panic if standard error is closed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
// ANCHOR_END: log

// ANCHOR: exec_failed
/// Reports why the command didn't start, and returns the exit status that a shell
/// would: 127 if it wasn't found, 126 if it was found but can't be executed.
pub fn exec_failed(command: &OsStr, error: io::Error) -> ExitCode {
    let mut errno = errno(error);
    // EACCES can also mean that a directory in PATH can't be searched.
    if errno == Errno::EACCES && !is_found(command) {
        errno = Errno::ENOENT;
    }
    let (name, command) = (env!("CARGO_BIN_NAME"), command.display());
    log(format!("{name}: exec {command}: {}", reason(errno)));
    ExitCode::from(if errno == Errno::ENOENT { 127 } else { 126 })
}

/// Searches PATH as execvp(3) does: only for a name without a slash.
fn is_found(command: &OsStr) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_in = |directory: PathBuf| directory.join(command).exists();
    command.as_encoded_bytes().contains(&b'/') || env::split_paths(&path).any(is_in)
}
// ANCHOR_END: exec_failed
