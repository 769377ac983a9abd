//! How a program ended, what it printed, and what it left behind.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use crate::error::{Error, Result};

/// How a program ended, and what it left behind.
#[derive(Debug, Default)]
pub struct Exit {
    /// The program's own exit status.
    pub status: ExitStatus,
    /// A line for each process that still ran some time after the program had exited. They were killed.
    pub leaked_processes: Vec<String>,
    /// The lines in which the mount table differs, with `+` or `-` in front.
    pub mount_changes: Vec<String>,
    /// The timeout, if the program was killed for it.
    pub timed_out: Option<Duration>,
    /// The limit on processes, if the program was killed for it.
    pub process_limit: Option<u32>,
}

impl Exit {
    /// Adds a line of the helper's report.
    pub(crate) fn add(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("status", status)) => {
                self.status = ExitStatus::from_raw(status.parse().unwrap_or(-1));
            }
            Some(("process", words)) => self.leaked_processes.push(words.to_owned()),
            Some(("mount", words)) => self.mount_changes.push(words.to_owned()),
            Some(("limit", words)) => self.process_limit = words.parse().ok(),
            Some(("timeout", words)) => {
                self.timed_out = words.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
    }

    /// Returns itself and the output, or an error if the program was killed for a limit. The exit status isn't the
    /// program's then.
    pub(crate) fn within_limits(self, wanted: &str, printed: String) -> Result<(Self, String)> {
        if let Some(limit) = self.process_limit {
            return Err(Error::ProcessLimit { limit });
        }
        match self.timed_out {
            Some(limit) => Err(Error::Timeout { wanted: wanted.to_owned(), limit, printed }),
            None => Ok((self, printed)),
        }
    }

    /// Lists everything that is left, processes and mounts.
    pub fn leftovers(&self) -> Vec<String> {
        [&self.leaked_processes[..], &self.mount_changes].concat()
    }

    /// Returns the status as a shell would: 128+N if signal N killed the program.
    pub fn shell_status(&self) -> i32 {
        shell_status(self.status)
    }
}

/// Converts an exit status as a shell shows it, so that this process can exit with the same status.
pub fn exit_code(shell_status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(shell_status).unwrap_or(u8::MAX))
}

/// The output of a program, and how it ended.
#[derive(Debug, Default)]
pub struct Captured {
    /// Standard output, at most [`crate::OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// Standard error, the same.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub exit: Exit,
}

/// Returns a status as a shell would: 128+N if signal N killed the program.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
