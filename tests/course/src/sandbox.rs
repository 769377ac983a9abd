//! A copy of the workspace in which steps may be broken.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use harness::cargo::Build;
use harness::{Caller, Context, Program, Result, Transcript};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::patch::{Patch, apply};
use crate::step::Step;
use crate::style::colors_stderr;
use crate::waiting::show_if_slow;
use crate::workspace::root;

/// The copy. All patches share this one, below the target directory, so that cargo builds unpatched packages once.
#[derive(Debug)]
pub struct Sandbox {
    /// The directory that holds the copy.
    pub directory: PathBuf,
    /// The target directory of its builds.
    pub target: PathBuf,
    /// The lock that keeps other processes out of the copy while we use it.
    _lock: Flock<File>,
}

impl Sandbox {
    /// Brings the copy up to date.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn new() -> Result<Self> {
        let target = target_dir()?.join("breaks");
        let directory = target.join("copy");
        fs::create_dir_all(&directory).context(format!("mkdir({})", directory.display()))?;
        let lock = target.join("lock");
        let lock = File::create(&lock).context(format!("create {}", lock.display()))?;
        let wait = || Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let lock = show_if_slow("Waiting until another break or its test is done…", wait);
        let lock = lock.context("flock")?;
        for part in ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "steps", "tests"] {
            mirror(&root()?.join(part), &directory.join(part))?;
        }
        Ok(Sandbox { directory, target, _lock: lock })
    }

    /// Applies a patch. It's taken back when the returned value goes.
    ///
    /// # Errors
    /// The patch doesn't apply.
    pub fn with(&self, patch: &Patch) -> Result<Patched<'_>> {
        let source = patch.step.dir()?;
        let directory = self.step_dir(&patch.step);
        apply(&patch.diff, &directory)?;
        Ok(Patched { sandbox: self, source, step: patch.step.clone() })
    }

    fn step_dir(&self, step: &Step) -> PathBuf {
        self.directory.join("steps").join(step.to_string())
    }

    /// Prepares a build of a step's or another package's tests in the copy.
    pub fn build_test(&self, package: &str, test: &str) -> Build {
        Build::test(&self.directory, package, test).target_dir(&self.target)
    }
}

/// A step with a patch.
#[derive(Debug)]
pub struct Patched<'a> {
    sandbox: &'a Sandbox,
    source: PathBuf,
    step: Step,
}

impl Patched<'_> {
    /// Builds the step.
    ///
    /// # Errors
    /// It doesn't compile.
    pub fn build(&self) -> Result<PathBuf> {
        let build =
            Build::bin(&self.sandbox.directory, Some(&self.step.package()), &self.step.bin());
        build.target_dir(&self.sandbox.target).color(colors_stderr()).without_warnings().run()
    }
}

impl Drop for Patched<'_> {
    /// Takes the patch back, also after an error or a panic, by copying the step once more.
    fn drop(&mut self) {
        let directory = self.sandbox.step_dir(&self.step);
        let _ = mirror(&self.source, &directory);
    }
}

/// Returns cargo's target directory for our own files.
///
/// # Errors
/// We aren't in a checkout.
pub fn target_dir() -> Result<PathBuf> {
    Ok(root()?.join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into())))
}

/// Types a patch's lines into the shell of a scratch host. `program` comes first in its PATH. Host PIDs that the
/// steps print are replaced.
///
/// # Errors
/// The shell doesn't answer.
pub fn demonstrate(patch: &Patch, program: &Path) -> Result<String> {
    let caller = if geteuid().is_root() { Caller::Root } else { Caller::Rootless };
    let program = Program::new(program, caller)?;
    let shell = program.environment().supervise::<&str>("sh", []).on_scratch_host();
    let lines: Vec<_> = patch.lines.iter().map(String::as_str).collect();
    let (transcript, _) = Transcript::type_lines(shell, &lines)?;
    transcript.maybe_redacted(&[r"(?i)\b(?:PID:?|PID is|on the host:) (\d{3,})"])
}

/// Says in a sentence what a patch takes away, if that's all it does. A missing line is easily overlooked.
pub fn missing_lines(before: &str, after: &str) -> Option<String> {
    let is_in = |text: &str, line: &str| text.lines().any(|other| other == line);
    let missing: Vec<_> = before.lines().filter(|line| !is_in(after, line)).collect();
    if missing.is_empty() || after.lines().any(|line| !is_in(before, line)) {
        return None;
    }
    let mut text = format!("Missing now: {}", missing.join("; "));
    if missing.iter().any(|line| line.starts_with("[exit status ")) {
        text += ". The exit status is now 0, but a line [exit status 0] is never printed";
    }
    Some(text + ".")
}

/// Copies every file of `from` that differs in `to`, and removes from `to` the files that `from` doesn't have.
/// Unchanged files keep their times, so that cargo doesn't build them again.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let text = fs::read(from).context(format!("read {}", from.display()))?;
        if fs::read(to).ok().as_ref() != Some(&text) {
            let parent = to.parent().unwrap_or(to);
            fs::create_dir_all(parent).context(format!("mkdir({})", parent.display()))?;
            fs::write(to, text).context(format!("write {}", to.display()))?;
        }
        return Ok(());
    }
    let names = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| PathBuf::from(entry.file_name()));
        // The browser's tests have thousands of files, and need no copy.
        let names = names.filter(|name| !name.ends_with("browser"));
        // An editor's lock is a link to a file that doesn't exist, and needs no copy either.
        names.filter(|name| directory.join(name).exists()).collect()
    };
    for name in names(to).iter().filter(|name| !from.join(name).exists()) {
        let path = to.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.context(format!("remove {}", path.display()))?;
    }
    names(from).iter().try_for_each(|name| match mirror(&from.join(name), &to.join(name)) {
        // An editor's temporary file may be gone by now.
        Err(_) if !from.join(name).exists() => Ok(()),
        result => result,
    })
}
