use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directory of the workspace: the parent of `steps/`.
pub fn root() -> &'static Path {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.ancestors().nth(2).expect("tests/lab is two levels down")
}

/// The steps' names, `01-exec-vs-command` and on, in their order.
///
/// # Errors
/// `steps/` cannot be read.
pub fn steps() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("steps")).context("read steps/")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The step that a learner means by `02`, `2` or its name.
///
/// # Errors
/// There is no such step; the message lists those that there are.
pub fn step_named(word: &str) -> Result<String> {
    let steps = steps()?;
    let number = |name: &str| name.split('-').next().and_then(|number| number.parse::<u32>().ok());
    let found = steps.iter().find(|name| *name == word || number(name) == word.parse().ok());
    match found {
        Some(name) => Ok(name.clone()),
        None => bail!("there is no step {word:?}; the steps are: {}", steps.join(", ")),
    }
}

/// Builds a program of the workspace, as it stands, and says where it is. Cargo decides whether there
/// is something to do, so that what is run is never older than its source.
///
/// # Errors
/// Cargo is missing, or the program does not compile.
pub fn build(package: &str, program: &str) -> Result<PathBuf> {
    let built = escargot::CargoBuild::new()
        .manifest_path(root().join("Cargo.toml"))
        .package(package)
        .bin(program)
        .run()
        .with_context(|| format!("build {program}"))?;
    Ok(built.path().to_owned())
}

/// The same, optimized, as it would be installed.
///
/// # Errors
/// Cargo is missing, or the program does not compile.
pub fn build_release(package: &str, program: &str) -> Result<PathBuf> {
    let built = escargot::CargoBuild::new()
        .manifest_path(root().join("Cargo.toml"))
        .package(package)
        .bin(program)
        .release()
        .run()
        .with_context(|| format!("build {program}"))?;
    Ok(built.path().to_owned())
}
