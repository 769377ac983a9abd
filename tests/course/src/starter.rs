//! Where a learner begins: a version of the step with TODOs, in `work/`.

use std::fs;
use std::path::{Path, PathBuf};

use harness::cargo::Build;
use harness::{Context, Error, Result};

use crate::checks;
use crate::patch::apply;
use crate::sandbox::target_dir;
use crate::sources;
use crate::step::Step;
use crate::workspace::{called_as, relative_path, root};

/// Lays out a step's starter in `directory`: the sources of the step that the first line of its `start.patch`
/// names (`From 02-init-pid1`), with that patch applied, and a manifest.
///
/// # Errors
/// There's no starter, something is there already, or it can't be written.
pub fn lay_out(step: &Step, directory: &Path) -> Result<()> {
    ensure_writable(step)?;
    let patch = step.dir()?.join("start.patch");
    let patch = fs::read_to_string(&patch).context(format!("read {}", relative_path(&patch)))?;
    let patch = patch.replace("\r\n", "\n");
    let from = patch.lines().next().and_then(|line| line.strip_prefix("From "));
    let from = from.ok_or_else(|| Error::new("start.patch doesn't begin with `From STEP`"))?;
    let from: Step = from.trim().parse()?;
    if directory.exists() {
        let path = relative_path(directory);
        return Err(Error::new(format!("{path} is there already; --again moves it aside first")));
    }
    let write = |name: &str, text: &str| {
        let path = directory.join("src").join(name);
        fs::create_dir_all(path.parent().unwrap_or(directory)).context("mkdir")?;
        fs::write(&path, text).context(format!("write {}", relative_path(&path)))
    };
    // The patch was made with the lines that mark where the book cuts, so those go after it.
    for (name, text) in sources::read_with_anchors(&from.dir()?.join("src"))? {
        write(&name, &text)?;
    }
    apply(&patch, directory, &[])?;
    for (name, text) in sources::read(&directory.join("src"))? {
        write(&name, &text)?;
    }
    fs::write(directory.join("Cargo.toml"), manifest(step)?).context("write Cargo.toml")?;
    fs::copy(root()?.join("Cargo.lock"), directory.join("Cargo.lock"))
        .context("copy Cargo.lock")?;
    Ok(())
}

/// Returns the manifest of a package like the step's, but in no workspace.
fn manifest(step: &Step) -> Result<String> {
    let workspace = fs::read_to_string(root()?.join("Cargo.toml")).context("read Cargo.toml")?;
    let line = |name: &str| {
        let found = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        found.ok_or_else(|| Error::new(format!("Cargo.toml has no {name}")))
    };
    Ok(format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [[bin]]\nname = \"{}\"\npath = \"src/main.rs\"\n\n\
         [dependencies]\n{}\n{}\n\n[lints.rust]\nunsafe_code = \"forbid\"\n\n[workspace]\n",
        step.package(),
        step.bin(),
        line("clap")?,
        line("nix")?,
    ))
}

/// Builds the learner's version of a step in `directory`.
///
/// # Errors
/// There's none, or it doesn't compile.
pub fn build(step: &Step, directory: &Path) -> Result<PathBuf> {
    ensure_begun(step, directory)?;
    Build::bin(directory, None, &step.bin())
        .target_dir(&target_dir()?.join("work"))
        .source_prefix(&relative_path(directory))
        .run()
        .map_err(|error| match error {
            Error::Message(_) => {
                Error::new(format!("{} doesn't compile", relative_path(directory)))
            }
            other => other,
        })
}

/// Checks that there's something to write in this step.
fn ensure_writable(step: &Step) -> Result<()> {
    if checks::for_step(step).is_empty() {
        let (label, called_as) = (step.label(), called_as());
        let message = format!("step {label} has no exercise; begin with `{called_as} start 02`");
        return Err(Error::new(message));
    }
    Ok(())
}

/// Checks that the learner has begun.
///
/// # Errors
/// The directory isn't there.
pub fn ensure_begun(step: &Step, directory: &Path) -> Result<()> {
    ensure_writable(step)?;
    if !directory.exists() {
        let (path, label) = (relative_path(directory), step.label());
        let message = format!("{path} isn't there; `{} start {label}` creates it", called_as());
        return Err(Error::new(message));
    }
    Ok(())
}
