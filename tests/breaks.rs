//! The proof that the tests test: each patch in `steps/*/breaks` takes one lesson out of its step, and the
//! set of tests that fail is a snapshot. Part of `just breaks`, and not of `cargo test`, since it builds.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use insta::assert_snapshot;
use lab::breaks::{Copy, breaks, demonstrate, exercises};
use lab::{Ability, Caller, Session, Step, Transcript, Watch, build, grade, snapshots, steps};
use nix::sys::signal::Signal;
use serde_json::Value;

/// One test for all: they share one copy of the workspace.
#[test]
fn each_break_makes_the_same_tests_fail_and_each_exercise_none() {
    if !(Ability::Root.or_report() && Ability::Userns.or_report()) {
        return;
    }
    let copy = Copy::fresh().expect("a copy of the workspace");
    let (mut broken, mut others) = (0, Vec::new());
    // `just breaks 04`: one step alone.
    let only = std::env::var("LAB_STEP").unwrap_or_default();
    for step in steps().expect("steps/").into_iter().filter(|step| step.starts_with(&only)) {
        let number = &step[..2];
        let whole = build(&format!("step-{step}"), &step).expect("the step builds");
        let tests = copy.build_tests(&step).expect("the tests compile");
        for shown in breaks(&step).expect("the breaks") {
            eprintln!("{step}: {}", shown.name);
            let (seen, mut failing) = copy
                .with(&shown, |copy| {
                    let program = copy.build(&step)?;
                    Ok((demonstrate(&shown, &program), tests.failing(&shown.name)?))
                })
                .unwrap_or_else(|error| panic!("{error:?}"));
            failing.retain(|test| !shown.chance.contains(test));
            let before = demonstrate(&shown, &whole);
            assert_ne!(before, seen, "{step}: {}: nothing to be seen", shown.name);
            assert!(!failing.is_empty(), "{step}: {}: no test fails", shown.name);
            let name = format!("{number}_{}", shown.name.replace('-', "_"));
            let text = format!("{seen}\nThese tests fail:\n{}", failing.join("\n"));
            // All of them are looked at, before the test fails for one.
            if catch_unwind(|| snapshots(|| assert_snapshot!(name.clone(), text))).is_err() {
                // Here too: the files of a CI's machine are gone when somebody asks.
                eprintln!("{}", fs::read_to_string(tests.log(&shown.name)).unwrap_or_default());
                others.push(name);
            }
            broken += 1;
        }
        for shown in exercises(&step).expect("the exercises") {
            eprintln!("{step}: {}", shown.name);
            let seen = copy
                .with(&shown, |copy| Ok(demonstrate(&shown, &copy.build(&step)?)))
                .unwrap_or_else(|error| panic!("{error:?}"));
            assert_ne!(demonstrate(&shown, &whole), seen, "{step}: {}: no change", shown.name);
            let name = format!("{number}_exercise_{}", shown.name.replace('-', "_"));
            snapshots(|| assert_snapshot!(name, seen));
        }
    }
    assert_eq!(others, Vec::<String>::new(), "not as recorded; see target/breaks/*.log");
    let wanted = if only.is_empty() { 4 * steps().expect("steps/").len() } else { 4 };
    assert!(broken >= wanted, "four to six breaks a step");
}

/// A starter compiles, and what it lacks first is the step's own lesson; the finished step lacks nothing.
#[test]
fn each_starter_fails_at_the_first_behaviour_and_each_finished_step_passes_all() {
    if !(Ability::Root.or_report() && Ability::Userns.or_report()) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut graded = 0;
    for step in steps().expect("steps/") {
        if grade::behaviours(&step).is_empty() {
            continue;
        }
        let place = directory.path().join(&step[..2]);
        grade::start(&step, &place).expect("the starter");
        let program = grade::build(&step, &place).expect("the starter compiles");
        let mut grades = grade::grade(&step, &program).expect("grades");
        let first = grades.next().expect("a behaviour");
        assert!(first.broken.is_some(), "{step}: {} is there already", first.behaviour.name);

        let finished = build(&format!("step-{step}"), &step).expect("the step builds");
        for grade in grade::grade(&step, &finished).expect("grades") {
            let name = grade.behaviour.name;
            assert!(grade.broken.is_none(), "{step}: {name}: {:?}", grade.broken);
        }
        graded += 1;
    }
    assert_eq!(graded, steps().expect("steps/").len() - 1, "all but the first");
}

/// What a classroom's scripts rely on.
#[test]
fn the_exit_status_and_the_json_tell_the_same() {
    if !(Ability::Root.or_report() && Ability::Userns.or_report()) {
        return;
    }
    let finished = build("step-02-init-pid1", "02-init-pid1").expect("the step builds");
    for (program, all) in [(finished.as_path(), true), (Path::new("/bin/true"), false)] {
        let output = Command::new(cargo_bin!("lab"))
            .args(["check", "02", "--json", "--bin"])
            .arg(program)
            .output()
            .expect("start the lab");
        assert_eq!(output.status.code(), Some(if all { 0 } else { 1 }));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
        assert_eq!(report["step"], "02-init-pid1");
        assert_eq!(report["passed"] == report["total"], all, "{report:#}");
        let first = &report["behaviours"][0];
        assert_eq!(first["passed"], all);
        assert_eq!(first["seen"].is_string(), !all);
    }
}

/// `lab check 02` of a script, with a second's patience.
fn check(lab: &Step, script: &str) -> Watch {
    let program = lab.directory().join("mine");
    fs::write(&program, script).expect("write the program");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("make it executable");
    let watch = lab.watch(["check", "02", "--bin", &program.to_string_lossy()]);
    // For Cargo, which sees to it that the lab is up to date.
    let names = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"];
    let known = names.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    known.fold(watch.env("LAB_PATIENCE", "1"), |watch, (name, value)| watch.env(name, value))
}

/// A program that nobody knows, as root, where `/` is shared: what it mounts stays inside, and where it does not
/// end it is ended.
#[test]
fn what_is_graded_can_neither_harm_the_host_nor_hold_it_up() {
    if !Ability::Root.or_report() {
        return;
    }
    let lab = Step::new(cargo_bin!("lab"), Caller::Root);
    let script = "#!/bin/sh\nmount -t tmpfs lab /mnt\n[ \"$2\" != echo ] || exec sleep 1000\n";
    let watch = check(&lab, script).on_scratch_host();
    let (said, ended) = Transcript::and_end(watch);
    ended.nothing_left();
    assert_eq!(ended.status.code(), Some(1), "{}", said.printed);
    assert!(said.printed.contains("it did not end (waited for 1 s)\n"), "{}", said.printed);
    assert!(said.printed.ends_with(" of 17 behaviours\n"), "{}", said.printed);
}

/// The program is gone, but a pipe has an end for whoever reads from it only when nobody has it open any more.
#[test]
fn what_is_graded_cannot_hold_it_up_by_what_it_leaves_behind() {
    if !Ability::Root.or_report() {
        return;
    }
    let lab = Step::new(cargo_bin!("lab"), Caller::Root);
    let watch = check(&lab, "#!/bin/sh\n[ \"$2\" != echo ] || sleep 1000 &\n");
    let (said, ended) = Transcript::and_end(watch);
    ended.nothing_left();
    let left =
        "it ended, and left a process behind that had its output still open (waited for 1 s)\n";
    assert!(said.printed.contains(left), "{}", said.printed);
    assert!(said.printed.ends_with(" of 17 behaviours\n"), "{}", said.printed);
}

/// Started by root, it is graded twice: this program does what it should for root alone.
#[test]
fn a_check_by_root_grades_as_an_ordinary_user_too() {
    if !(Ability::Root.or_report() && Ability::Userns.or_report()) {
        return;
    }
    let finished = build("step-02-init-pid1", "02-init-pid1").expect("the step builds");
    let finished = finished.display();
    let script = format!("#!/bin/sh\n[ $(id -u) = 0 ] && exec {finished} \"$@\"\nexit 3\n");
    let lab = Step::new(cargo_bin!("lab"), Caller::Root);
    let said = Transcript::of(check(&lab, &script)).printed;
    assert!(said.contains("02-init-pid1 run echo a b (as an ordinary user)\n"), "{said}");
}

/// Whoever ends it gets the status of that, and has nothing to clear away, though the program under test sleeps on,
/// and an orphan of its with it.
#[test]
fn a_check_that_is_ended_leaves_nothing() {
    if !Ability::Root.or_report() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let lab = Step::new(cargo_bin!("lab"), Caller::Root);
        let temporary = lab.directory().join("temporary");
        fs::create_dir(&temporary).expect("make a directory");
        let watch = check(&lab, "#!/bin/sh\n(sleep 1000 >/dev/null 2>&1 &)\nexec sleep 1000\n");
        let session = Session::ready(
            watch.env("TMPDIR", &temporary),
            "✗ run says who it is and init is pid 1",
        );
        let files = || fs::read_dir(&temporary).expect("read the directory").count();
        assert_eq!(files(), 1, "while it works");
        session.signal(signal);
        let (ended, _) = session.wait();
        assert_eq!(ended.nothing_left().status.code(), Some(128 + signal as i32));
        assert_eq!(files(), 0, "{signal}");
    }
}
