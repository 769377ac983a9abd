//! A shell, asked one question at a time.

use std::io::{ErrorKind, PipeWriter, Write};
use std::ops::Deref;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::output::Output;
use crate::running::{Running, send_signal};
use crate::supervisor::{Supervisor, pipes};

/// The destination of standard error.
enum Stderr {
    Captured,
    Merged,
    Given(Stdio),
}

/// A program that runs a shell, and holds still between two questions to it.
pub struct Session {
    running: Running,
    input: Option<PipeWriter>,
    output: Output,
    errors: Option<Output>,
    asked: u32,
}

impl Session {
    /// Starts it, and waits until the shell answers.
    ///
    /// # Errors
    /// No shell answers.
    pub fn start(supervisor: Supervisor) -> Result<Self> {
        Ok(Session::answering(supervisor, Stderr::Captured)?.0)
    }

    /// Does the same, with standard error passed on to ours.
    ///
    /// # Errors
    /// No shell answers.
    pub fn start_inheriting_stderr(supervisor: Supervisor) -> Result<Self> {
        Ok(Session::answering(supervisor, Stderr::Given(Stdio::inherit()))?.0)
    }

    /// Starts a shell whose standard error is part of the answers. Returns what came before the first question.
    pub(crate) fn merged(supervisor: Supervisor) -> Result<(Self, String)> {
        Session::answering(supervisor, Stderr::Merged)
    }

    fn answering(supervisor: Supervisor, stderr: Stderr) -> Result<(Self, String)> {
        let mut session = Session::open(supervisor, stderr)?;
        let before = session.run(":")?;
        Ok((session, before))
    }

    /// Starts a command that need not be a shell. It reports with `line` on standard output that it's ready.
    ///
    /// # Errors
    /// Another line comes, or none.
    pub fn ready(supervisor: Supervisor, line: &str) -> Result<Self> {
        let session = Session::open(supervisor, Stderr::Captured)?;
        let seen = session.next_line()?;
        if seen == line {
            return Ok(session);
        }
        Err(Error::new(format!("the first line on standard output is {seen:?} and not {line:?}")))
    }

    /// Starts a command whose standard error is this pipe, and waits for nothing.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn with_stderr(supervisor: Supervisor, writer: PipeWriter) -> Result<Self> {
        Session::open(supervisor, Stderr::Given(writer.into()))
    }

    fn open(supervisor: Supervisor, stderr: Stderr) -> Result<Self> {
        let ((stdin, input), (stdout, to_stdout)) = (pipes()?, pipes()?);
        let (to_stderr, errors) = match stderr {
            Stderr::Captured => {
                let (errors, to_stderr) = pipes()?;
                (to_stderr.into(), Some(errors))
            }
            Stderr::Merged => (to_stdout.try_clone().context("dup")?.into(), None),
            Stderr::Given(stderr) => (stderr, None),
        };
        let running = supervisor.start(stdin.into(), to_stdout.into(), to_stderr)?;
        let output = Output::capture(stdout, running.stopper())?;
        let errors = errors.map(|errors| Output::capture(errors, running.stopper())).transpose()?;
        Ok(Session { running, input: Some(input), output, errors, asked: 0 })
    }

    /// Waits for the next line on standard output.
    ///
    /// # Errors
    /// It doesn't come in time.
    pub fn next_line(&self) -> Result<String> {
        let line = self.read_until("\n", "a line on standard output")?;
        Ok(line.trim_end_matches('\n').to_owned())
    }

    /// Waits for the next line, but no longer than `timeout`.
    pub fn next_line_within(&self, timeout: Duration) -> Option<String> {
        let line = self.output.read_until("\n", "a line", timeout).ok()?;
        Some(line.trim_end_matches('\n').to_owned())
    }

    /// Gives the shell a command line, and returns what it prints on standard output. When this returns, the
    /// shell waits for the next question.
    ///
    /// # Errors
    /// The shell doesn't answer in time.
    pub fn run(&mut self, line: &str) -> Result<String> {
        Ok(self.run_with_status(line)?.0)
    }

    /// Does the same, and returns the exit status of the command line, too.
    ///
    /// # Errors
    /// The shell doesn't answer in time.
    pub fn run_with_status(&mut self, line: &str) -> Result<(String, String)> {
        self.asked += 1;
        let mark = format!("course: answer {} ends with ", self.asked);
        match self.send(&format!("{line}\necho \"{mark}$?\"\n")) {
            // The shell is gone, and its output says more about that.
            Err(Error::Call { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {}
            sent => sent?,
        }
        let wanted = "an answer from the shell";
        let answer = self.read_until(&mark, wanted)?;
        let status = self.next_line()?;
        let answer = answer.strip_suffix(&mark).unwrap_or(&answer);
        Ok((answer.trim_end().to_owned(), status))
    }

    fn read_until(&self, end: &str, wanted: &str) -> Result<String> {
        let read = self.output.read_until(end, wanted, self.running.answer_timeout);
        read.map_err(|error| self.running.explain(self.with_stderr_so_far(error)))
    }

    /// Adds to an error what came on standard error, which often says why there's no answer.
    fn with_stderr_so_far(&self, mut error: Error) -> Error {
        // A program that has ended its output is about to exit.
        let (printed, patience) = match &mut error {
            Error::OutputEnded { printed, .. } => (printed, Duration::from_secs(1)),
            Error::Timeout { printed, .. } => (printed, Duration::ZERO),
            _ => return error,
        };
        if let Some(errors) = &self.errors {
            printed.push_str(&errors.read_within(patience));
        }
        error
    }

    /// Gives the shell its input, and waits for nothing.
    ///
    /// # Errors
    /// The shell is gone.
    pub fn send(&mut self, text: &str) -> Result {
        let input = self.input.as_mut().ok_or_else(|| Error::new("the input is closed"))?;
        let written = input.write_all(text.as_bytes()).context("write to the shell");
        written.map_err(|error| self.running.explain(error))
    }

    /// Sends a signal to the process that was started.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result {
        send_signal(self.pid(), signal)
    }

    /// Waits until everything has exited, with the shell's input still open. Returns what came on standard
    /// error.
    ///
    /// # Errors
    /// It didn't exit in time, the supervisor failed, or there was too much output.
    pub fn wait(self) -> Result<(Exit, String)> {
        let Session { running, input, errors, .. } = self;
        let exit = running.wait_for_answer()?;
        drop(input);
        let errors = errors.map(Output::finish).transpose()?.unwrap_or_default();
        exit.within_limits("the program's exit", String::from_utf8_lossy(&errors).into_owned())
    }

    /// Closes the shell's input, so that it exits, and does the same.
    ///
    /// # Errors
    /// As for [`Session::wait`].
    pub fn end(mut self) -> Result<(Exit, String)> {
        self.input = None;
        self.wait()
    }
}

/// So that what runs can be asked for its PID and its tree.
impl Deref for Session {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}
