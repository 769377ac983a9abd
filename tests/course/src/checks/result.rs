//! The result of a check, and functions that check a program's output and exit status.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use harness::{
    Captured, Error, Exit, Process, ProcessTree, Program, Session, Supervisor, send_signal,
    shell_status,
};
use nix::sys::signal::Signal;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFailure {
    /// The command line, as a learner would type it. Other actions of the check follow after [`AND`].
    pub command: String,
    /// The behavior that the check expected.
    pub expected: String,
    /// The behavior that the check saw.
    pub actual: String,
}

/// Separates a command line from the other actions of a check. A shell reads those as a comment, so a learner can paste
/// the whole text.
pub const AND: &str = "\n# ";

/// A check passed, or failed.
pub type CheckResult<T = ()> = Result<T, CheckFailure>;

impl Display for CheckFailure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nexpected: {}\nseen:     {}", self.command, self.expected, self.actual)
    }
}

impl CheckFailure {
    pub(crate) fn new(
        command: impl Into<String>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) -> Self {
        let (command, expected, actual) = (command.into(), expected.into(), actual.into());
        CheckFailure { command, expected, actual }
    }

    /// Turns an instrument's error into a failure of the program, which gave no answer.
    pub fn no_answer(command: impl Into<String>, error: &Error) -> Self {
        let expected = match error {
            Error::Timeout { wanted, limit, .. } => {
                // The command line is shown beside it.
                let wanted =
                    if wanted.starts_with("the exit of ") { "the program's exit" } else { wanted };
                format!("{wanted} within {}", seconds(*limit))
            }
            Error::OutputEnded { wanted, .. } => wanted.clone(),
            Error::OutputLimit | Error::ProcessLimit { .. } => {
                "a program that stays within the limits of a check".to_owned()
            }
            _ => "a program that the check can run to its end".to_owned(),
        };
        CheckFailure::new(command, expected, seen(error))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f32() * 10.0).round() / 10.0)
}

/// Says what was seen instead of an answer.
fn seen(error: &Error) -> String {
    let printed = |printed: &str| match printed.trim() {
        "" => "it printed nothing".to_owned(),
        printed => format!("it printed:\n{printed}"),
    };
    match error {
        Error::Timeout { limit, printed: text, .. } => {
            let (limit, printed) = (seconds(*limit), printed(text));
            format!("a timeout: the check killed the program after {limit}\n{printed}")
        }
        Error::OutputEnded { printed: text, .. } => {
            format!("its output ended\n{}", printed(text))
        }
        // The kernel counts a user's processes everywhere.
        error if error.to_string().contains("(EAGAIN)") => format!(
            "{error}\nThe machine or your user has too many processes. Your code isn't the cause. End some of \
             the processes, and check again."
        ),
        error => error.to_string(),
    }
}

/// Says which command an instrument looked at when it failed.
pub(crate) trait During<T> {
    fn during(self, command: &str) -> CheckResult<T>;

    /// Also says what was expected from the program at that moment.
    fn expecting(self, command: &str, expected: &str) -> CheckResult<T>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, command: &str) -> CheckResult<T> {
        self.map_err(|error| CheckFailure::no_answer(command, &error))
    }

    fn expecting(self, command: &str, expected: &str) -> CheckResult<T> {
        self.map_err(|error| CheckFailure::new(command, expected, seen(&error)))
    }
}

/// Fails unless `passed`.
///
/// # Errors
/// `passed` is false. The failure has the other arguments.
pub fn ensure(
    passed: bool,
    command: impl Into<String>,
    expected: impl Into<String>,
    actual: impl Into<String>,
) -> CheckResult {
    if passed { Ok(()) } else { Err(CheckFailure::new(command, expected, actual)) }
}

/// The beginning of what's seen if a run changed the host's mounts. `hints.txt` knows it.
pub const MOUNTS_CHANGED: &str = "these mounts are new (+) or gone (-)";

/// Fails if a run left something behind.
pub(crate) fn ensure_clean(command: &str, exit: &Exit) -> CheckResult {
    let leaked = &exit.leaked_processes;
    let are = match leaked.len() {
        1 => "1 process is left, and the check killed it".to_owned(),
        more => format!("{more} processes are left, and the check killed them"),
    };
    let actual = format!("{are}:\n{}", leaked.join("\n"));
    ensure(leaked.is_empty(), command, "no process is left", actual)?;
    let mounts: Vec<_> = exit.mount_changes.iter().map(|line| in_words(line)).collect();
    let actual = format!("{MOUNTS_CHANGED}:\n{}", mounts.join("\n"));
    ensure(mounts.is_empty(), command, "the host's mounts don't change", actual)
}

/// Names the filesystem, the directory, and the propagation in a line of /proc/PID/mountinfo, after its `+` or `-`.
fn in_words(line: &str) -> String {
    let (change, mount) = line.split_at(line.len().min(1));
    let (mount, filesystem) = mount.split_once(" - ").unwrap_or((mount, ""));
    let fields: Vec<_> = mount.split(' ').collect();
    let Some(at) = fields.get(4) else { return line.to_owned() };
    let tied = fields.iter().skip(6).filter_map(|field| field.split(':').next());
    let tied = tied.map(|kind| if kind == "master" { "slave" } else { kind }).collect::<Vec<_>>();
    let tied = if tied.is_empty() { "private".to_owned() } else { tied.join(", ") };
    let kind = filesystem.split(' ').next().unwrap_or_default();
    format!("{change} {kind} at {at} ({tied})")
}

/// Fails unless a program exited with this status, as a shell shows it. `why` is part of what's expected.
pub(super) fn ensure_exits(command: &str, exit: &Exit, status: i32, why: &str) -> CheckResult {
    let actual = format!("exit status {}", exit.shell_status());
    let expected = format!("exit status {status}{why}");
    ensure(exit.shell_status() == status, command, expected, actual)
}

/// Returns the process that is PID 1 inside the container.
pub(super) fn pid_1<'a>(tree: &'a ProcessTree, command: &str) -> CheckResult<&'a Process> {
    let expected = "a process that is PID 1 inside the container";
    tree.pid_1().ok_or_else(|| CheckFailure::new(command, expected, tree.text()))
}

/// Starts a command that prints `up`, and waits for that.
pub(super) fn start(program: &Program, args: &[&str], command: &str) -> CheckResult<Session> {
    Session::ready(program.supervise(args), "up").expecting(command, "the command prints up")
}

/// Returns a command line, and below it what else the check does.
pub(super) fn and_then(program: &Program, args: &[&str], and: &str) -> String {
    format!("{}{AND}and {and}", command_line(program, args))
}

/// Sends a signal to a process outside the container.
pub(super) fn send(pid: i32, signal: Signal, command: &str) -> CheckResult {
    send_signal(pid, signal).during(command)
}

/// The output and the exit status of a command line.
pub(crate) struct RunOutput {
    pub(crate) command: String,
    pub(crate) exit_status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// If the command line didn't exit in time and was killed: what was seen until then.
    timed_out: Option<String>,
}

impl RunOutput {
    /// Runs a command line to its end. `command` is how a reader would type it.
    pub(crate) fn of(command: impl Into<String>, supervisor: Supervisor) -> CheckResult<Self> {
        let command = command.into();
        let (captured, timed_out) = match supervisor.within_answer_timeout().output() {
            // The caller's next assertion reports the timeout, because it knows what was expected.
            Err(error @ Error::Timeout { .. }) => (Captured::default(), Some(seen(&error))),
            captured => (captured.during(&command)?, None),
        };
        ensure_clean(&command, &captured.exit)?;
        let Captured { stdout, stderr, exit } = captured;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(RunOutput { command, exit_status: exit.status, stdout, stderr, timed_out })
    }

    /// Says in words what the command line does.
    pub(super) fn noting(mut self, note: &str) -> Self {
        self.command += &format!("{AND}{note}");
        self
    }

    /// Returns what came on standard output.
    pub(crate) fn text(&self) -> String {
        let text = || String::from_utf8_lossy(&self.stdout).into_owned();
        self.timed_out.clone().unwrap_or_else(text)
    }

    fn ensure(self, passed: bool, expected: String, actual: String) -> CheckResult<Self> {
        let (passed, actual) = match &self.timed_out {
            Some(seen) => (false, seen.clone()),
            None => (passed, actual),
        };
        ensure(passed, &self.command, expected, actual).map(|()| self)
    }

    pub(crate) fn has_status(self, expected: i32) -> CheckResult<Self> {
        let status = shell_status(self.exit_status);
        let actual = format!("exit status {status}{}", self.and_stderr());
        self.ensure(status == expected, format!("exit status {expected}"), actual)
    }

    /// Tells 137 from a death by SIGKILL, which a shell doesn't.
    pub(crate) fn has_exited_with(self, expected: i32) -> CheckResult<Self> {
        let exited = self.exit_status.code() == Some(expected);
        self.has_ended(exited, format!("exit status {expected}"))
    }

    pub(crate) fn was_killed_by(self, expected: i32) -> CheckResult<Self> {
        let killed = self.exit_status.signal() == Some(expected);
        self.has_ended(killed, format!("signal {expected} kills the process"))
    }

    fn has_ended(self, as_wanted: bool, wanted: String) -> CheckResult<Self> {
        let actual = format!("{}{}", how_it_died(self.exit_status), self.and_stderr());
        self.ensure(as_wanted, wanted, actual)
    }

    pub(crate) fn has_stdout(self, expected: &[u8]) -> CheckResult<Self> {
        let stderr = if self.stdout.is_empty() { self.and_stderr() } else { String::new() };
        let [wanted, actual] = on_stdout([expected, &self.stdout]);
        let passed = self.stdout == expected;
        self.ensure(passed, wanted, actual + &stderr)
    }

    pub(crate) fn has_in_stderr(self, expected: &str) -> CheckResult<Self> {
        let found = self.stderr.contains(expected);
        let actual = match self.stderr.trim_end() {
            "" => "nothing on standard error".to_owned(),
            stderr => format!("standard error:\n{stderr}"),
        };
        self.ensure(found, format!("a message on standard error: {}", expected.trim_end()), actual)
    }

    /// Standard error often says why something is missing.
    fn and_stderr(&self) -> String {
        let stderr = self.stderr.trim_end();
        if stderr.is_empty() { String::new() } else { format!("\nstandard error: {stderr}") }
    }
}

/// Says how a process died, in the words of the course.
pub(super) fn how_it_died(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(|number| (number, Signal::try_from(number)))) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some((_, Ok(signal)))) => format!("{signal} kills the process"),
        (_, Some((number, Err(_)))) => format!("signal {number} kills the process"),
        _ => status.to_string(),
    }
}

/// Shows what was expected on standard output and what came: as text, or with escapes if only those differ.
fn on_stdout(both: [&[u8]; 2]) -> [String; 2] {
    let text = |bytes: &[u8]| {
        let text = str::from_utf8(bytes).ok()?.trim_end_matches('\n').to_owned();
        (!text.contains('\n')).then_some(text)
    };
    let as_text = match both.map(text) {
        [Some(expected), Some(actual)] if expected != actual => [expected, actual],
        _ => both.map(|bytes| bytes.escape_ascii().to_string()),
    };
    as_text.map(|shown| match shown.as_str() {
        "" => "nothing on standard output".to_owned(),
        shown => format!("standard output: {shown}"),
    })
}

/// Runs `program arg…` to its end.
pub(super) fn run<S: AsRef<OsStr>>(
    program: &Program,
    args: impl IntoIterator<Item = S>,
) -> CheckResult<RunOutput> {
    let args: Vec<_> = args.into_iter().collect();
    RunOutput::of(command_line(program, &args), program.supervise(&args))
}

/// Runs a shell script in the container.
pub(super) fn run_script(program: &Program, script: &str) -> CheckResult<RunOutput> {
    run(program, ["run", "sh", "-c", script])
}

/// Returns the command line as a learner would type it, with quotes where a shell needs them.
pub(super) fn command_line<S: AsRef<OsStr>>(program: &Program, args: &[S]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    let quote = |arg: &str| {
        if !arg.is_empty() && arg.bytes().all(is_plain) {
            arg.to_owned()
        } else if arg.contains('\'') && !arg.contains(['"', '$', '`', '\\', '!']) {
            format!("\"{arg}\"")
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    let words = args.iter().map(|arg| format!(" {}", quote(&arg.as_ref().to_string_lossy())));
    program.name().to_owned() + &words.collect::<String>()
}

/// Runs a command in the container, and compares its standard output.
pub(super) fn prints(program: &Program, command: &[&str], expected: &str) -> CheckResult {
    run(program, [&["run"], command].concat())?.has_stdout(expected.as_bytes()).map(drop)
}
