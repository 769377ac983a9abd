//! For tests only: helpers that panic, as `assert!` does.

mod checkout;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use harness::{Caller, Environment, ProcessTree, Program, Requirement, Result, diagram};

use crate::checks;
use crate::sources;
use crate::step::Step;
use crate::workspace::root;

pub use checkout::{Checkout, STEP, course, manifest};

/// How long a test waits for an answer. Only one that hangs waits so long, so this is for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the program once for each caller that this machine can have, so that a test does the same for both
/// and holds both against the same snapshot. A step that mounts a procfs needs a caller who can.
///
/// Panics if COURSE_REQUIRE names a caller that this machine lacks.
#[track_caller]
pub fn programs_for_each_caller(path: impl AsRef<Path>) -> Vec<Program> {
    let path = path.as_ref();
    let step = step_at(path);
    let needs = |caller| match &step {
        Some(step) => step.requirements(caller),
        None => vec![Requirement::Caller(caller)],
    };
    let can = |caller: &Caller| needs(*caller).iter().all(Requirement::is_met_or_skip);
    let callers = [Caller::Root, Caller::Rootless].into_iter().filter(can);
    callers.map(|caller| program(path, caller)).collect()
}

/// Returns the step whose program is at `path`, if it's a step's.
fn step_at(path: &Path) -> Option<Step> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Returns a program for one caller.
#[track_caller]
pub fn program(path: impl AsRef<Path>, caller: Caller) -> Program {
    let program = Program::new(path.as_ref(), caller).expect("a program and a place for it");
    program.with_timeout(patience())
}

/// Returns the test's own surroundings.
pub fn environment() -> Environment {
    let mut environment = Environment::inherited();
    environment.timeout = patience();
    environment
}

/// COURSE_TIMEOUT sets another number of seconds, for tests that are expected to hang.
fn patience() -> Duration {
    let seconds = env::var("COURSE_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// Draws a tree before the process at the top started anything, as `argv`, and now.
pub fn shell_diagram(caption: &str, tree: &ProcessTree, argv: &[&str]) -> String {
    let before = tree.before(argv.iter().copied());
    diagram(caption, &[("before", &before), ("while the shell runs", tree)])
}

/// Builds the step with this number, once for all tests of a program. A step's own test has its program already.
#[track_caller]
pub fn step_program(number: u32) -> PathBuf {
    static BUILT: Mutex<BTreeMap<u32, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || {
        let step: Step = number.to_string().parse().expect("a step");
        step.build().expect("the step builds")
    };
    built.entry(number).or_insert_with(build).clone()
}

/// Asserts that the program passes every check of its step, for every caller.
#[track_caller]
pub fn assert_checks_pass(path: impl AsRef<Path>) {
    let checks = checks::for_step(&step_at(path.as_ref()).expect("the path of a step's program"));
    let programs = programs_for_each_caller(&path);
    let jobs = checks.iter().flat_map(|check| programs.iter().map(move |program| (check, program)));
    let (jobs, failures) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().expect("no other thread panics").next();
    // Checks wait more than they compute.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((check, program)) = next() {
                    if let Err(failure) = check.run(program) {
                        let line = format!("{} as {:?}: {failure}", check.name, program.caller());
                        failures.lock().expect("no other thread panics").push(line);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Calls the function with every item at the same time, because the calls mostly wait.
///
/// # Errors
/// As for the first that fails.
#[track_caller]
pub fn in_parallel<T: Send>(
    cases: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> Result + Sync,
) -> Result {
    thread::scope(|scope| {
        let run = &run;
        let cases = cases.into_iter().map(|case| scope.spawn(move || run(case)));
        let cases: Vec<_> = cases.collect();
        cases
            .into_iter()
            .try_for_each(|case| case.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Lists the patches in a step's `todos/`, in the order of work. Each does what a TODO asks for, in a starter without
/// its comments. There's none for the last TODO, because the step is finished after it.
#[track_caller]
pub fn todo_patches(step: &Step) -> Vec<String> {
    let directory = format!("steps/{step}/todos");
    let names = names_in(&directory);
    let numbers: Vec<_> = (1..=names.len()).map(|number| format!("{number}.patch")).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), numbers, "{directory}");
    numbers.iter().map(|name| read(&format!("{directory}/{name}"))).collect()
}

/// Takes the comments out of a step's sources, so that patches of the code don't depend on them. Those that clap shows
/// in `main.rs` stay.
#[track_caller]
pub fn remove_comments(directory: &Path) {
    let source = directory.join("src");
    for (name, text) in sources::read(&source).expect("sources") {
        let is_code = |line: &&str| {
            let line = line.trim_start();
            !line.starts_with("//") || name == "main.rs" && line.starts_with("///")
        };
        let code: String = text.split_inclusive('\n').filter(is_code).collect();
        fs::write(source.join(&name), code.trim_start()).expect("write a source");
    }
}

/// Reads a file of the repository.
#[track_caller]
pub fn read(path: &str) -> String {
    let root = root().expect("a checkout");
    let text =
        fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    // A checkout may have other line ends.
    text.replace("\r\n", "\n")
}

/// Lists the names in a directory of the repository. A snapshot that a failed test left for review is none.
#[track_caller]
pub fn names_in(directory: &str) -> BTreeSet<String> {
    let root = root().expect("a checkout");
    let entries = fs::read_dir(root.join(directory));
    let entries = entries.unwrap_or_else(|error| panic!("{directory}: {error}")).flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".snap.new") && !name.ends_with(".pending-snap")).collect()
}
