//! The proof that the tests test: each patch in `steps/*/breaks` takes one lesson out of its step, and the tests and
//! checks that fail are a snapshot. It builds a lot, so it's part of `just test-breaks`, and not of `cargo test`.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use course::checks::for_step;
use course::grading::{self, grade, grade_all, try_simplest};
use course::patch::{Patch, PatchKind, apply};
use course::sandbox::{Sandbox, demonstrate};
use course::sources;
use course::starter::{self, Begin};
use course::step::Step;
use course::test_support::{remove_comments, todo_patches};
use course::workspace;
use harness::test_support::with_snapshot_settings;
use harness::{Caller, Context, Environment, Error, Requirement, Result, ScratchDir, Supervisor};

/// How long a broken step may take for an answer: eight seconds, or more on a slow machine. Many give none.
fn timeout() -> Result<Duration> {
    Ok(grading::timeout()? * 8 / 5)
}

fn can_test() -> bool {
    Requirement::Caller(Caller::Root).is_met_or_skip()
        && Requirement::Caller(Caller::Rootless).is_met_or_skip()
}

/// The steps to break. COURSE_STEP limits them to one.
fn steps() -> Vec<Step> {
    match env::var("COURSE_STEP") {
        Ok(only) => vec![only.parse().expect("COURSE_STEP is a step")],
        Err(_) => Step::all().expect("steps/"),
    }
}

/// One test, because there's one copy of the workspace.
#[test]
fn patches_break_the_recorded_tests() -> Result {
    if !can_test() {
        return Ok(());
    }
    let sandbox = Sandbox::new()?;
    let mut changed = Vec::new();
    for step in steps() {
        let whole = step.build()?;
        let tests = Tests::build(&sandbox, &step)?;
        let breaks = Patch::all(&step, PatchKind::Break)?;
        assert!(breaks.len() >= 4, "{step}: four to six breaks a step");
        for patch in breaks.iter().chain(&Patch::all(&step, PatchKind::Exercise)?) {
            eprintln!("{step}: {}", patch.name);
            let unbroken = demonstrate(patch, &whole)?;
            let patched = sandbox.with(patch)?;
            let program = patched.build()?;
            let seen = snapshots(patch, &program, &tests, &unbroken)?;
            drop(patched);
            changed.extend(
                seen.into_iter()
                    .filter(|(name, text)| !is_recorded(name, text))
                    .map(|(name, _)| name),
            );
        }
    }
    assert_eq!(changed, Vec::<String>::new(), "not as recorded; see target/breaks/*.log");
    Ok(())
}

/// Names and texts of a patch's snapshots: what its command prints, and for a break also the tests that fail.
fn snapshots(
    patch: &Patch,
    program: &Path,
    tests: &Tests,
    unbroken: &str,
) -> Result<Vec<(String, String)>> {
    let step = &tests.step;
    let mut seen = demonstrate(patch, program)?;
    if recorded(&patch.snapshot()).as_deref() != Some(seen.trim_end()) {
        // Other programs may have delayed a part of it.
        seen = demonstrate(patch, program)?;
    }
    assert_ne!(unbroken, seen, "{step}: {}: nothing changes", patch.name);
    if patch.kind == PatchKind::Exercise {
        return Ok(vec![(patch.snapshot(), seen)]);
    }
    let name = format!("{}_tests", patch.snapshot());
    let failing = failing_tests(patch, program, tests, &recorded(&name).unwrap_or_default())?;
    assert!(!failing.is_empty(), "{step}: {}: no test fails", patch.name);
    Ok(vec![(name, failing), (patch.snapshot(), seen)])
}

/// Names the tests that fail, a line each. On a busy machine, a test can miss the fault because the broken step is slow,
/// or fail because it's too slow itself. So if other tests fail than the recorded ones, this tries again: each recorded
/// test has to fail in one of the tries, and a test that fails in all of them has to be recorded.
fn failing_tests(patch: &Patch, program: &Path, tests: &Tests, recorded: &str) -> Result<String> {
    const TRIES: usize = 3;
    let recorded: BTreeSet<_> = recorded.lines().map(str::to_owned).collect();
    let mut tries = Vec::new();
    loop {
        tries.push(tests.failing(patch, program)?);
        let counts = |test: &&String| {
            recorded.contains(*test) || tries.iter().all(|failing| failing.contains(*test))
        };
        let agreed: BTreeSet<_> = tries.iter().flatten().filter(counts).cloned().collect();
        if agreed == recorded || tries.len() == TRIES {
            return Ok(agreed.into_iter().collect::<Vec<_>>().join("\n"));
        }
        let changed = agreed.symmetric_difference(&recorded).cloned().collect::<Vec<_>>();
        eprintln!("{}: {}: again, because of {}", tests.step, patch.name, changed.join(", "));
    }
}

/// The text of a snapshot's file, or `None` if there's none yet.
fn recorded(name: &str) -> Option<String> {
    let file = workspace::root().ok()?.join(format!("tests/snapshots/breaks__{name}.snap"));
    let text = fs::read_to_string(file).ok()?;
    let (_header, text) = text.strip_prefix("---\n")?.split_once("\n---\n")?;
    Some(text.trim_end().to_owned())
}

/// Compares with the snapshot. All of them are looked at before the test fails for one.
fn is_recorded(name: &str, text: &str) -> bool {
    let assert = std::thread::spawn({
        let (name, text) = (name.to_owned(), text.to_owned());
        move || {
            with_snapshot_settings(|| harness::test_support::insta::assert_snapshot!(name, text));
        }
    });
    assert.join().is_ok()
}

/// The tests that a step has, in the sandbox. They find their program by its path, so one build does for every
/// patch.
struct Tests {
    step: Step,
    timeout: Duration,
    target: PathBuf,
    directory: PathBuf,
    lessons: PathBuf,
    refusals: PathBuf,
}

impl Tests {
    fn build(sandbox: &Sandbox, step: &Step) -> Result<Self> {
        Ok(Tests {
            step: step.clone(),
            timeout: timeout()?,
            target: sandbox.target.clone(),
            directory: sandbox.directory.clone(),
            lessons: sandbox.build_test(&step.package(), &step.test()).run()?,
            refusals: sandbox.build_test("course", "refusals").run()?,
        })
    }

    /// Names the tests and checks that fail.
    fn failing(&self, patch: &Patch, program: &Path) -> Result<Vec<String>> {
        let package = format!("steps/{}", self.step);
        // The checks are looked at one by one.
        let lessons = self.run(&self.lessons, &package, &["--skip=passes_every_check"])?;
        let refusals = self.run(&self.refusals, "tests/course", &[])?;
        let log = self.target.join(format!("{}.log", patch.snapshot()));
        fs::write(&log, format!("{lessons}\n{refusals}")).context("write the log")?;
        let failed = |text: &str, prefix: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix("test "));
            let names = lines.filter_map(|line| line.strip_suffix(" ... FAILED"));
            names.map(|name| format!("{prefix}{name}")).collect()
        };
        let mut failing = [failed(&lessons, ""), failed(&refusals, "refusals::")].concat();
        for grade in grade_all(&self.step, for_step(&self.step), program, self.timeout)? {
            failing.extend(grade.failure.map(|_| format!("checks::{}", grade.check.name)));
        }
        failing.retain(|test| !patch.flaky_tests.contains(test));
        Ok(failing)
    }

    fn run(&self, program: &Path, package: &str, args: &[&str]) -> Result<String> {
        let directory = self.directory.join(package);
        // More threads than processors: tests of a broken step wait for what doesn't come.
        let args = [&["--test-threads=8"], args].concat();
        let environment = Environment::inherited();
        let tests = Supervisor::new(&environment, program, "tests", args)
            .in_directory(&directory)
            .within(100 * self.timeout)
            .env("CARGO_MANIFEST_DIR", &directory)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("COURSE_STEP", self.step.to_string())
            .env("COURSE_TIMEOUT", self.timeout.as_secs().to_string())
            .env("INSTA_UPDATE", "no")
            .env("INSTA_SNAPSHOT_REFERENCES_FILE", "/dev/null")
            .env("RUST_BACKTRACE", "0");
        let output = tests.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.contains("test result: ") {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("{}: no test ran:\n{text}{errors}", self.step)));
        }
        Ok(text)
    }
}

/// Grades a program. Returns the names of the checks that it passes, and the failures of the others.
fn graded(step: &Step, program: &Path) -> Result<(BTreeSet<&'static str>, String)> {
    let (mut passed, mut failures) = (BTreeSet::new(), String::new());
    for grade in grade_all(step, for_step(step), program, timeout()?)? {
        match grade.failure {
            None => drop(passed.insert(grade.check.name)),
            Some(failure) => failures += &format!("\n{}: {failure}\n", grade.check.name),
        }
    }
    Ok((passed, failures))
}

/// A starter compiles, and lacks its own lesson first. Each of its TODOs, done in order, passes another check, and
/// fails none that passed before. After the last, nothing is missing.
#[test]
fn every_todo_raises_the_score() -> Result {
    if !can_test() {
        return Ok(());
    }
    let directory = ScratchDir::new("starters")?;
    for step in &steps() {
        let work = directory.path().join(step.label());
        starter::lay_out(step, &work, Begin::WithStarter, false)?;
        let (mut before, _) = graded(step, &starter::build(step, &work)?)?;
        let (first, total) = (for_step(step)[0].name, for_step(step).len());
        assert!(!before.contains(first), "{step}: {first} is there already");
        eprintln!("{step}: {} of {total}", before.len());
        let patches = todo_patches(step);
        remove_comments(&work);
        for number in 1..=patches.len() + 1 {
            let program = match patches.get(number - 1) {
                Some(patch) => {
                    apply(patch, &work)?;
                    starter::build(step, &work)?
                }
                None => step.build()?,
            };
            let simplest = try_simplest(step, &program, timeout()?)?;
            assert!(simplest.is_none(), "{step}: TODO {number}: {simplest:?}");
            let (mut now, mut failures) = graded(step, &program)?;
            if !now.is_superset(&before) {
                // Other programs may have delayed an answer beyond its time limit.
                (now, failures) = graded(step, &program)?;
            }
            eprintln!("{step}: TODO {number}: {} of {total}", now.len());
            let lost: Vec<_> = before.difference(&now).collect();
            assert!(lost.is_empty(), "{step}: TODO {number} fails {lost:?}:\n{failures}");
            assert!(now.len() > before.len(), "{step}: no check is for TODO {number}:\n{failures}");
            before = now;
        }
        assert_eq!(before.len(), total, "{step}: a check is for no TODO");
    }
    Ok(())
}

/// Parts of TODOs that are easily left out or written in another way: the step, the file, what is replaced, what replaces
/// it, and the check that must fail.
const WRONG_PARTS: [[&str; 5]; 8] = [
    [
        "05-forward-signals",
        "reap.rs",
        "WaitOptions::NOHANG",
        "WaitOptions::empty()",
        "signal_after_orphan_death_reaches_command",
    ],
    ["05-forward-signals", "reap.rs", "while let", "if let", "reaps_orphans_that_die_together"],
    [
        "05-forward-signals",
        "run.rs",
        "    let old_mask = block_signals()?;
    log(format!(\"run PID: {}\", process::id()));",
        "    log(format!(\"run PID: {}\", process::id()));
    let old_mask = block_signals()?;",
        "no_signal_is_lost_at_startup",
    ],
    ["06-job-control", "signals.rs", "| SIGWINCH =>", "=>", "ctrl_c_reaches_command_once"],
    ["06-job-control", "signals.rs", "| SIGQUIT |", "|", "ctrl_c_reaches_command_once"],
    [
        "06-job-control",
        "run.rs",
        "let _ = kill(pid, Signal::SIGCHLD);",
        "",
        "stopped_command_stops_run",
    ],
    [
        "06-job-control",
        "run.rs",
        "if from_terminal {",
        "if from_terminal && signal != Signal::SIGTSTP {",
        "command_that_ignores_ctrl_z_keeps_terminal",
    ],
    [
        "06-job-control",
        "terminal.rs",
        "foreground.is_ok_and(|group| killpg(group, None) == Err(Errno::ESRCH))",
        "foreground.is_ok_and(|group| killpg(group, None) != Err(Errno::EPERM))",
        "background_run_leaves_terminal_to_shell",
    ],
];

#[test]
fn wrong_parts_fail_their_checks() -> Result {
    if !can_test() {
        return Ok(());
    }
    let directory = ScratchDir::new("wrong")?;
    for [step, file, part, wrong, check] in WRONG_PARTS {
        let step: Step = step.parse()?;
        if !steps().contains(&step) {
            continue;
        }
        let work = directory.path().join(step.label());
        if !work.exists() {
            starter::lay_out(&step, &work, Begin::WithStarter, false)?;
        }
        for (name, text) in sources::read(&step.dir()?.join("src"))? {
            let is_changed = name == file;
            assert!(!is_changed || text.contains(part), "{step}: {file} has no {part}");
            let text = if is_changed { text.replacen(part, wrong, 1) } else { text };
            fs::write(work.join("src").join(&name), text).context(format!("write {name}"))?;
        }
        let program = starter::build(&step, &work)?;
        let checks = for_step(&step).into_iter().filter(|found| found.name == check).collect();
        let failed =
            grade(&step, checks, &program, timeout()?)?.all(|grade| grade.failure.is_some());
        assert!(failed, "{step}: {check} passes with {wrong:?} instead of {part:?}");
    }
    Ok(())
}
