//! Commands that take a lesson out of a step.

use std::path::PathBuf;
use std::process::ExitCode;

use harness::cargo::cargo;
use harness::{Caller, Context, Error, Requirement, Result};

use crate::diff;
use crate::patch::{Patch, PatchKind};
use crate::print::{print, print_next, wrap};
use crate::sandbox::{Sandbox, demonstrate, missing_lines};
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::show_if_slow;
use crate::workspace::root;

/// Lists a step's breaks, or shows what one of them breaks.
///
/// # Errors
/// There's no such break, or the step doesn't build or answer.
pub fn break_step(step: &Step, name: Option<&str>) -> Result {
    let patches = Patch::all(step, PatchKind::Break)?;
    let Some(name) = name else {
        for patch in &patches {
            let name = paint(Style::Bold, &patch.name);
            print(format!("{name}\n{}\n", wrap("    ", &patch.question)))?;
        }
        let first = patches.first().map_or("NAME", |patch| &patch.name);
        let recipe = step.recipe("break");
        print_next(format!("pick one, predict what happens, and see: {recipe} {first}"))?;
        return Ok(());
    };
    // Tests are called no_private, and breaks no-private.
    let name = name.replace('_', "-");
    let names: Vec<_> = patches.iter().map(|patch| patch.name.as_str()).collect();
    let patch = patches.iter().find(|patch| patch.name == name).ok_or_else(|| {
        Error::new(format!("{step} has no break {name:?}; it has: {}", names.join(", ")))
    })?;
    let question = wrap("", &patch.question);
    print(format!("{}\n\n{}\n", paint(Style::Bold, &question), diff::paint(&patch.diff)))?;
    let show = |program: PathBuf| show_if_slow("Running it…", || demonstrate(patch, &program));
    let before = show(step.build()?)?;
    let safe = "Both versions run on a scratch host, which keeps damage away from your machine.";
    print(format!("{}\n\nAs it is:\n\n{before}\n", wrap("", safe)))?;
    let sandbox = Sandbox::new()?;
    let after = show(sandbox.with(patch)?.build()?)?;
    print(format!("Broken:\n\n{after}"))?;
    if let Some(missing) = missing_lines(&before, &after) {
        print(format!("\n{missing}\n"))?;
    }
    if patches.len() > 1 {
        print_next(format!("{}, which lists the others", step.recipe("break")))?;
    }
    Ok(())
}

/// Runs the tests that apply each break and see which tests fail.
///
/// # Errors
/// This machine can't run the tests as root and as an ordinary user, or cargo doesn't start.
pub fn test_breaks(step: Option<&Step>) -> Result<ExitCode> {
    // Some breaks fail only root's tests or only an ordinary user's.
    for caller in [Caller::Root, Caller::Rootless] {
        let requirement = Requirement::Caller(caller);
        let refused = |reason| Error::new(format!("test-breaks needs {requirement}: {reason}"));
        requirement.check().map_err(refused)?;
    }
    let mut cargo = cargo();
    cargo.args(["test", "--package", "course", "--test", "breaks", "--"]);
    cargo.args(["--nocapture", "--test-threads=1"]).current_dir(root()?);
    if let Some(step) = step {
        cargo.env("COURSE_STEP", step.to_string());
    }
    let status = cargo.status().context("start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
