//! Starters: versions of the steps with TODOs, which learners complete in `work/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use harness::cargo::Build;
use harness::{Context, Error, Result};

use crate::checks;
use crate::patch::apply;
use crate::sandbox::target_dir;
use crate::sources;
use crate::state::{State, fingerprint};
use crate::step::Step;
use crate::style::colors_stderr;
use crate::workspace::{called_as, relative_path, root};

/// The sources with which a learner's version of a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the sources of the step that the first line of `start.patch` names (`From 02-init-pid1`), and with that
    /// patch applied.
    WithStarter,
    /// With the learner's own version of an earlier step.
    WithMine,
}

/// Lays out a step in `directory`: sources and a manifest. If `again` is set, an existing step is moved aside, and this
/// returns its new path. The files are written beside `directory` and renamed at the end, so an error leaves none of
/// them.
///
/// # Errors
/// There's no starter, something is there already, or it can't be written.
pub fn lay_out(
    step: &Step,
    directory: &Path,
    begin: Begin,
    again: bool,
) -> Result<Option<PathBuf>> {
    ensure_writable(step)?;
    let path = relative_path(directory);
    if directory.exists() && !again {
        let mine = if begin == Begin::WithMine { " --from-mine" } else { "" };
        let start = step.recipe("start") + mine;
        let message = format!(
            "{path} already exists: continue with `{}`, or move it aside with `{start} --again`",
            step.recipe("watch")
        );
        return Err(Error::new(message));
    }
    let parent = directory.parent().unwrap_or(directory);
    let new = parent.join(format!(".{}.new", step.label()));
    // An earlier start may have been killed.
    let _ = fs::remove_dir_all(&new);
    let written = match begin {
        Begin::WithStarter => write_starter(step, &new),
        Begin::WithMine => write_copy(&previous(step)?.work_dir()?, &new),
    };
    let result = written.and_then(|()| write_manifest(step, &new)).and_then(|()| {
        let aside = if directory.exists() { Some(move_aside(directory)?) } else { None };
        fs::rename(&new, directory).context(format!("rename {}", relative_path(&new)))?;
        Ok(aside)
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&new);
    }
    result
}

fn move_aside(directory: &Path) -> Result<PathBuf> {
    let free = |number: &u32| !directory.with_extension(number.to_string()).exists();
    let number = (1..).find(free).unwrap_or_default();
    let aside = directory.with_extension(number.to_string());
    fs::rename(directory, &aside).context(format!("rename {}", relative_path(directory)))?;
    Ok(aside)
}

/// Writes a source file, and the directories above it.
fn write(directory: &Path, name: &str, text: &str) -> Result {
    let path = directory.join(name);
    let parent = path.parent().unwrap_or(directory);
    fs::create_dir_all(parent).context(format!("mkdir {}", relative_path(parent)))?;
    fs::write(&path, text).context(format!("write {}", relative_path(&path)))
}

/// Returns the step whose sources a step's starter begins with, and the patch that turns them into the starter.
fn start_patch(step: &Step) -> Result<(Step, String)> {
    let patch = step.dir()?.join("start.patch");
    let patch = fs::read_to_string(&patch).context(format!("read {}", relative_path(&patch)))?;
    let patch = patch.replace("\r\n", "\n");
    let from = patch.lines().next().and_then(|line| line.strip_prefix("From "));
    let from = from.ok_or_else(|| Error::new("start.patch doesn't begin with `From STEP`"))?;
    Ok((from.trim().parse()?, patch))
}

fn write_starter(step: &Step, directory: &Path) -> Result {
    let (from, patch) = start_patch(step)?;
    // The patch was made with the lines that mark where the book cuts, so those go after it.
    write_copy(&from.dir()?, directory)?;
    apply(&patch, directory).map_err(|error| match error {
        Error::Message(_) => Error::new(format!(
            "the starter of step {} doesn't apply to steps/{from}, because you changed it; \
             `git restore steps` undoes your changes",
            step.label()
        )),
        other => other,
    })?;
    let source = directory.join("src");
    sources::read(&source)?.iter().try_for_each(|(name, text)| write(&source, name, text))
}

fn write_copy(from: &Path, directory: &Path) -> Result {
    let sources = sources::read_with_anchors(&from.join("src"))?;
    sources.iter().try_for_each(|(name, text)| write(&directory.join("src"), name, text))
}

fn write_manifest(step: &Step, directory: &Path) -> Result {
    write(directory, "Cargo.toml", &manifest(step)?)?;
    let lock = root()?.join("Cargo.lock");
    if lock.exists() {
        let copy = directory.join("Cargo.lock");
        fs::copy(&lock, &copy).context(format!("copy Cargo.lock to {}", relative_path(&copy)))?;
    }
    Ok(())
}

/// Returns the last step before this one that the learner has begun.
///
/// # Errors
/// There is none.
pub fn previous(step: &Step) -> Result<Step> {
    let is_begun = |other: &Step| other < step && other.work_dir().is_ok_and(|path| path.exists());
    Step::all()?.into_iter().rfind(is_begun).ok_or_else(|| {
        let (label, start) = (step.label(), step.recipe("start"));
        Error::new(format!("you have no step before {label} yet; `{start}` gives you a starter"))
    })
}

/// Says what `start --from-mine` copies, so that a learner can choose. Returns `None` if there's nothing to copy, or if
/// the step doesn't continue the one before.
pub fn own_without_todos(step: &Step) -> Option<String> {
    let (mine, (from, _)) = (previous(step).ok()?.label(), start_patch(step).ok()?);
    (from != *step).then(|| format!("your own step {mine} as it is, without TODOs"))
}

/// Lists the steps that the learner can write: those with checks and a starter.
///
/// # Errors
/// The steps can't be listed.
pub fn steps() -> Result<Vec<Step>> {
    let has_starter = |step: &Step| step.dir().is_ok_and(|path| path.join("start.patch").exists());
    let can = |step: &Step| !checks::for_step(step).is_empty() && has_starter(step);
    Ok(Step::all()?.into_iter().filter(can).collect())
}

/// Returns where the first TODO is, as a path that a terminal can open: `work/02/src/run.rs:19:5`.
pub fn first_todo(directory: &Path) -> Option<String> {
    let found = sources::read(&directory.join("src")).ok()?.into_iter().flat_map(|(name, text)| {
        let path = relative_path(&directory.join("src").join(name));
        let find = move |(index, line): (usize, &str)| {
            let column = line.find("TODO")?;
            let number =
                line[column + 4..].trim_start().split(|c: char| !c.is_ascii_digit()).next();
            let number = number.and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
            Some((number, format!("{path}:{}:{}", index + 1, column + 1)))
        };
        text.lines().enumerate().filter_map(find).collect::<Vec<_>>()
    });
    found.min().map(|(_, place)| place)
}

/// Returns the manifest of a package like the step's, but in no workspace. With another profile than the workspace's,
/// cargo would build the dependencies a second time.
fn manifest(step: &Step) -> Result<String> {
    let workspace = fs::read_to_string(root()?.join("Cargo.toml")).context("read Cargo.toml")?;
    let line = |name: &str| {
        let found = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        found.ok_or_else(|| Error::new(format!("Cargo.toml has no {name}")))
    };
    let own = fs::read_to_string(step.dir()?.join("Cargo.toml")).context("read Cargo.toml")?;
    let (_, dependencies) = own.split_once("\n[dependencies]\n").unwrap_or_default();
    let dependencies = dependencies.lines().map_while(|it| it.strip_suffix(".workspace = true"));
    let dependencies = dependencies.map(line).collect::<Result<Vec<_>>>()?.join("\n");
    Ok(format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [[bin]]\nname = \"{}\"\npath = \"src/main.rs\"\n\n\
         [dependencies]\n{dependencies}\n\n[lints.rust]\nunsafe_code = \"forbid\"\n\n\
         [profile.dev.package.\"*\"]\ndebug = false\n\n[workspace]\n",
        step.package(),
        step.bin(),
    ))
}

/// Builds the learner's version of a step in `directory`, and keeps if it doesn't compile.
///
/// # Errors
/// There's none, or it doesn't compile.
pub fn build(step: &Step, directory: &Path) -> Result<PathBuf> {
    ensure_begun(step, directory)?;
    build_by(Build::run, step, directory).map_err(|error| match error {
        Error::Message(_) => Error::new(format!("{} doesn't compile", relative_path(directory))),
        error => error,
    })
}

/// Does the same, but prints nothing. Also returns the number of the compiler's warnings.
///
/// # Errors
/// There's none, or it doesn't compile; then the message is the compiler's.
pub fn build_quietly(step: &Step, directory: &Path) -> Result<(PathBuf, usize)> {
    ensure_begun(step, directory)?;
    build_by(Build::run_quietly, step, directory)
}

fn build_by<T>(run: fn(Build) -> Result<T>, step: &Step, directory: &Path) -> Result<T> {
    let sources = fingerprint(directory);
    let build = Build::bin(directory, None, &step.bin())
        .target_dir(&target_dir()?.join("work"))
        .build_dir(&target_dir()?)
        .source_prefix(relative_path(directory))
        .color(colors_stderr());
    let (record, now) = (target_dir()?.join("work").join(step.bin() + ".built"), sources.clone());
    let now = format!("{}\n{now}\n", directory.display());
    touch_if_stale(&record, &now, directory);
    let built = run(build);
    match &built {
        Ok(_) => drop(fs::write(record, now)),
        Err(Error::Message(_)) => State::keep_broken(directory, sources)?,
        Err(_) => {}
    }
    built
}

/// Makes cargo build again if its last build was of another directory or of other sources. Cargo wouldn't notice,
/// because it only compares times, and a directory that was moved back has old ones.
fn touch_if_stale(record: &Path, now: &str, directory: &Path) {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let Ok(built) = modified(record) else { return };
    let source = directory.join("src");
    let names = sources::read(&source).unwrap_or_default().into_keys();
    let is_new = |name: String| modified(&source.join(name)).is_ok_and(|time| time > built);
    if fs::read_to_string(record).is_ok_and(|before| before != now)
        && !names.into_iter().any(is_new)
    {
        let main = File::open(source.join("main.rs"));
        let _ = main.and_then(|main| main.set_modified(SystemTime::now()));
    }
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

/// Whether the learner's directory is there.
pub fn is_begun(step: &Step) -> bool {
    step.work_dir().is_ok_and(|directory| ensure_begun(step, &directory).is_ok())
}

/// Checks that the learner has begun.
///
/// # Errors
/// The directory isn't there.
pub fn ensure_begun(step: &Step, directory: &Path) -> Result<()> {
    ensure_writable(step)?;
    let (path, start) = (relative_path(directory), step.recipe("start"));
    match directory.is_dir() {
        true => Ok(()),
        false if directory.exists() => {
            let message = format!("{path} isn't a directory; `{start} --again` moves it aside");
            Err(Error::new(message))
        }
        false => Err(Error::new(format!("{path} doesn't exist; `{start}` creates it"))),
    }
}
