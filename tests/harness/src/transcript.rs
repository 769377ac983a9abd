//! Transcripts: a command line as a reader would type it, with its output and exit status.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use regex_lite::{Match, Regex};

use crate::error::{Error, Result};
use crate::exit::{Captured, Exit};
use crate::placeholders::Placeholders;
use crate::session::Session;
use crate::supervisor::Supervisor;

/// Command lines, what they printed on both streams, in order, and every exit status that isn't 0.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Command lines and output.
    pub text: String,
    /// The output alone.
    pub printed: String,
    /// The exit status of the last command line.
    pub status: ExitStatus,
}

impl Transcript {
    /// Runs a command line to its end without input.
    ///
    /// # Errors
    /// It doesn't start or exit, or it leaves a process or a mount behind.
    pub fn run(supervisor: Supervisor) -> Result<Self> {
        let (transcript, exit) = Transcript::run_with_exit(supervisor)?;
        let leftovers = exit.leftovers();
        if leftovers.is_empty() {
            return Ok(transcript);
        }
        let text = &transcript.text;
        Err(Error::new(format!("it leaves this behind: {}\n{text}", leftovers.join("; "))))
    }

    /// Does the same, and returns what was left behind.
    ///
    /// # Errors
    /// It doesn't start or exit.
    pub fn run_with_exit(supervisor: Supervisor) -> Result<(Self, Exit)> {
        let line = supervisor.command_line();
        let Captured { stdout, exit, .. } = supervisor.capture(true)?;
        let printed = String::from_utf8_lossy(&stdout).into_owned();
        let status = exit.status;
        let text = format!("$ {line}\n{printed}{}", status_line(status));
        Ok((Transcript { text, printed, status }, exit))
    }

    /// Starts a shell, or a program that ends up in one, and types lines into it. The prompt of a plain shell is
    /// `$ `. The shell in a container is root there, so its prompt is `# `.
    ///
    /// # Errors
    /// The shell doesn't answer.
    pub fn type_lines(supervisor: Supervisor, lines: &[&str]) -> Result<(Self, Exit)> {
        let line = supervisor.command_line();
        let (mut text, prompt) =
            if line == "sh" { (String::new(), '$') } else { (format!("$ {line}\n"), '#') };
        let (mut session, before) = Session::merged(supervisor)?;
        let mut printed = String::new();
        let mut add = |text: &mut String, answer: &str| {
            text.extend(answer.lines().flat_map(|line| [line, "\n"]));
            printed.extend([answer, "\n"]);
        };
        add(&mut text, &before);
        for line in lines {
            text += &format!("{prompt} {line}\n");
            let (answer, status) = session.run_with_status(line)?;
            add(&mut text, &answer);
            if status != "0" {
                text += &format!("[exit status {status}]\n");
            }
        }
        let (exit, _) = session.end()?;
        Ok((Transcript { text, printed, status: exit.status }, exit))
    }

    /// Returns the text with the host's PIDs replaced: each number that a group of the regular expressions finds
    /// becomes `HOST_A`, `HOST_B`, … in the order of appearance.
    ///
    /// # Errors
    /// An expression isn't one, or none of them finds anything.
    pub fn redacted(&self, host_pids: &[&str]) -> Result<String> {
        let redacted = self.maybe_redacted(host_pids)?;
        if redacted == self.text {
            return Err(Error::new(format!("there's nothing to redact in:\n{redacted}")));
        }
        Ok(redacted)
    }

    /// Does the same if there may be nothing to replace.
    ///
    /// # Errors
    /// An expression isn't one.
    pub fn maybe_redacted(&self, host_pids: &[&str]) -> Result<String> {
        let mut placeholders = Placeholders::default();
        let either = regex(&host_pids.join("|"))?;
        let (mut text, mut end) = (String::new(), 0);
        for found in either.captures_iter(&self.text) {
            let mut groups: Vec<_> = found.iter().skip(1).flatten().collect();
            groups.sort_by_key(Match::start);
            for group in groups {
                text += &self.text[end..group.start()];
                text += &placeholders.name(group.as_str());
                end = group.end();
            }
        }
        Ok(text + &self.text[end..])
    }

    /// Returns the numbers that the expression's first group finds in the output.
    ///
    /// # Errors
    /// The expression isn't one, or finds something else.
    pub fn captures(&self, expression: &str) -> Result<Vec<i32>> {
        let expression = regex(expression)?;
        let numbers = expression.captures_iter(&self.printed).map(|found| found[1].parse());
        numbers.collect::<std::result::Result<_, _>>().map_err(|_| Error::new("not a number"))
    }
}

/// Compiles a regular expression.
pub(crate) fn regex(expression: &str) -> Result<Regex> {
    Regex::new(expression).map_err(|error| Error::new(format!("{expression}: {error}")))
}

fn status_line(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code @ 1..), _) => format!("[exit status {code}]\n"),
        (_, Some(signal)) => format!("[killed by signal {signal}]\n"),
        _ => String::new(),
    }
}
