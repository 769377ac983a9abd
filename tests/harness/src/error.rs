//! The one error type of the harness, and how a failed call gets its name.

use std::fmt::{self, Debug, Display, Formatter};
use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// The result of every instrument.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// How much a program may print on one stream, in bytes.
pub const OUTPUT_LIMIT: usize = 4 << 20;

/// Why an instrument has no answer.
pub enum Error {
    /// A call failed.
    Call {
        /// The call and its object, as the steps write it.
        call: String,
        /// The kernel's or the library's reason.
        source: io::Error,
    },
    /// The program under test gave no answer in time, and was killed.
    Timeout {
        /// The answer that was expected.
        wanted: String,
        /// The time limit.
        limit: Duration,
        /// The output until then.
        printed: String,
    },
    /// The output of the program under test ended before the answer.
    OutputEnded {
        /// The answer that was expected.
        wanted: String,
        /// The output until then.
        printed: String,
    },
    /// The program under test printed more than [`OUTPUT_LIMIT`] bytes, and was killed.
    OutputLimit,
    /// The program under test created more processes than any step needs, and was killed.
    ProcessLimit {
        /// The limit.
        limit: u32,
    },
    /// Anything else, in words.
    Message(String),
}

impl Error {
    /// Creates an error from a sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Error::Message(message.into())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Error::Call { call, source } => match source.raw_os_error() {
                Some(number) => {
                    let errno = Errno::from_raw(number);
                    write!(f, "{call}: {} ({errno:?})", errno.desc())
                }
                None => write!(f, "{call}: {source}"),
            },
            Error::Timeout { wanted, limit, printed } => {
                let seconds = limit.as_secs_f32();
                write!(f, "no answer within {seconds} s; ended: {wanted}")?;
                match printed.trim() {
                    "" => Ok(()),
                    _ => write!(f, "; it printed: {printed}"),
                }
            }
            Error::OutputEnded { wanted, printed } => {
                write!(f, "{wanted}: the output ended; it printed: {printed}")
            }
            Error::OutputLimit => {
                write!(f, "it printed more than {} MiB, so it was killed", OUTPUT_LIMIT >> 20)
            }
            Error::ProcessLimit { limit } => {
                write!(f, "it created more than {limit} processes, so it was killed")
            }
            Error::Message(message) => f.write_str(message),
        }
    }
}

/// A test that returns an error prints it with `{:?}`. The sentence is what its reader needs.
impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Call { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Names the call that failed.
pub trait Context<T> {
    /// Turns a failure into [`Error::Call`].
    ///
    /// # Errors
    /// The failure, with its call.
    fn context(self, call: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, call: impl Display) -> Result<T> {
        self.map_err(|source| Error::Call { call: call.to_string(), source: source.into() })
    }
}
