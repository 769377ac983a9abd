//! The environment of a program: user, directory, variables, and limits.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::caller::{Caller, UNPRIVILEGED_UID};
use crate::error::{Context, Result};
use crate::scratch::ScratchDir;

/// The directories in which every caller's commands are looked up, as in PATH.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a program may take for an answer, unless it's told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How many processes and threads a program may have in a clean environment.
const PROCESSES: u32 = 500;

/// The environment of a program: user, directory, search path, and timeout.
#[derive(Debug)]
pub struct Environment {
    uid: Option<u32>,
    directory: Option<ScratchDir>,
    search_path: OsString,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Environment {
    /// Passes on everything that this process has.
    pub fn inherited() -> Self {
        let search_path = env::var_os("PATH").unwrap_or_default();
        Environment { uid: None, directory: None, search_path, timeout: TIMEOUT }
    }

    /// Creates the same surroundings on every machine: an empty directory, English messages, a PATH that every
    /// user can search, and no other variables.
    ///
    /// # Errors
    /// There is no place for the directory.
    pub fn clean(caller: Caller) -> Result<Self> {
        let directory = ScratchDir::new("course")?;
        let other_user = caller == Caller::Rootless && geteuid().is_root();
        let uid = other_user.then_some(UNPRIVILEGED_UID);
        chown(directory.path(), uid, uid).context("chown")?;
        let search_path = SEARCH_PATH.into();
        Ok(Environment { uid, directory: Some(directory), search_path, timeout: TIMEOUT })
    }

    /// Looks up commands in `directory` first.
    pub(crate) fn search_first(&mut self, directory: &Path) {
        self.search_path = [directory.as_os_str(), &self.search_path].join(OsStr::new(":"));
    }

    /// Returns how many processes and threads a program may have. Only a clean environment has a limit.
    pub(crate) fn process_limit(&self) -> Option<u32> {
        self.directory.as_ref().map(|_| PROCESSES)
    }

    /// Returns the uid that programs change to, if any. The gid has the same number.
    pub fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// Returns the directory that programs start in.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new("."), ScratchDir::path)
    }

    /// Prepares a program to be started by the test itself, without a supervisor.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        self.apply(&mut command);
        command
    }

    /// Sets directory and variables. The user stays, because a supervisor has to stay root.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Some(directory) = &self.directory {
            command.current_dir(directory.path()).env_clear();
            command.env("HOME", directory.path()).env("TERM", "dumb").env("LC_ALL", "C");
            // Temporary files that the program leaves are removed together with this directory.
            command.env("TMPDIR", directory.path());
            command.env("PATH", &self.search_path);
        }
    }
}
