//! Patches that each take one lesson out of a step: `steps/NN-…/breaks/NAME.patch`.
//!
//! Such a file begins with a question to the learner, on one line. Lines that begin with `$ ` follow: what
//! to type to see the answer; and lines that begin with `~ `: a test each that sees the break or not, as the
//! processes happen to run. Then comes a patch of the step's directory, for `git apply`.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use escargot::format::Message;

use crate::step::Caller;
use crate::workspace::{self, root};
use crate::{Step, Transcript};

/// A line of a step that carries a lesson, and its absence.
#[derive(Clone, Debug)]
pub struct Break {
    /// The step's name.
    pub step: String,
    /// The break's name: `no-private`.
    pub name: String,
    /// What the learner is asked to predict.
    pub question: String,
    /// What to type to see it.
    pub lines: Vec<String>,
    /// Tests that see it at some times and not at others.
    pub chance: Vec<String>,
    /// The patch alone.
    pub patch: String,
}

/// The breaks of a step, by their names.
///
/// # Errors
/// They cannot be read, or one is not in the form that this module describes.
pub fn breaks(step: &str) -> Result<Vec<Break>> {
    patches(step, "breaks")
}

/// The exercises of a step that change it, in the same form: a question, what to type, and a patch that is
/// the solution.
///
/// # Errors
/// As for [`breaks`].
pub fn exercises(step: &str) -> Result<Vec<Break>> {
    patches(step, "exercises")
}

fn patches(step: &str, kind: &str) -> Result<Vec<Break>> {
    let directory = root().join("steps").join(step).join(kind);
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(found) };
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("read {stem}.patch"))?;
        found.push(parse(step, stem, &text).with_context(|| format!("{}", path.display()))?);
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn parse(step: &str, name: String, text: &str) -> Result<Break> {
    let (head, patch) = text.split_once("\n--- ").context("no line begins with ---")?;
    let question = head.lines().next().context("no question")?.to_owned();
    if !question.ends_with('?') {
        bail!("the first line is no question: {question:?}");
    }
    let beginning = |mark: &str| -> Vec<String> {
        head.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect()
    };
    let (lines, chance) = (beginning("$ "), beginning("~ "));
    if lines.is_empty() {
        bail!("there is nothing to type");
    }
    let patch = format!("--- {patch}");
    Ok(Break { step: step.to_owned(), name, question, lines, chance, patch })
}

/// A copy of the workspace, in which steps may be broken. There is one, below `target/`, so that Cargo
/// builds what the patches have in common only once.
pub struct Copy {
    directory: PathBuf,
}

impl Copy {
    /// Brings the copy up to date.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn fresh() -> Result<Self> {
        let directory = root().join("target/breaks/copy");
        for part in ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "steps", "tests"] {
            update(&root().join(part), &directory.join(part))?;
        }
        Ok(Copy { directory })
    }

    /// Applies a patch to a step, does the work, and takes the patch back, come what may.
    ///
    /// # Errors
    /// The patch does not apply, or the work failed.
    pub fn with<T>(&self, patch: &Break, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.apply(patch, &[])?;
        let outcome = work(self);
        self.apply(patch, &["--reverse"])?;
        outcome
    }

    fn apply(&self, patch: &Break, options: &[&str]) -> Result<()> {
        let directory = self.directory.join("steps").join(&patch.step);
        apply(&patch.patch, &directory, options)
            .with_context(|| format!("{}/{}.patch", patch.step, patch.name))
    }

    /// Builds a step, as it is in the copy.
    ///
    /// # Errors
    /// It does not compile.
    pub fn build(&self, step: &str) -> Result<PathBuf> {
        let built = escargot::CargoBuild::new()
            .manifest_path(self.directory.join("Cargo.toml"))
            .target_dir(root().join("target/breaks"))
            .package(format!("step-{step}"))
            .bin(step)
            .run()
            .with_context(|| format!("{step} does not compile"))?;
        Ok(built.path().to_owned())
    }

    /// Builds a step's tests, once for all of its patches: a patch changes the program that they start, and
    /// they find it by its path.
    ///
    /// # Errors
    /// They do not compile.
    pub fn build_tests(&self, step: &str) -> Result<Tests> {
        // And all programs that they start: a build beside them would take their time.
        let all = escargot::CargoBuild::new()
            .manifest_path(self.directory.join("Cargo.toml"))
            .target_dir(root().join("target/breaks"))
            .exec()
            .context("build the workspace")?;
        all.into_iter().try_for_each(|message| message.map(drop)).context("build the workspace")?;
        let messages = escargot::CargoBuild::new()
            .manifest_path(self.directory.join("Cargo.toml"))
            .target_dir(root().join("target/breaks"))
            .package(format!("step-{step}"))
            .test(step.replace('-', "_"))
            .exec()
            .with_context(|| format!("build the tests of {step}"))?;
        for message in messages {
            let message = message.with_context(|| format!("build the tests of {step}"))?;
            if let Message::CompilerArtifact(built) = message.decode()?
                && let (Some(program), true) = (built.executable, built.profile.test)
            {
                let directory = self.directory.join("steps").join(step);
                return Ok(Tests {
                    step: step.to_owned(),
                    program: program.into_owned(),
                    directory,
                });
            }
        }
        bail!("{step} has no tests")
    }
}

/// A step's tests, in the copy.
pub struct Tests {
    step: String,
    program: PathBuf,
    directory: PathBuf,
}

impl Tests {
    /// Runs them on the step as it was built last, apart from the host's mounts, and names those that fail, in
    /// the order of the alphabet. What they said is kept, under the break's `name`.
    ///
    /// # Errors
    /// They do not run, or what they said cannot be written.
    pub fn failing(&self, name: &str) -> Result<Vec<String>> {
        let lab = workspace::build("lab", "lab")?;
        let report = tempfile::NamedTempFile::new().context("make a temporary file")?;
        let output = Command::new(lab)
            .args(["subreaper", "--apart", "--report"])
            .arg(report.path())
            .arg("--")
            .arg(self.program.file_name().context("a name")?)
            // More than there are processors: tests of a broken step wait for what does not come.
            .arg("--test-threads=8")
            .env("LAB_PROGRAM", &self.program)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .env("CARGO_TARGET_DIR", root().join("target/breaks"))
            .env("INSTA_UPDATE", "no")
            .env_remove("INSTA_SNAPSHOT_REFERENCES_FILE")
            .env("LAB_PATIENCE", "8")
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
            .context("start the tests")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let log = self.log(name);
        fs::write(&log, &*text).with_context(|| format!("write {}", log.display()))?;
        if !text.contains("test result: ") {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{}: no test ran:\n{text}{errors}", self.step);
        }
        let mut failing: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
            .map(str::to_owned)
            .collect();
        failing.sort();
        Ok(failing)
    }

    /// Where it is kept what they said, for whoever wants to know why a test failed, or did not.
    pub fn log(&self, name: &str) -> PathBuf {
        root().join(format!("target/breaks/{}-{name}.log", &self.step[..2]))
    }
}

/// Applies a patch to the files in a directory.
///
/// # Errors
/// Git is missing, or says that it does not apply.
pub(crate) fn apply(patch: &str, directory: &Path, options: &[&str]) -> Result<()> {
    let mut git = Command::new("git")
        // Not the repository around it: `git apply` would look for the files there.
        .env("GIT_DIR", "/nonexistent")
        .args(["apply", "--whitespace=nowarn"])
        .args(options)
        .arg("-")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start git")?;
    let mut input = git.stdin.take().context("no input")?;
    input.write_all(patch.as_bytes()).context("write to git")?;
    drop(input);
    let output = git.wait_with_output()?;
    if !output.status.success() {
        bail!("does not apply: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Types a break's lines into the shell of a scratch host in whose PATH `program` comes first. Host PIDs
/// that the steps print are renamed.
///
/// # Panics
/// The shell does not answer.
pub fn demonstrate(shown: &Break, program: &Path) -> String {
    let caller = if nix::unistd::geteuid().is_root() { Caller::Root } else { Caller::Rootless };
    let step = Step::new(program, caller);
    let shell = step.watch_other::<&str>("sh", []).on_scratch_host();
    let lines: Vec<_> = shown.lines.iter().map(String::as_str).collect();
    let (transcript, _) = Transcript::typed(shell, &lines);
    transcript.maybe_renamed(&[r"(?i)\b(?:PID:?|on the host:) (\d{3,})"])
}

/// Copies what is newer or other at `from` to `to`, and removes what is not at `from`.
fn update(from: &Path, to: &Path) -> Result<()> {
    let skipped = |path: &Path| path.ends_with("node_modules") || path.ends_with("browser");
    if !from.is_dir() {
        let text = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        // Unchanged files keep their times, and are not built again.
        if fs::read(to).ok().as_ref() != Some(&text) {
            fs::create_dir_all(to.parent().context("a parent")?)?;
            fs::write(to, text).with_context(|| format!("write {}", to.display()))?;
        }
        return Ok(());
    }
    if let Ok(entries) = fs::read_dir(to) {
        for entry in entries {
            let path = entry?.path();
            let origin = from.join(path.file_name().context("a name")?);
            if !origin.exists() {
                if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
            }
        }
    }
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if !skipped(&path) {
            update(&path, &to.join(path.file_name().context("a name")?))?;
        }
    }
    Ok(())
}
