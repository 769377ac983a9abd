//! Patches of a step: `breaks/NAME.patch` takes one lesson out, `exercises/NAME.patch` solves an exercise.
//!
//! The first line is a question. Lines with `$ ` in front follow: what to type to see the answer. A line with
//! `~ ` names a test that notices the break in some runs and not in others. Then comes a patch of the step's
//! directory, for `git apply`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Context, Error, Result};

use crate::step::Step;

/// The purpose of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// It takes one lesson out.
    Break,
    /// It solves an exercise.
    Exercise,
}

impl PatchKind {
    /// Returns the directory, below a step's, that holds such patches.
    pub fn directory(self) -> &'static str {
        match self {
            PatchKind::Break => "breaks",
            PatchKind::Exercise => "exercises",
        }
    }
}

/// A patch of a step.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The step.
    pub step: Step,
    /// Its purpose.
    pub kind: PatchKind,
    /// Its name: `no-private`.
    pub name: String,
    /// The question that asks the learner for a prediction.
    pub question: String,
    /// The command lines that show the answer.
    pub lines: Vec<String>,
    /// Tests that notice it in some runs and not in others.
    pub flaky_tests: Vec<String>,
    /// The patch itself.
    pub diff: String,
}

impl Patch {
    /// Lists a step's patches of one kind, by name.
    ///
    /// # Errors
    /// They can't be read, or one isn't in the form that this module describes.
    pub fn all(step: &Step, kind: PatchKind) -> Result<Vec<Self>> {
        let directory = step.dir()?.join(kind.directory());
        let Ok(entries) = fs::read_dir(&directory) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(name) = name.strip_suffix(".patch") else { continue };
            let text = fs::read_to_string(&path).context(format!("read {}", path.display()))?;
            found.push(Patch::parse(step, kind, name, &text)?);
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Returns the name of the snapshot of what it breaks or changes.
    pub fn snapshot(&self) -> String {
        let kind = if self.kind == PatchKind::Break { "" } else { "exercise_" };
        format!("{}_{kind}{}", self.step.label(), self.name.replace('-', "_"))
    }

    fn parse(step: &Step, kind: PatchKind, name: &str, text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::new(format!("{step}/{name}.patch: {reason}"));
        // A checkout may have other line ends than the repository.
        let text = text.replace("\r\n", "\n");
        let split = text.split_once("\n--- ");
        let (head, diff) = split.ok_or_else(|| wrong("no line begins with ---"))?;
        let question = head.lines().next().unwrap_or_default().to_owned();
        if !question.ends_with('?') {
            return Err(wrong("the first line isn't a question"));
        }
        let marked = |mark: &str| -> Vec<String> {
            head.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect()
        };
        let (lines, flaky_tests) = (marked("$ "), marked("~ "));
        if lines.is_empty() {
            return Err(wrong("no line begins with `$ `"));
        }
        let (step, name, diff) = (step.clone(), name.to_owned(), format!("--- {diff}"));
        Ok(Patch { step, kind, name, question, lines, flaky_tests, diff })
    }
}

/// Applies a diff to the files in a directory.
///
/// # Errors
/// Git is missing, or the diff doesn't apply.
pub fn apply(diff: &str, directory: &Path) -> Result<()> {
    let mut git = Command::new("git")
        // Not to the repository around it, whose index knows nothing of these files.
        .env("GIT_DIR", "/nonexistent")
        .args(["apply", "--whitespace=nowarn", "-"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new("this needs git, which isn't in PATH"),
            _ => Error::Call { call: "start git".to_owned(), source: error },
        })?;
    if let Some(mut input) = git.stdin.take() {
        // If git stops reading, it says why.
        let _ = input.write_all(diff.as_bytes());
    }
    let output = git.wait_with_output().context("wait for git")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(format!("the patch doesn't apply in {}: {said}", directory.display())))
}
