//! The output of a program in slow motion, kept in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use harness::{Context, Error, OUTPUT_LIMIT, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A file without a name, as standard output and standard error.
pub(super) struct Printed {
    file: File,
    seen: u64,
}

impl Printed {
    /// Creates it, empty.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn new() -> Result<Self> {
        let file = memfd_create("printed", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
        Ok(Printed { file: File::from(file), seen: 0 })
    }

    /// Returns it twice, for a new program.
    ///
    /// # Errors
    /// Too many files are open.
    pub(super) fn outputs(&self) -> Result<[Stdio; 2]> {
        let clone = || self.file.try_clone().context("dup");
        Ok([clone()?.into(), clone()?.into()])
    }

    /// Returns an error if the program printed too much.
    ///
    /// # Errors
    /// The output is longer than [`OUTPUT_LIMIT`].
    pub(super) fn ensure_limit(&self) -> Result {
        let length = self.file.metadata().context("stat")?.len();
        if length > OUTPUT_LIMIT as u64 { Err(Error::OutputLimit) } else { Ok(()) }
    }

    /// Returns the lines printed since the last call.
    ///
    /// # Errors
    /// They can't be read.
    pub(super) fn new_lines(&mut self) -> Result<Vec<String>> {
        let length = self.file.metadata().context("stat")?.len();
        let new = usize::try_from(length.saturating_sub(self.seen)).unwrap_or(0);
        let mut bytes = vec![0; new.min(OUTPUT_LIMIT)];
        self.file.read_exact_at(&mut bytes, self.seen).context("read what the step printed")?;
        self.seen = length;
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }
}
