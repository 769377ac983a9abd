//! A program under test, and who calls it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::caller::Caller;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::session::Session;
use crate::supervisor::Supervisor;
use crate::terminal::Terminal;
use crate::transcript::Transcript;

/// A program with its caller, in a clean environment.
#[derive(Debug)]
#[must_use]
pub struct Program {
    name: String,
    path: PathBuf,
    caller: Caller,
    environment: Environment,
}

impl Program {
    /// Takes the program at `path`, with `caller` as its caller.
    ///
    /// # Errors
    /// There is no such program, or no place from which the caller can run it.
    pub fn new(path: &Path, caller: Caller) -> Result<Self> {
        let name = path.file_name().ok_or_else(|| Error::new("a program has a name"))?;
        let mut environment = Environment::clean(caller)?;
        let mut path = path.to_owned();
        if environment.uid().is_some() {
            path = lend(&path, environment.directory())?;
        }
        environment.search_first(path.parent().unwrap_or(Path::new("/")));
        Ok(Program { name: name.to_string_lossy().into_owned(), path, caller, environment })
    }

    /// Tells the program another name.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets how long an answer may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.environment.timeout = timeout;
        self
    }

    /// Returns the name that the program is told: `02-init-pid1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns who calls it.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Returns where its caller finds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its surroundings.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the directory that it starts in.
    pub fn directory(&self) -> &Path {
        self.environment.directory()
    }

    /// Returns how long an answer may take.
    pub fn timeout(&self) -> Duration {
        self.environment.timeout
    }

    /// Prepares the command line `name arg…`, to be started by the test itself.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.environment.command(&self.path, args);
        command.arg0(&self.name);
        command
    }

    /// Prepares the command line `name arg…`, to be run under a supervisor.
    pub fn supervise<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Supervisor {
        Supervisor::new(&self.environment, &self.path, &self.name, args)
    }

    /// Prepares a shell script, in which `"$0"` is the program, to be run under a supervisor.
    pub fn script(&self, script: &str) -> Supervisor {
        let args = ["-c".as_ref(), script.as_ref(), self.path.as_os_str()];
        self.environment.supervise("sh", args)
    }

    /// Runs `name arg…` to its end without input.
    ///
    /// # Errors
    /// As for [`Transcript::run`].
    pub fn transcript<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Transcript> {
        Transcript::run(self.supervise(args))
    }

    /// Starts `name arg…`, which must end up in a shell, and waits until that shell answers.
    ///
    /// # Errors
    /// No shell answers.
    pub fn session<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Session> {
        Session::start(self.supervise(args))
    }

    /// Starts `name arg…` in a pseudo-terminal.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn terminal<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Terminal> {
        Terminal::start(self.supervise(args))
    }
}

/// Puts the program where another user can run it: a second name for the file if its mode allows that, or else
/// a copy that anyone may run.
fn lend(program: &Path, directory: &Path) -> Result<PathBuf> {
    let lent = directory.join(program.file_name().unwrap_or_default());
    // A second name for a symbolic link would lead nowhere.
    let program = &fs::canonicalize(program).context(format!("open {}", program.display()))?;
    let metadata = fs::metadata(program).context(format!("stat({})", program.display()))?;
    let open = metadata.permissions().mode() & 0o005 == 0o005;
    if open && fs::hard_link(program, &lent).is_ok() {
        return Ok(lent);
    }
    // This process must not have the copy open for writing: a program that another thread starts would inherit
    // that for a moment, and exec would fail with ETXTBSY.
    let copied = Command::new("cp").arg(program).arg(&lent).status().context("start cp")?;
    if !copied.success() {
        return Err(Error::new(format!("cp {}: {copied}", program.display())));
    }
    fs::set_permissions(&lent, Permissions::from_mode(0o755)).context("chmod")?;
    Ok(lent)
}
