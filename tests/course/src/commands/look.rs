//! Commands that show something: the steps, a tree, a diff, this machine.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use harness::cargo::Build;
use harness::{Environment, Error, ProcessTree, Requirement, Result, Session, Supervisor, procfs};

use crate::print::{print, suggest};
use crate::step::Step;
use crate::workspace::{called_as, root};
use crate::{diff as diffs, doctor as doctors};

/// Lists the steps.
///
/// # Errors
/// They can't be read.
pub fn list() -> Result {
    for step in Step::all()? {
        print(format!("{}  {}\n", step.label(), step.name.replace('-', " ")))?;
    }
    suggest(format!("{} tree 01", called_as()))
}

/// The option with which a step passes on its standard input, under all its names.
const INTERACTIVE: [&str; 6] = ["--ti", "--it", "-ti", "-it", "-t", "-i"];

/// Starts a step that ends up in a shell, and shows its process tree.
///
/// # Errors
/// It doesn't build or start, or no shell answers.
pub fn tree(step: &Step, args: Vec<OsString>) -> Result {
    let words = |shell: Vec<&str>| shell.into_iter().map(OsString::from).collect();
    let mut lines = vec![args];
    if lines[0].is_empty() {
        lines = step.shells().into_iter().map(words).collect();
    }
    // Without the option, the command reads /dev/null, so no shell could answer.
    let is_interactive = |word: &OsString| INTERACTIVE.iter().any(|option| word == option);
    if step.has_container() && lines.iter().any(|line| !line.iter().any(is_interactive)) {
        let tree = step.recipe("tree");
        return Err(Error::new(format!(
            "the tree is that of a shell in the container, so type {tree} run --ti sh"
        )));
    }
    let program = step.build()?;
    let environment = Environment::inherited();
    for (index, line) in lines.into_iter().enumerate() {
        let supervisor = Supervisor::new(&environment, &program, &step.bin(), line);
        let gap = if index == 0 { "" } else { "\n" };
        // First, because the step prints something, too.
        print(format!("{gap}$ {}\n", supervisor.command_line()))?;
        let session = Session::start_inheriting_stderr(supervisor)?;
        let tree = session.tree()?.text();
        session.end()?;
        print(tree)?;
    }
    suggest(step.recipe("slow"))
}

/// Shows what a step adds to another one.
///
/// # Errors
/// The sources can't be read.
pub fn diff(old: &Step, new: &Step) -> Result {
    if old == new {
        return Err(Error::new(format!(
            "{old} is the same step as {new}; compare it with another"
        )));
    }
    print(diffs::paint(&diffs::between_steps(old, new)?))?;
    suggest(new.recipe("slow"))
}

/// Says what this machine can do for the course.
///
/// # Errors
/// The report can't be written.
pub fn doctor(json: bool) -> Result<ExitCode> {
    let report = doctors::examine();
    print(if json { format!("{:#}\n", report.json()) } else { report.text() })?;
    if !json {
        // A report for an issue needs no next step.
        suggest(report.next())?;
    }
    Ok(if report.all_steps() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Weighs `run` and `init` while they wait for a command, and tini.
///
/// # Errors
/// A step doesn't build or start.
pub fn memory() -> Result {
    let mut text = format!("{:<24}{:<8}{:>8}{:>10}\n", "", "", "PSS KiB", "private");
    for step in Step::all()?.into_iter().filter(Step::mounts_procfs) {
        let build = Build::bin(&root()?, Some(&step.package()), &step.bin());
        let program = build.release().run()?;
        let command = ["run", "--ti", "sh", "-c", "echo ready; read line"];
        let mut rows = weigh(&program, &step, &command)?;
        if rows.len() < 2 && Requirement::Tool("tini").check().is_ok() {
            // Here `init` has become the command, and leaves the waiting to whatever that is.
            let command = [&["run", "--ti", "tini", "--"], &command[2..]].concat();
            rows = weigh(&program, &step, &command)?;
        }
        for (name, [proportional, private]) in rows {
            text += &format!("{:<24}{name:<8}{proportional:>8}{private:>10}\n", step.to_string());
        }
    }
    print(text)
}

/// Weighs every process but the command itself.
fn weigh(program: &Path, step: &Step, args: &[&str]) -> Result<Vec<(String, [u64; 2])>> {
    let environment = Environment::inherited();
    let supervisor = Supervisor::new(&environment, program, &step.bin(), args);
    let session = Session::ready(supervisor, "ready")?;
    let ProcessTree { root } = session.tree()?;
    let mut rows = vec![("run".to_owned(), procfs::memory(root.pids[0])?)];
    if let Some(init) = root.children.first().filter(|init| !init.children.is_empty()) {
        let is_tini = init.comm == "tini";
        let name = if is_tini { "tini" } else { "init" };
        rows.push((name.to_owned(), procfs::memory(init.pids[0])?));
    }
    session.end()?;
    Ok(rows)
}
