//! Used by `run` and `init` to write messages and errors to standard error.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::{env, process::ExitCode};

use nix::errno::Errno;

// ANCHOR: error
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

// `doctor` is a recipe of our justfile. It checks whether this machine can run the
// course.
const HINT: &str = "hint: run 'just doctor'; it finds out why";

/// Turns an error into a message with the name of the call, the reason, and the
/// hint. It works like the trait `Context` of the crate `anyhow`.
pub trait Context<T> {
    fn context(self, call: impl Display) -> Result<T>;
}

// If one of our calls to std fails, it returns an io::Error. A call to nix returns an
// Errno, which `error.into()` converts to an io::Error. The other `into` puts our
// message into a Box<dyn Error>.
impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, call: impl Display) -> Result<T> {
        let named = |error| format!("{call}: {}\n{HINT}", reason(errno(error)));
        self.map_err(|error| named(error.into()).into())
    }
}

/// Returns the errno, or UnknownErrno (0) if the error isn't from the kernel.
fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Describes an errno, for example as `Operation not permitted (EPERM)`.
fn reason(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}
// ANCHOR_END: error

// ANCHOR: log
/// Writes a line to standard error, because standard output belongs to the command.
pub fn log(line: impl Display) {
    // `eprintln!` would panic if it couldn't write, for example to a pipe that no
    // process reads. (Rust ignores SIGPIPE, which would otherwise kill us.) Each
    // line is a single write, so that lines from two processes can't mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
// ANCHOR_END: log

// ANCHOR: exec_failed
/// Reports why the command didn't start, and returns the same exit status as a
/// shell: 127 if the command wasn't found, and 126 if it was found but can't be
/// executed.
pub fn exec_failed(command: &OsStr, error: io::Error) -> ExitCode {
    let mut errno = errno(error);
    // If PATH contains a directory that we're forbidden to search, `exec` fails
    // with EACCES even for a command that doesn't exist. A shell exits with 127 in
    // this case.
    if errno == Errno::EACCES && !is_found(command) {
        errno = Errno::ENOENT;
    }
    let (name, command) = (env!("CARGO_BIN_NAME"), command.display());
    log(format!("{name}: exec {command}: {}", reason(errno)));
    ExitCode::from(if errno == Errno::ENOENT { 127 } else { 126 })
}

/// Searches PATH for the command, as execvp(3) does. Returns true for a name with a
/// slash, because `exec` uses it as a path, and the EACCES is about that path.
fn is_found(command: &OsStr) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_in = |directory: PathBuf| directory.join(command).exists();
    command.as_encoded_bytes().contains(&b'/') || env::split_paths(&path).any(is_in)
}
// ANCHOR_END: exec_failed
