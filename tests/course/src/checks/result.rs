//! What a check comes to.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use harness::{Error, Exit, Program, Supervisor, send_signal, shell_status};
use nix::sys::signal::Signal;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFailure {
    /// The command line, or what else was done.
    pub command: String,
    /// What should have happened.
    pub expected: String,
    /// What happened.
    pub actual: String,
}

/// A check passed, or failed.
pub type CheckResult<T = ()> = Result<T, CheckFailure>;

impl Display for CheckFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nexpected: {}\nactual:   {}", self.command, self.expected, self.actual)
    }
}

impl CheckFailure {
    /// Turns an instrument's error into a failure of the program, which gave no answer.
    pub fn no_answer(command: impl Into<String>, error: &Error) -> Self {
        let actual = match error {
            // The command is shown beside it.
            Error::Timeout { limit, printed, .. } => {
                let printed = if printed.trim().is_empty() { "nothing" } else { printed };
                let seconds = (limit.as_secs_f32() * 10.0).round() / 10.0;
                format!("no answer within {seconds} s; ended; it printed: {printed}")
            }
            // The kernel counts a user's processes everywhere.
            error if error.to_string().contains("(EAGAIN)") => format!(
                "{error}\nThe machine or your user has too many processes. Your code isn't the cause. End some of \
                 the processes, and check again."
            ),
            error => error.to_string(),
        };
        CheckFailure { command: command.into(), expected: "an answer".to_owned(), actual }
    }
}

/// Says which command an instrument looked at when it failed.
pub(crate) trait During<T> {
    fn during(self, command: &str) -> CheckResult<T>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, command: &str) -> CheckResult<T> {
        self.map_err(|error| CheckFailure::no_answer(command, &error))
    }
}

/// Fails unless `passed`.
///
/// # Errors
/// What was expected, and what happened instead.
pub fn ensure(
    passed: bool,
    command: impl Into<String>,
    expected: impl Into<String>,
    actual: impl Into<String>,
) -> CheckResult {
    if passed {
        return Ok(());
    }
    let (command, expected, actual) = (command.into(), expected.into(), actual.into());
    Err(CheckFailure { command, expected, actual })
}

/// Fails if a run left something behind.
pub(crate) fn ensure_clean(command: &str, exit: &Exit) -> CheckResult {
    let leaked = &exit.leaked_processes;
    let actual = format!("{} left, now killed by the check:\n{}", leaked.len(), leaked.join("\n"));
    ensure(leaked.is_empty(), command, "no process is left", actual)?;
    let mounts = exit.mount_changes.join("\n");
    ensure(mounts.is_empty(), command, "the host's mounts don't change", mounts)
}

/// Fails unless a program exited with this status, as a shell shows it. `why` is part of what's expected.
pub(super) fn ensure_exits(command: &str, exit: &Exit, status: i32, why: &str) -> CheckResult {
    let actual = format!("exit status {}", exit.shell_status());
    let expected = format!("exit status {status}{why}");
    ensure(exit.shell_status() == status, command, expected, actual)
}

/// Sends a signal to a process outside the container.
pub(super) fn send(pid: i32, signal: Signal, command: &str) -> CheckResult {
    send_signal(pid, signal).during(command)
}

/// What a command line printed, and its exit status.
pub(crate) struct RunOutput {
    pub(crate) command: String,
    pub(crate) exit_status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl RunOutput {
    /// Runs a command line to its end. `command` is how a reader would type it.
    pub(crate) fn of(command: impl Into<String>, supervisor: Supervisor) -> CheckResult<Self> {
        let command = command.into();
        let captured = supervisor.within_answer_timeout().output().during(&command)?;
        ensure_clean(&command, &captured.exit)?;
        Ok(RunOutput {
            exit_status: captured.exit.status,
            stdout: captured.stdout,
            stderr: String::from_utf8_lossy(&captured.stderr).into_owned(),
            command,
        })
    }

    /// Returns what came on standard output.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn has_status(self, expected: i32) -> CheckResult<Self> {
        let status = shell_status(self.exit_status);
        let actual = format!("exit status {status}{}", self.and_stderr());
        let wanted = format!("exit status {expected}");
        ensure(status == expected, &self.command, wanted, actual).map(|()| self)
    }

    /// Tells 137 from a death by SIGKILL, which a shell doesn't.
    pub(crate) fn has_exited_with(self, expected: i32) -> CheckResult<Self> {
        let exited = self.exit_status.code() == Some(expected);
        self.has_ended(exited, format!("exit status: {expected}"))
    }

    pub(crate) fn was_killed_by(self, expected: i32) -> CheckResult<Self> {
        let killed = self.exit_status.signal() == Some(expected);
        self.has_ended(killed, format!("the process is killed by signal {expected}"))
    }

    fn has_ended(self, as_wanted: bool, wanted: String) -> CheckResult<Self> {
        let actual = format!("{}; {}", self.exit_status, self.stderr);
        ensure(as_wanted, &self.command, wanted, actual).map(|()| self)
    }

    pub(crate) fn has_stdout(self, expected: &[u8]) -> CheckResult<Self> {
        let wanted = format!("standard output: {}", expected.escape_ascii());
        let stderr = if self.stdout.is_empty() { self.and_stderr() } else { String::new() };
        let actual = format!("standard output: {}{stderr}", self.stdout.escape_ascii());
        ensure(self.stdout == expected, &self.command, wanted, actual).map(|()| self)
    }

    pub(crate) fn has_in_stderr(self, expected: &str) -> CheckResult<Self> {
        let found = self.stderr.contains(expected);
        let wanted = format!("standard error contains: {expected}");
        ensure(found, &self.command, wanted, &self.stderr).map(|()| self)
    }

    /// Standard error often says why something is missing.
    fn and_stderr(&self) -> String {
        let stderr = self.stderr.trim_end();
        if stderr.is_empty() { String::new() } else { format!("\nstandard error: {stderr}") }
    }
}

/// Runs `program arg…` to its end.
pub(super) fn run<S: AsRef<OsStr>>(
    program: &Program,
    args: impl IntoIterator<Item = S>,
) -> CheckResult<RunOutput> {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(|word| &**word).collect();
    RunOutput::of(command_line(program, &words), program.supervise(&args))
}

/// Runs a shell script in the container.
pub(super) fn run_script(program: &Program, script: &str) -> CheckResult<RunOutput> {
    run(program, ["run", "sh", "-c", script])
}

/// Returns the command line as a learner would type it, with quotes where a shell needs them.
pub(super) fn command_line(program: &Program, args: &[&str]) -> String {
    let quote = |arg: &str| match shlex::try_quote(arg) {
        Ok(quoted) if !arg.contains('\'') => quoted.into_owned(),
        // shlex changes between two kinds of quotes, which is hard to read.
        _ => format!("'{}'", arg.replace('\'', r"'\''")),
    };
    let words = args.iter().map(|arg| format!(" {}", quote(arg)));
    program.name().to_owned() + &words.collect::<String>()
}

/// Runs a command in the container, and compares its standard output.
pub(super) fn prints(program: &Program, command: &[&str], expected: &str) -> CheckResult {
    run(program, [&["run"], command].concat())?.has_stdout(expected.as_bytes()).map(drop)
}
