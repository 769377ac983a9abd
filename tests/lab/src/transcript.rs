use std::io::{Read, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use regex_lite::{Captures, Regex};

use crate::session::Session;
use crate::tree::Names;
use crate::watch::{Ended, Watch};

/// A command line as a reader would type it, what it printed on standard output and standard error in
/// the order in which it came, and the exit status where that is not 0.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The command line, then what was printed.
    pub text: String,
    /// What was printed.
    pub printed: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Transcript {
    /// Runs it to its end, with no input.
    ///
    /// # Panics
    /// It leaves a process or a mount behind, or does not start, or does not end.
    pub fn of(watch: Watch) -> Self {
        let (transcript, ended) = Transcript::and_end(watch);
        ended.nothing_left();
        transcript
    }

    /// Runs it to its end, with no input, and says what it left behind too.
    ///
    /// # Panics
    /// It does not start, or does not end.
    pub fn and_end(watch: Watch) -> (Self, Ended) {
        let mut text = format!("$ {}\n", watch.line());
        let (mut reader, writer) = pipe().expect("make a pipe");
        let again = writer.try_clone().expect("one pipe for both streams");
        let watched = watch.start(Stdio::null(), writer.into(), again.into());
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).expect("read what it prints");
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let ended = watched.end();
        text += &printed;
        let status = ended.status;
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => text += &format!("[exit status {code}]\n"),
            (_, Some(signal)) => text += &format!("[killed by signal {signal}]\n"),
            _ => {}
        }
        (Transcript { text, printed, status }, ended)
    }

    /// Starts a shell, or a step that ends up in one, and types the lines into it. A plain shell's prompt is
    /// `$ `; the prompt of a step's shell, which is root in its container, is `# `.
    ///
    /// # Panics
    /// No shell answers.
    pub fn typed(watch: Watch, lines: &[&str]) -> (Self, Ended) {
        let line = watch.line();
        let (mut text, prompt) = match line.as_str() {
            "sh" => (String::new(), '$'),
            step => (format!("$ {step}\n"), '#'),
        };
        let (mut session, before) = Session::merged(watch);
        let mut printed = String::new();
        let mut add = |text: &mut String, answer: String| {
            for line in answer.lines() {
                *text += line;
                text.push('\n');
            }
            printed += &answer;
            printed.push('\n');
        };
        add(&mut text, before);
        for line in lines {
            text += &format!("{prompt} {line}\n");
            let (answer, status) = session.ask_status(line);
            add(&mut text, answer);
            if status != "0" {
                text += &format!("[exit status {status}]\n");
            }
        }
        let (ended, _) = session.end();
        (Transcript { text, printed, status: ended.status }, ended)
    }

    /// The transcript with the host's PIDs renamed by first appearance: each number that a group of one of
    /// the regular expressions finds becomes `HOST_A`, `HOST_B`, …
    ///
    /// # Panics
    /// An expression is none, or finds nothing.
    pub fn renamed(&self, host_pids: &[&str]) -> String {
        let renamed = self.maybe_renamed(host_pids);
        assert_ne!(renamed, self.text, "nothing to rename");
        renamed
    }

    /// The same, where there may be nothing to rename.
    ///
    /// # Panics
    /// An expression is none.
    pub fn maybe_renamed(&self, host_pids: &[&str]) -> String {
        let mut names = Names::default();
        let either = Regex::new(&host_pids.join("|")).expect("a regular expression");
        let replaced = either.replace_all(&self.text, |found: &Captures| {
            let mut text = found[0].to_owned();
            let start = found.get(0).map_or(0, |all| all.start());
            let mut groups: Vec<_> = found.iter().skip(1).flatten().collect();
            groups.sort_by_key(|group| group.start());
            let named: Vec<_> = groups.iter().map(|group| names.of(group.as_str())).collect();
            for (group, name) in groups.iter().zip(named).rev() {
                text.replace_range(group.start() - start..group.end() - start, &name);
            }
            text
        });
        replaced.into_owned()
    }

    /// The numbers that the first group of the regular expression finds in what was printed.
    ///
    /// # Panics
    /// The expression is none, or finds what is no number.
    pub fn numbers(&self, expression: &str) -> Vec<i32> {
        let expression = Regex::new(expression).expect("a regular expression");
        let found = expression.captures_iter(&self.printed);
        found.map(|found| found[1].parse().expect("a number")).collect()
    }
}
