//! Grades a program by the checks of a step.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use harness::procfs::Stat;
use harness::{Caller, Context, Environment, Error, Program, Result, procfs};
use nix::sys::signal::Signal;
use nix::unistd::getpid;
use serde_json::{Value, json};

use crate::checks::{self, AND, Check, CheckFailure};
use crate::hints;
use crate::print::truncate;
use crate::sandbox::target_dir;
use crate::step::Step;
use crate::workspace::{called_as, relative_path};

/// How one check came out.
#[derive(Clone, Debug)]
pub struct Grade {
    /// The check.
    pub check: &'static Check,
    /// Why it failed, if it did.
    pub failure: Option<CheckFailure>,
    /// Whether it passed when the step was graded before.
    pub passed_before: bool,
}

/// How the checks of a step came out, as far as they ran.
#[derive(Clone, Debug, Default)]
pub struct Grades {
    /// Why even the simplest command failed, if it did.
    pub simplest: Option<CheckFailure>,
    /// The checks that ran.
    pub checks: Vec<Grade>,
}

impl Grades {
    /// Returns how many checks passed.
    pub fn passed(&self) -> usize {
        self.checks.len() - self.failed().count()
    }

    /// Lists the checks that failed. Those that passed before come first, because the last change broke them. But if
    /// something is left after many runs, another check shows better why.
    pub fn failed(&self) -> impl Iterator<Item = &Grade> {
        let failed = self.checks.iter().filter(|grade| grade.failure.is_some());
        let is_first = |grade: &&Grade| grade.passed_before && !grade.check.looks_for_leaks();
        let (broken, open): (Vec<_>, Vec<_>) = failed.partition(is_first);
        broken.into_iter().chain(open)
    }

    /// Names the checks that passed.
    pub fn names_of_passed(&self) -> Vec<&'static str> {
        let passed = self.checks.iter().filter(|grade| grade.failure.is_none());
        passed.map(|grade| grade.check.name).collect()
    }

    /// Returns a fifth of a timeout if even the simplest command hangs, because then most checks will wait in vain.
    pub fn shorten(&self, timeout: Duration) -> Duration {
        let hangs = |failure: &CheckFailure| failure.actual.starts_with("a timeout: ");
        if self.simplest.as_ref().is_some_and(hangs) { timeout / 5 } else { timeout }
    }

    /// Returns why even the simplest command failed, if that's why most checks did.
    pub fn cause(&self) -> Option<&CheckFailure> {
        let most_failed = self.failed().count() > self.passed();
        self.simplest.as_ref().filter(|_| most_failed)
    }

    /// Returns the failed check to begin with: one whose hints are about the cause, or else the first.
    pub fn first_to_fix(&self) -> Option<&Grade> {
        self.about_cause().or_else(|| self.failed().next())
    }

    /// Returns the failed check whose hints are about the cause, if there is one.
    pub fn about_cause(&self) -> Option<&Grade> {
        let cause = self.cause()?;
        let is_seen = |error| cause.actual.contains(error);
        self.failed().find(|grade| hints::errors(grade.check.name).any(is_seen))
    }
}

/// Runs the simplest command, on which most checks depend. Returns why it failed, if it did.
///
/// # Errors
/// This machine can have no caller.
pub fn try_simplest(
    step: &Step,
    program: &Path,
    timeout: Duration,
) -> Result<Option<CheckFailure>> {
    let checks = checks::simplest(step).into_iter().collect();
    Ok(grade(step, checks, program, timeout)?.find_map(|grade| grade.failure))
}

/// Returns how long a program may take for an answer here: the time of 150 starts of a small one, but at least five
/// seconds, and at most two minutes.
///
/// # Errors
/// Nothing can be started.
pub fn timeout() -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let start = Instant::now();
        Environment::inherited().supervise::<&str>("true", []).output()?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(timeout_for(slowest))
}

/// Returns the timeout for a machine on which a start takes so long.
pub fn timeout_for(start: Duration) -> Duration {
    (150 * start).clamp(Duration::from_secs(5), Duration::from_secs(120))
}

/// Grades a program for each caller that this machine can have, one check after another, as the iterator is asked. The
/// program is told that its name is the step's.
///
/// # Errors
/// This machine can have no caller.
pub fn grade(
    step: &Step,
    checks: Vec<&'static Check>,
    program: &Path,
    timeout: Duration,
) -> Result<impl Iterator<Item = Grade> + use<>> {
    let grader = Grader::new(step, program, timeout)?;
    Ok(checks.into_iter().map(move |check| grader.grade(check)))
}

/// Does the same, but runs some checks at the same time, because they wait more than they compute. The grades come in
/// the order of the checks. If the iterator is dropped, no other check starts, and those that run come to their end.
///
/// # Errors
/// This machine can have no caller, or no thread can be started.
pub fn grade_all(
    step: &Step,
    checks: Vec<&'static Check>,
    program: &Path,
    timeout: Duration,
) -> Result<impl Iterator<Item = Grade> + use<>> {
    let grader = Arc::new(Grader::new(step, program, timeout)?);
    let jobs = Arc::new(Mutex::new(checks.into_iter().enumerate()));
    let (sender, results) = channel();
    let mut threads = Vec::new();
    for _ in 0..AT_ONCE {
        let (grader, jobs, sender) = (Arc::clone(&grader), Arc::clone(&jobs), sender.clone());
        let next = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = move || {
            while let Some((index, check)) = next() {
                let _ = sender.send((index, grader.grade(check)));
            }
        };
        threads.push(thread::Builder::new().spawn(work).context("start a thread")?);
    }
    Ok(InOrder { results, early: BTreeMap::new(), next: 0, jobs, threads })
}

/// How many checks run at the same time.
const AT_ONCE: usize = 4;

/// How often we look whether a program has stopped the supervisor of another one.
const GLANCE: Duration = Duration::from_millis(200);

/// Continues our children that are stopped. A thread that starts a supervisor waits until it runs, so another one has to
/// do this.
fn continue_children() {
    let is_stopped = |process: &&Stat| process.state == 'T' && process.ppid == getpid().as_raw();
    let processes = procfs::all_processes().unwrap_or_default();
    processes.iter().filter(is_stopped).for_each(|process| process.signal(Signal::SIGCONT));
}

/// The grades of checks that run at the same time.
struct InOrder<Jobs: Iterator> {
    results: Receiver<(usize, Grade)>,
    /// Grades that came before those of earlier checks.
    early: BTreeMap<usize, Grade>,
    next: usize,
    jobs: Arc<Mutex<Jobs>>,
    threads: Vec<JoinHandle<()>>,
}

impl<Jobs: Iterator> Iterator for InOrder<Jobs> {
    type Item = Grade;

    fn next(&mut self) -> Option<Grade> {
        loop {
            if let Some(grade) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(grade);
            }
            match self.results.recv_timeout(GLANCE) {
                Ok(result) => self.early.extend([result]),
                Err(RecvTimeoutError::Timeout) => continue_children(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

impl<Jobs: Iterator> Drop for InOrder<Jobs> {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Runs checks on one program.
struct Grader {
    programs: Vec<Program>,
    /// The name that the program is told.
    name: String,
    /// The words that a learner types instead of that name, at the beginning of a command line and elsewhere.
    recipe: String,
    path: String,
    /// Whether the program's standard error becomes /dev/null, as it does from step 05 on.
    closes_files: bool,
}

impl Grader {
    fn new(step: &Step, program: &Path, timeout: Duration) -> Result<Self> {
        let mut programs = Vec::new();
        for caller in callers(step) {
            let program = Program::new(program, caller)?.named(&step.bin());
            programs.push(program.with_timeout(timeout));
        }
        if programs.is_empty() {
            let message =
                format!("no step can run on this machine; `{} doctor` says why", called_as());
            return Err(Error::new(message));
        }
        let mut path = relative_path(program);
        if !path.contains('/') {
            path.insert_str(0, "./");
        }
        let path = shlex::try_quote(&path).map_or(path.clone(), Cow::into_owned);
        // As root, the learner's own step runs in private mounts only in this way.
        let is_own = target_dir().is_ok_and(|target| program.starts_with(target.join("work")));
        let recipe = if is_own { step.recipe("work") } else { path.clone() };
        Ok(Grader { programs, name: step.bin(), recipe, path, closes_files: step.number >= 5 })
    }

    fn grade(&self, check: &'static Check) -> Grade {
        let failure = self.programs.iter().find_map(|program| {
            let mut failure = check.run(program).err()?;
            if self.closes_files {
                explain_abort(&mut failure);
            }
            failure.command = as_typed(&failure.command, &self.name, &self.recipe, &self.path);
            if self.programs.len() > 1 && program.caller() == Caller::Rootless {
                let is_first = !failure.command.contains(AND);
                failure.command += if is_first { AND } else { ", " };
                failure.command += "as an ordinary user";
            }
            Some(failure)
        });
        Grade { check, failure, passed_before: false }
    }
}

/// Adds the likely reason for a SIGABRT, below the line that reports it.
fn explain_abort(failure: &mut CheckFailure) {
    let lines: Vec<_> = failure.actual.lines().collect();
    let aborts = |line: &&str| line.contains("exit status 134") || line.contains("SIGABRT kills");
    let Some(at) = lines.iter().position(aborts) else { return };
    let reason = [
        "A Rust program aborts if it drops a File whose descriptor is already closed.",
        "Its message went to /dev/null.",
    ];
    failure.actual = [&lines[..=at], &reason, &lines[at + 1..]].concat().join("\n");
}

/// Puts what a learner can type in place of the program's name: `recipe` at the beginning of a command line, and `path`
/// elsewhere.
fn as_typed(command: &str, name: &str, recipe: &str, path: &str) -> String {
    let (line, and) = command.split_at(command.find(AND).unwrap_or(command.len()));
    let line = format!("{line} ");
    let (begin, line) = match line.strip_prefix(&format!("{name} ")) {
        Some(rest) => (format!("{recipe} "), rest),
        None => (String::new(), &*line),
    };
    let line = line.replace(&format!(" {name} "), &format!(" {path} "));
    format!("{}{and}", (begin + &line).trim_end())
}

/// Lists the callers for which this machine can run the step.
pub fn callers(step: &Step) -> Vec<Caller> {
    let can = |caller: &Caller| step.requirements(*caller).iter().all(|need| need.check().is_ok());
    [Caller::Root, Caller::Rootless].into_iter().filter(can).collect()
}

/// Renders grades for a script: `{"step", "passed", "total", "checks": [{"name", "passed", "new", "command",
/// "expected", "actual"}]}`. The last two are cut after some lines. If most checks fail for one reason, `"cause"` has
/// the last three for it.
pub fn report(step: &Step, grades: &Grades) -> Value {
    let reason = |failure: &CheckFailure| {
        json!({
            "command": failure.command,
            "expected": truncate(&failure.expected),
            "actual": truncate(&failure.actual),
        })
    };
    let checks = grades.checks.iter().map(|grade| {
        let mut object = grade.failure.as_ref().map_or(json!({}), reason);
        object["name"] = grade.check.name.into();
        object["passed"] = grade.failure.is_none().into();
        object["new"] = grade.check.is_new_in(step).into();
        object
    });
    let (passed, total) = (grades.passed(), grades.checks.len());
    let checks: Vec<_> = checks.collect();
    let mut report =
        json!({ "step": step.to_string(), "passed": passed, "total": total, "checks": checks });
    if let Some(cause) = grades.cause() {
        report["cause"] = reason(cause);
    }
    report
}
