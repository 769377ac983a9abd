//! The learner's hour: begin a step, check it, get a hint, see how far one is, and finish it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use course::checks::{self, Check, CheckFailure};
use course::grading::{Grade, Grades, timeout_for, try_simplest};
use course::state::{State, fingerprint};
use course::step::Step;
use course::test_support::{
    Checkout, course, environment, manifest, programs_for_each_caller, step_program,
};
use course::workspace::root;
use harness::test_support::{require_tools, write_program};
use harness::{Caller, Context, Requirement, Result, ScratchDir, Supervisor, Terminal, Transcript};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use regex_lite::Regex;

const COURSE: &str = env!("CARGO_BIN_EXE_course");

/// A starter for step 02 of a [`Checkout`]: it takes a line out.
const START: &str = "From 01-one\n\n--- a/src/main.rs\n+++ b/src/main.rs\n\
    @@ -3,3 +3,3 @@\n fn main() {\n-    eprintln!(\"said by 01-one\");\n+    // TODO 1: say something.\n\
    \x20    let args: Vec<_> = std::env::args_os().skip(2).collect();\n";

/// A checkout in which the learner's step 02 exits with 3.
fn begun() -> Checkout {
    let checkout = Checkout::new(COURSE);
    checkout.write("work/02/Cargo.toml", &(manifest("02-two") + "[workspace]\n"));
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(3);\n}\n");
    checkout.write("steps/02-two/start.patch", START);
    checkout
}

/// Runs `course arg…`. Returns its output on both streams.
fn said(checkout: &Checkout, args: &[&str]) -> Result<String> {
    Ok(Transcript::run_with_exit(checkout.course(args))?.0.printed)
}

/// Grades a script with `course check 02 arg…`. Returns the output.
fn graded(script: &str, args: &[&str]) -> Result<String> {
    graded_as("02", script, args)
}

/// Does the same for another step.
fn graded_as(step: &str, script: &str, args: &[&str]) -> Result<String> {
    let directory = ScratchDir::new("graded")?;
    let path = directory.path().join("mine").display().to_string();
    write_program(path.as_ref(), script, 0o755);
    let args = [&["check", step, "--bin", &path], args].concat();
    Ok(Transcript::run_with_exit(course(COURSE, &root()?, &args))?.0.printed)
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn start_is_all_or_nothing() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write("steps/02-two/start.patch", START);
    checkout.write("steps/01-one/src/main.rs", "fn main() {} // An exercise.\n");
    let printed = said(&checkout, &["start", "02"])?;
    assert_has(&printed, &["`git restore steps`"]);
    let left: Vec<_> = fs::read_dir(checkout.root.join("work")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    // If it fails, --again leaves the learner's files in place.
    checkout.write("work/02/src/main.rs", "// Mine.\n");
    said(&checkout, &["start", "02", "--again"])?;
    assert!(checkout.root.join("work/02/src/main.rs").exists());
    let printed = said(&checkout, &["start", "02"])?;
    assert_has(
        &printed,
        &["continue with `cargo course watch 02`", "cargo course start 02 --again"],
    );
    Ok(())
}

/// Cargo shows its progress, but not the purpose of the build.
#[test]
fn first_recipe_says_that_it_builds() -> Result {
    // Cargo and pip install just in directories that the callers of the steps may not search.
    if Command::new("just").arg("--version").output().is_err() && !require_tools(&["just"]) {
        return Ok(());
    }
    let scratch = ScratchDir::new("fresh")?;
    let justfile = fs::read_to_string(root()?.join("justfile")).expect("a justfile");
    fs::write(scratch.path().join("justfile"), justfile).expect("write");
    write_program(&scratch.path().join("cargo"), "#!/bin/sh\necho cargo \"$@\"\n", 0o755);
    let path = format!("{}:{}", scratch.path().display(), env::var("PATH").unwrap_or_default());
    let start = || -> Result<String> {
        let just = environment().supervise("just", ["start", "02", "--again"]);
        let just = just.in_directory(scratch.path()).env("PATH", &path);
        Ok(Transcript::run(just.env("CARGO_TARGET_DIR", "builds"))?.printed)
    };
    let says = "Building the course's tool, which takes about a minute the first time\n";
    assert_eq!(start()?, format!("{says}cargo course start 02 --again\n"));
    fs::create_dir_all(scratch.path().join("builds/debug/course")).expect("mkdir");
    assert_eq!(start()?, "cargo course start 02 --again\n");
    Ok(())
}

#[test]
fn start_names_the_first_todo() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write("steps/02-two/start.patch", START);
    let printed = said(&checkout, &["start", "02"])?;
    assert_has(&printed, &["\nNext: open work/02/src/main.rs:4:8,"]);
    Ok(())
}

#[test]
fn start_continues_from_own_step() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write("steps/02-two/start.patch", START);
    let printed = said(&checkout, &["start", "02", "--from-mine"])?;
    assert_has(&printed, &["you have no step before 02"]);
    checkout.write("work/01/src/main.rs", "// Mine.\n");
    let printed = said(&checkout, &["start", "02", "--from-mine"])?;
    let what = "It's your own step 01 as it is, without TODOs.\n";
    assert_has(
        &printed,
        &[what, "\nNext: read \"Write it yourself\" in the chapter, and run cargo"],
    );
    // The diff is the solution.
    assert!(!printed.contains("course diff"), "{printed}");
    let source = fs::read_to_string(checkout.root.join("work/02/src/main.rs"));
    assert_eq!(source.expect("a source"), "// Mine.\n");
    // A starter with the step's own code says that the step has little of the one before.
    checkout.write("steps/02-two/start.patch", &START.replace("From 01-one", "From 02-two"));
    let printed = said(&checkout, &["start", "02", "--from-mine", "--again"])?;
    assert!(!printed.contains("It's your own step 01"), "{printed}");
    Ok(())
}

#[test]
fn rust_analyzer_finds_started_steps() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write(".gitignore", "/work\n/.vscode\n");
    checkout.write(".vscode/settings.json", "{ \"editor.tabSize\": 3 }");
    checkout.write("steps/02-two/start.patch", START);
    said(&checkout, &["start", "02"])?;
    let settings = fs::read_to_string(checkout.root.join(".vscode/settings.json"));
    let settings: serde_json::Value =
        serde_json::from_str(&settings.expect("settings")).expect("JSON");
    let projects = serde_json::json!(["Cargo.toml", "work/02/Cargo.toml"]);
    assert_eq!(settings["rust-analyzer.linkedProjects"], projects);
    assert_eq!(settings["editor.tabSize"], 3);
    // Settings with comments are the learner's to change.
    checkout.write(".vscode/settings.json", "{ // Mine.\n}");
    let printed = said(&checkout, &["start", "02", "--again"])?;
    assert_has(&printed, &["rust-analyzer.linkedProjects", "work/02/Cargo.toml"]);
    // So are settings that aren't UTF-8.
    let latin = b"{ \"window.title\": \"\xfc\" }";
    fs::write(checkout.root.join(".vscode/settings.json"), latin).expect("write");
    said(&checkout, &["start", "02", "--again"])?;
    assert_eq!(fs::read(checkout.root.join(".vscode/settings.json")).expect("read"), latin);
    Ok(())
}

#[test]
fn errors_name_their_path() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write("steps/02-two/start.patch", START);
    checkout.write("work", "In the way.\n");
    let printed = said(&checkout, &["start", "02"])?;
    assert_has(&printed, &["mkdir work/.02.new/src: Not a directory (ENOTDIR)"]);
    Ok(())
}

/// Checks at a terminal type a command line, and the program needn't have the step's name.
#[test]
fn graded_program_may_have_any_name() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    let scratch = ScratchDir::new("it's graded")?;
    let mine = scratch.path().join("mine");
    write_program(&mine, fs::read(step_program(6)).expect("read the step"), 0o755);
    let mine = mine.display().to_string();
    for check in ["fg_after_suspend", "stopped_command", "script_reads"] {
        let args = ["check", "06", check, "--bin", &mine];
        let printed = Transcript::run_with_exit(course(COURSE, &root()?, &args))?.0.printed;
        assert_has(&printed, &["1 of 1 check passed\n"]);
    }
    Ok(())
}

#[test]
fn cut_row_of_a_tree_keeps_its_state() -> Result {
    let script = "#!/bin/sh\n\"$2\" \"$3\" \"$4\" a word that makes the row too wide\n";
    let printed = graded_as("06", script, &["stopped_command"])?;
    let row = printed.lines().find(|line| line.contains("└─")).expect("a tree");
    assert!(row.ends_with("… (stopped)") && row.chars().count() <= 80, "{printed}");
    Ok(())
}

#[test]
fn timeout_scales_with_the_machine() {
    let start = Duration::from_millis;
    assert_eq!(timeout_for(start(5)), Duration::from_secs(5));
    assert_eq!(timeout_for(start(100)), Duration::from_secs(15));
    assert_eq!(timeout_for(start(9000)), Duration::from_secs(120));
}

#[test]
fn timeout_is_called_a_timeout() -> Result {
    let script = "#!/bin/sh\necho up; exec sleep 1000\n";
    let args = ["container_dies", "--timeout", "1"];
    let printed = graded(script, &args)?;
    let killed = "seen:     a timeout: the check killed the program after 1 s\n";
    assert_has(
        &printed,
        &["an answer from the shell within 1 s\n", killed, " printed:\n            up\n"],
    );
    assert!(!printed.contains("signal: 9"), "{printed}");
    // The check names the exit status that it expected.
    let printed = graded_as("04", script, &["ignored_sigchld", "--timeout", "1"])?;
    let tried = "tried:    env --ignore-signal=CHLD ";
    assert_has(&printed, &[tried, "expected: exit status 125\n", killed]);
    Ok(())
}

/// A program that closes its output says why on standard error.
#[test]
fn failure_shows_standard_error() -> Result {
    let printed = graded("#!/bin/sh\necho why >&2\nexit 1\n", &["container_dies"])?;
    assert_has(&printed, &["expected: an answer from the shell\n", " printed:\n            why\n"]);
    Ok(())
}

#[test]
fn processes_called_exe_are_explained() -> Result {
    let printed = graded_as("03", "#!/bin/sh\nprintf ' 1 exe\\n 2 ps\\n'\n", &["ps_shows"])?;
    assert_has(
        &printed,
        &["standard output: 1 exe (started as /proc/self/exe)\n", "\n            2 ps\n"],
    );
    Ok(())
}

#[test]
fn difference_is_marked() -> Result {
    let printed = graded("#!/bin/sh\necho why >&2\nexit 12\n", &["exec_failure"])?;
    let marked = "  expected: exit status 127\n  seen:     exit status 12\n\
        \x20                       ^^\n            standard error: why\n";
    assert_has(&printed, &[marked]);
    let script = "#!/bin/sh\nprintf '%s' \"a b\"\n";
    let printed = graded(script, &["passes_on_exit_status"])?;
    assert_has(
        &printed,
        &["exit status 7\n  seen:     exit status 0\n                        ^\n"],
    );
    // A number is marked as a whole, even if only its digit in the middle differs.
    let printed = graded("#!/bin/sh\nexit 137\n", &["exec_failure"])?;
    assert_has(&printed, &["  seen:     exit status 137\n                        ^^^\n"]);
    // Marks below a line that has to be broken would be at the wrong place.
    let long = "02-init-pid1: init: our parent isn't one that fits into eighty columns, by far";
    let script = format!("#!/bin/sh\n[ $1 = init ] || exit 0\necho \"{long}\" >&2\nexit 125\n");
    let printed = graded(&script, &["init_refuses_other_parents"])?;
    let wanted = "a message on standard error: 02-init-pid1: init: our parent isn't run…";
    assert!(printed.replace("\n            ", " ").contains(wanted), "{printed}");
    assert_has(&printed, &["fits into eighty\n            columns, by far\n"]);
    assert!(!printed.contains('^'), "{printed}");
    Ok(())
}

/// Only lines that one side has are marked, and a marked line that is too wide is broken.
#[test]
fn marked_lines_fit_the_terminal() -> Result {
    if !require_tools(&["unshare", "setpriv"]) {
        return Ok(());
    }
    let fits = |printed: &str| printed.lines().all(|line| line.chars().count() <= 80);
    let message = "02-init-pid1: unshare(CLONE_NEWPID): No space left on device (ENOSPC)";
    for (said, wanted) in [
        ("why", "a message on standard error:"),
        (message, "`hint: …` below the message"),
        (&format!("{message}\nhint: look"), "`hint: …` below the message"),
    ] {
        let script = format!("#!/bin/sh\nprintf '%s\\n' '{said}' >&2\nexit 125\n");
        let printed = graded(&script, &["unshare_failure"])?;
        assert_has(&printed, &[&format!("expected: {wanted}"), "seen:     standard error:\n"]);
        assert!(fits(&printed) && !printed.contains("> "), "{printed}");
    }
    let script = format!("#!/bin/sh\necho a b; echo {}>&2\n", "word ".repeat(30));
    let printed = graded(&script, &["report_their_pids"])?;
    assert_has(&printed, &[" standard error:\n            > word word "]);
    assert!(fits(&printed), "{printed}");
    Ok(())
}

#[test]
fn commands_are_quoted_and_wrapped() -> Result {
    // The path's length decides where the line ends.
    let unbroken = |printed: &str| printed.replace(" \\\n            ", " ");
    let printed = graded("#!/bin/sh\n", &["command_is_pid_1"])?;
    assert_has(&unbroken(&printed), &["/mine run sh -c 'echo $$ $PPID'\n"]);
    let printed = graded("#!/bin/sh\necho unreached\n", &["init_refuses_other_parents"])?;
    let command = "  tried:    unshare --user --map-root-user --pid --fork --mount-proc /";
    let end = "/mine init echo unreached\n";
    assert_has(&unbroken(&printed), &[command, end, "seen:     exit status 0\n"]);
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    // A long script has its meaning in words below it.
    let printed = graded_as("04", "#!/bin/sh\nexit 3\n", &["dead_orphan"])?;
    assert_has(
        &printed,
        &["\n            # an orphan exits: does its PID vanish within two seconds?\n"],
    );
    // The number of runs is that of the check's title.
    let printed = graded("#!/bin/sh\nexit 3\n", &["hundred_runs"])?;
    assert_has(&printed, &["hundred runs, one after the other\n"]);
    // A shell finds the program, whose path is quoted if it needs that.
    let checkout = begun();
    write_program(&checkout.root.join("mine"), "#!/bin/sh\nexit 3\n", 0o755);
    let mine = checkout.root.join("mine").display().to_string();
    let printed = said(&checkout, &["check", "02", "usage_error", "--bin", &mine])?;
    assert_has(&printed, &["  tried:    ./mine --odd\n"]);
    let elsewhere = ScratchDir::new("it's elsewhere")?;
    let mine = elsewhere.path().join("mine");
    write_program(&mine, "#!/bin/sh\nexit 3\n", 0o755);
    let mine = mine.display().to_string();
    let printed = said(&checkout, &["check", "02", "usage_error", "--bin", &mine])?;
    assert_has(&printed, &["  tried:    \"/", "it's elsewhere-"]);
    // The signal that the check sent is in a comment, and the recipe starts the learner's own step.
    let printed = said(&begun(), &["check", "02", "container_dies"])?;
    let tried =
        "  tried:    cargo course work 02 run --ti sh\n            # and SIGKILL to `run`\n";
    assert_has(&printed, &[tried]);
    Ok(())
}

/// A shell that reads the lines of a failure starts the program with the arguments that the check gave it.
#[test]
fn long_commands_can_be_typed() -> Result {
    let scratch = ScratchDir::new("typed")?;
    let log = scratch.path().join("log");
    let program = scratch.path().join("mine").display().to_string();
    let script =
        format!("#!/bin/sh\n[ $1 != init ] || exit 0\nprintf '[%s]' \"$@\" >{log:?}\nexit 1\n");
    write_program(program.as_ref(), &script, 0o755);
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    // In a script, a line may end after a command.
    let broken = Regex::new(r"([;&|])\n +").expect("an expression");
    let joined = |text: String| broken.replace_all(&text, "$1 ").into_owned();
    for (step, check) in [
        ("02", "arguments_arrive"),
        ("04", "dead_orphan"),
        ("04", "orphan_killed"),
        ("04", "orphan_deaths"),
        ("04", "ignored_sigchld"),
        ("05", "signal_to_run"),
        ("05", "each_signal"),
        ("05", "pipe_closed"),
        ("06", "reaches_command_once"),
    ] {
        write_program(&log, "", 0o666);
        let args = ["check", step, check, "--bin", &program];
        let printed = Transcript::run_with_exit(course(COURSE, &root()?, &args))?.0.printed;
        let given = joined(logged());
        let tried = printed
            .split_once("\n  tried:    ")
            .and_then(|(_, rest)| rest.split_once("\n  expected: "));
        let (tried, _) = tried.unwrap_or_else(|| panic!("{check} fails: {printed}"));
        assert!(tried.lines().all(|line| line.chars().count() <= 80), "{tried}");
        write_program(&log, "", 0o666);
        let shell = environment().supervise("sh", ["-c", tried]).in_directory(scratch.path());
        shell.output()?;
        assert!(!given.is_empty(), "{check}");
        assert_eq!(joined(logged()), given, "{check}: {tried}");
    }
    Ok(())
}

#[test]
fn solution_says_when_nothing_differs() -> Result {
    let checkout = begun();
    let ours = fs::read_to_string(checkout.root.join("steps/02-two/src/main.rs")).expect("ours");
    checkout.write("work/02/src/main.rs", &ours);
    let printed = said(&checkout, &["solution", "02"])?;
    assert_has(&printed, &["Your code is the same as ours.\n\nNext: cargo course check 02\n"]);
    Ok(())
}

/// A line of ours would look like a part of the output.
#[test]
fn work_shows_only_output_of_the_step() -> Result {
    let checkout = begun();
    let source = "fn main() {\n    println!(\"said by mine\");\n}\n";
    checkout.write("work/02/src/main.rs", source);
    let mut terminal = Terminal::start(checkout.course(&["work", "02"]))?;
    let before = terminal.expect("said by mine")?;
    assert!(!before.contains("course check"), "{before}");
    let (exit, rest) = terminal.end()?;
    exit.assert_clean();
    assert_eq!(rest.trim(), "");
    Ok(())
}

#[test]
fn progress_says_that_a_score_is_old() -> Result {
    let checkout = begun();
    said(&checkout, &["check", "02"])?;
    let now = said(&checkout, &["progress"])?;
    assert_has(&now, &[" of ", " checks\n"]);
    checkout.write("work/02/src/main.rs", "fn main() {\n    // Changed.\n}\n");
    assert_has(&said(&checkout, &["progress"])?, &["before your last change"]);
    checkout.write("work/02/src/main.rs", "fn main() {\n    nonsense\n}\n");
    let printed = said(&checkout, &["check", "02"])?;
    assert_has(&printed, &["--> work/02/src/main.rs:2:5\n"]);
    let printed = said(&checkout, &["progress"])?;
    assert_has(&printed, &["doesn't compile (before: ", "\nNext: cargo course watch 02\n"]);
    Ok(())
}

#[test]
fn hints_can_be_read_again() -> Result {
    let checkout = begun();
    let hint = |args: &[&str]| said(&checkout, &[&["hint", "02"], args].concat());
    let checked = said(&checkout, &["check", "02"])?;
    assert!(!checked.contains("/proc/self/exe"), "a check spends no hint:\n{checked}");
    let (_, next) = checked.split_once("\nNext: ").expect("a next action");
    let (run, name) = next.trim().split_once(" cargo course hint 02 ").expect("a hint");
    assert_eq!(run.trim(), "cargo course work 02 run true, or for a hint,");
    let first = hint(&[])?;
    assert_has(&first, &["\n  1 of ", "\nNext: change your code, then run"]);
    // A command that is broken into two lines can't be copied.
    assert_has(&first, &[&format!(" cargo course check 02 {name}\n")]);
    assert!(!first.contains("\n  2 of "), "{first}");
    let second = hint(&[name])?;
    assert_has(&second, &["\n  1 of ", "\n  2 of "]);
    let all = hint(&[&name.replace('_', " "), "--all"])?;
    assert_has(&all, &["\n  1 of ", "\n  2 of ", "cargo course solution 02"]);
    let hints = all.split("\nNext: ").next().expect("hints");
    assert!(hints.lines().all(|line| line.chars().count() <= 80), "{all}");
    // A title names its check, too.
    let total = checks::for_step(&"07".parse()?);
    assert!(total.len() > 40);
    for check in total {
        let found = checks::matching(&"07".parse()?, &check.title())?;
        assert_eq!(found.iter().map(|one| one.name).collect::<Vec<_>>(), [check.name]);
    }
    assert_has(&hint(&["leak"])?, &["\n  ctrl_c_leaks_nothing\n  hundred_runs_leak_nothing\n"]);
    assert_has(&hint(&["nonsense"])?, &["has no check", name]);
    Ok(())
}

#[test]
fn check_runs_one_check_by_name() -> Result {
    let printed = graded("#!/bin/sh\nexit 3\n", &["ctrl_c"])?;
    assert_has(&printed, &["✗ Ctrl-C leaks nothing\n", "\n0 of 1 check passed\n", "\nNext: "]);
    assert_eq!(printed.matches("leaks nothing\n").count(), 1, "{printed}");
    let printed = graded("#!/bin/sh\nexit 3\n", &["leak", "--verbose"])?;
    assert_eq!(printed.matches("  expected: ").count(), 3, "{printed}");
    let printed = graded("#!/bin/sh\nexit 3\n", &["leak"])?;
    assert_eq!(printed.matches("  expected: ").count(), 1, "{printed}");
    Ok(())
}

/// With one directory for all builds, which CARGO_TARGET_DIR can name, each checkout still grades its own step.
#[test]
fn checkouts_that_share_builds_grade_their_own() -> Result {
    let [one, other] = [begun(), begun()];
    other.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    for (checkout, status) in [(&one, 3), (&other, 4), (&one, 3)] {
        let check = checkout.course(&["check", "02", "usage_error"]);
        let check = check.env("CARGO_TARGET_DIR", one.root.join("target")).without_timeout();
        let printed = Transcript::run_with_exit(check)?.0.printed;
        assert_has(&printed, &[&format!("  seen:     exit status {status}\n")]);
    }
    Ok(())
}

#[test]
fn failure_blames_code_or_machine() -> Result {
    let script = "#!/bin/sh\necho \"mine: open: no\nhint: run 'just doctor'; it finds out why\" >&2\nexit 125\n";
    let printed = graded(script, &["passes_on_exit_status"])?;
    assert_has(&printed, &["standard error: mine: open: no"]);
    assert!(!printed.contains("just doctor"), "{printed}");
    // If the machine is full, it isn't the code.
    let full =
        Err::<(), _>(std::io::Error::from_raw_os_error(nix::libc::EAGAIN)).context("start sh");
    let failure = CheckFailure::no_answer("sh", &full.expect_err("an error"));
    assert_has(&failure.actual, &["start sh: ", "(EAGAIN)\n", "code isn't the cause"]);
    Ok(())
}

/// The message of an `init` that refuses every parent.
const REFUSAL: &str = "02-init-pid1: init: our parent isn't run: don't start init, use run";

/// If even the simplest command fails, most checks fail for its reason. That's said once, and the hints are those for
/// this reason.
#[test]
fn common_cause_of_failures_comes_first() -> Result {
    let script = format!("#!/bin/sh\necho \"{REFUSAL}\" >&2\nexit 125\n");
    let printed = graded(&script, &[])?;
    let cause = "✗ most checks fail, because even the simplest command does\n  tried:    ";
    assert_has(&printed, &[cause, "\n  expected: exit status 0\n"]);
    // The directory of temporary files decides where lines are broken.
    let unbroken = printed.replace("\\\n", "");
    let unbroken = unbroken.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(&unbroken, &["/mine run true expected: ", "our parent isn't run"]);
    assert_eq!(printed.matches("  tried:    ").count(), 1, "{printed}");
    assert_has(&printed, &["\nNext: cargo course hint 02 init_refuses_other_parents --all"]);
    assert!(graded(&script, &["--verbose"])?.matches("  tried:    ").count() > 10);
    // Checks that were chosen show by themselves why they failed.
    assert!(!graded(&script, &["leak"])?.contains("most checks fail"));
    let json = |script: &str| -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&graded(script, &["--json"])?).expect("JSON"))
    };
    let cause = &json(&script)?["cause"];
    assert_eq!(cause["expected"], "exit status 0");
    assert_has(cause["actual"].as_str().expect("text"), &["exit status 125\n", REFUSAL]);
    assert_eq!(json("#!/bin/sh\n")?["cause"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn hints_are_those_for_the_common_cause() -> Result {
    let checkout = begun();
    let source =
        format!("fn main() {{\n    eprintln!(\"{REFUSAL}\");\n    std::process::exit(125);\n}}\n");
    checkout.write("work/02/src/main.rs", &source);
    let hint = said(&checkout, &["hint", "02"])?;
    assert!(hint.contains("init refuses other parents\n  1 of 3: "), "{hint}");
    let mut terminal = watching(&checkout, "02")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("r")?;
    terminal.expect("✗ most checks fail, because even the simplest command does")?;
    let shown = terminal.expect("[r] again")?;
    let screen = shown.rsplit("\u{1b}[H").next().unwrap_or_default();
    assert_eq!(screen.matches("  tried:    ").count(), 1, "{screen}");
    terminal.send_keys("h")?;
    terminal.expect("init refuses other parents")?;
    terminal.expect("  2 of 3: ")?;
    terminal.send_keys("a")?;
    terminal.expect("✗ most checks fail, because even the simplest command does")?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

#[test]
fn hanging_program_is_graded_faster() -> Result {
    let scratch = ScratchDir::new("hanging")?;
    let program = scratch.path().join("mine");
    write_program(&program, "#!/bin/sh\nexec sleep 1000\n", 0o755);
    let step: Step = "02".parse()?;
    let second = Duration::from_secs(1);
    let simplest = try_simplest(&step, &program, second)?;
    assert!(simplest.is_some());
    assert_eq!(Grades { simplest, checks: Vec::new() }.shorten(5 * second), second);
    assert_eq!(Grades::default().shorten(5 * second), 5 * second);
    Ok(())
}

/// If a container leaves something behind after many runs, a check of one run says why.
#[test]
fn leaks_are_shown_after_their_cause() -> Result {
    let checks = checks::for_step(&"03".parse()?);
    let failure = CheckFailure { command: "run".into(), expected: "a".into(), actual: "b".into() };
    let failed = checks.iter().map(|check| Grade {
        check,
        failure: Some(failure.clone()),
        passed_before: check.name != "mounts_are_private",
    });
    let grades = Grades { simplest: None, checks: failed.collect() };
    let names: Vec<_> = grades.failed().map(|grade| grade.check.name).collect();
    let position = |name| names.iter().position(|it| *it == name).expect("a check");
    let own = position("mounts_are_private");
    assert!(position("passes_on_exit_status") < own, "{names:?}");
    for leaks in ["ctrl_c_leaks_nothing", "hundred_runs_leak_nothing", "killed_runs_leak_nothing"] {
        assert!(own < position(leaks), "{names:?}");
    }
    Ok(())
}

/// The hints for a cause are those of a check that failed, and only if most checks failed.
#[test]
fn cause_of_few_failures_is_ignored() -> Result {
    let [root, user, host, run] = [
        "root_gets_a_pid_namespace",
        "ordinary_user_is_root_inside",
        "init_refuses_to_run_on_the_host",
        "container_dies_with_run",
    ];
    let checks = checks::for_step(&"02".parse()?);
    let failure = CheckFailure {
        command: "run true".to_owned(),
        expected: "exit status 0".to_owned(),
        actual: "02-init-pid1: init: our PID is 7".to_owned(),
    };
    for (failed, has_cause, first) in [
        (&[root, user, host] as &[_], true, Some(host)),
        (&[root, user, run], true, Some(root)),
        (&[root, host], false, Some(root)),
        (&[], false, None),
    ] {
        let named = checks.iter().filter(|check| [root, user, host, run].contains(&check.name));
        let failure_of = |name| failed.contains(&name).then(|| failure.clone());
        let grade = |check: &&'static Check| Grade {
            check,
            failure: failure_of(check.name),
            passed_before: false,
        };
        let grades = Grades { simplest: Some(failure.clone()), checks: named.map(grade).collect() };
        assert_eq!(grades.cause().is_some(), has_cause, "{failed:?}");
        assert_eq!(grades.first_to_fix().map(|grade| grade.check.name), first, "{failed:?}");
    }
    Ok(())
}

/// A check that the last change broke would come first if the cause had no hints.
#[test]
fn changed_mounts_lead_to_hints_about_mounts() -> Result {
    let [own, private, flags] =
        ["command_has_its_own_mounts", "mounts_are_private", "proc_is_nosuid_nodev_noexec"];
    let checks = checks::for_step(&"03".parse()?);
    let failure = CheckFailure {
        command: "run true".to_owned(),
        expected: "the host's mounts don't change".to_owned(),
        actual: format!("{}:\n+ proc at /proc (shared)", checks::MOUNTS_CHANGED),
    };
    for (failed, first) in [(&[own, private, flags][..], own), (&[private, flags], private)] {
        let named = checks.iter().filter(|check| failed.contains(&check.name));
        let grade = |check: &&'static Check| Grade {
            check,
            failure: Some(failure.clone()),
            passed_before: check.name == flags,
        };
        let grades = Grades { simplest: Some(failure.clone()), checks: named.map(grade).collect() };
        assert_eq!(grades.first_to_fix().map(|grade| grade.check.name), Some(first));
    }
    Ok(())
}

/// The other checks failed before, too, so the last change isn't their cause.
#[test]
fn check_that_passed_before_is_shown_first() -> Result {
    let (checkout, _scratch, _) = finished()?;
    checkout.write("work/01/src/main.rs", "fn main() {\n    std::process::exit(3);\n}\n");
    let before = ["exec_becomes_the_program"];
    State::keep_score(&checkout.root.join("work/01"), &before, 6, String::new())?;
    let says = "  This check passed before your last change.\n";
    let first = said(&checkout, &["check", "01"])?;
    assert_has(&first, &["\n\n✗ exec becomes the program\n  tried: ", says]);
    assert_has(&first, &["\nNext: cargo course hint 01 exec_becomes_the_program\n"]);
    let second = said(&checkout, &["check", "01"])?;
    assert_has(&second, &["\n\n✗ command starts a child\n  tried: "]);
    assert!(!second.contains(says), "{second}");
    Ok(())
}

/// The source of a program that becomes another one.
fn becoming(program: &Path) -> String {
    format!(
        "use std::os::unix::process::CommandExt;\nfn main() {{\n\
         let args: Vec<_> = std::env::args_os().collect();\n\
         panic!(\"{{}}\", std::process::Command::new({program:?}).arg0(&args[0]).args(&args[1..]).exec());\n}}\n"
    )
}

/// A checkout in which the learner's program becomes the finished step: the first, because its checks take the least
/// time. Returns its source, too.
fn finished() -> Result<(Checkout, ScratchDir, String)> {
    let checkout = begun();
    let scratch = ScratchDir::new("finished")?;
    let finished = scratch.path().join("01-exec-vs-command");
    write_program(&finished, fs::read(step_program(1)).expect("read the step"), 0o755);
    let source = becoming(&finished);
    checkout.write("work/01/src/main.rs", &source);
    let step = |name: &str| checkout.root.join("steps").join(name);
    fs::rename(step("01-one"), step("01-exec-vs-command")).expect("rename the step");
    checkout.write("steps/01-exec-vs-command/start.patch", START);
    let start = START.replace("From 01-one", "From 01-exec-vs-command");
    checkout.write("steps/02-two/start.patch", &start);
    checkout.write("steps/01-exec-vs-command/Cargo.toml", &manifest("01-exec-vs-command"));
    checkout.write("work/01/Cargo.toml", &(manifest("01-exec-vs-command") + "[workspace]\n"));
    fs::remove_dir_all(checkout.root.join("work/02")).expect("forget a step");
    Ok((checkout, scratch, source))
}

#[test]
fn finished_step_says_what_is_possible() -> Result {
    let (checkout, _scratch, source) = finished()?;
    let step = |name: &str| checkout.root.join("steps").join(name);
    let one = said(&checkout, &["check", "01", "passes_on_exit_status"])?;
    assert_has(&one, &["1 of 1 check passed\n\nNext: cargo course check 01, for all checks\n"]);
    let printed = said(&checkout, &["check", "01"])?;
    let next = "\nNext: cargo course start 02 (or cargo course start 02 --from-mine: your own step";
    assert_has(&printed, &["Step 01 is done.", "\n    cargo course work 01 exec ", next]);
    assert_has(&printed, &["\n      01 as it is, without TODOs)\n", " cargo course break 01 "]);
    assert_has(&said(&checkout, &["solution", "01"])?, &[next]);
    assert_has(&said(&checkout, &["progress"])?, &["✓ all ", "\nNext: cargo course start 02\n"]);
    // The hints can still be read.
    let hints = said(&checkout, &["hint", "01", "--all"])?;
    assert_has(&hints, &["\ncommand starts a child\n  1 of 3: ", next]);
    let mut terminal = watching(&checkout, "01")?;
    terminal.expect("[n] next step")?;
    terminal.send_keys("q")?;
    terminal.expect(next.trim_start())?;
    terminal.end()?.0.assert_clean();
    // A learner who did the second step first goes on with the third, and then with the first.
    let second = checkout.root.join("work/02");
    checkout.write("work/02/src/main.rs", "fn main() {}\n");
    State::keep_score(&second, &["command_starts_a_child"], 1, fingerprint(&second))?;
    checkout.write("work/01/src/main.rs", &(source + "// Changed.\n"));
    checkout.write("steps/03-three/Cargo.toml", &manifest("03-three"));
    checkout.write("steps/03-three/src/main.rs", "fn main() {}\n");
    checkout.write("steps/03-three/start.patch", START);
    assert_has(&said(&checkout, &["progress"])?, &["\nNext: cargo course start 03\n"]);
    fs::remove_dir_all(step("03-three")).expect("remove the step");
    assert_has(&said(&checkout, &["progress"])?, &["\nNext: cargo course watch 01\n"]);
    // Without a third step, all steps are done.
    assert_has(&said(&checkout, &["check", "01"])?, &["All steps are done."]);
    assert_has(&said(&checkout, &["progress"])?, &["every step is done"]);
    Ok(())
}

#[test]
fn color_is_for_terminals() -> Result {
    let checkout = begun();
    let printed = |variables: &[(&str, &str)], args: &[&str]| -> Result<String> {
        let args = [&["diff", "01", "02"], args].concat();
        let mut supervisor = Supervisor::new(&environment(), Path::new(COURSE), "course", &args);
        supervisor =
            supervisor.in_directory(&checkout.root).env("TERM", "xterm").env("NO_COLOR", "");
        for (name, value) in variables {
            supervisor = supervisor.env(name, value);
        }
        let terminal = Terminal::start(supervisor)?;
        Ok(terminal.end()?.1)
    };
    let green = "\u{1b}[32m+";
    assert_has(&printed(&[], &[])?, &[green]);
    for (variables, args) in [
        (&[("NO_COLOR", "1")] as &[_], &[] as &[&str]),
        (&[("TERM", "dumb")], &[]),
        (&[], &["--color", "never"]),
    ] {
        assert!(!printed(variables, args)?.contains('\u{1b}'), "{variables:?} {args:?}");
    }
    assert_has(&said(&checkout, &["diff", "01", "02", "--color", "always"])?, &[green]);
    assert!(!said(&checkout, &["diff", "01", "02"])?.contains('\u{1b}'));
    Ok(())
}

/// Only a terminal gets broken lines. A pipe gets the lines as they are.
#[test]
fn diff_fits_the_terminal() -> Result {
    let checkout = begun();
    let code = format!("    call({});", ["argument"; 12].join(", "));
    let comment = format!("    // {}", ["word"; 17].join(" "));
    let list = "    // - an item of a list\n    // - another item";
    checkout.write(
        "steps/02-two/src/main.rs",
        &format!("fn main() {{\n{code}\n{comment}\n    // and more.\n{list}\n}}\n"),
    );
    let args = ["diff", "01", "02", "--color", "never"];
    assert_has(&said(&checkout, &args)?, &[&format!("\n+{code}\n+{comment}\n")]);
    let supervisor = course(COURSE, &checkout.root, &args).env("TERM", "xterm");
    let supervisor =
        supervisor.wrapped_by(&["sh", "-c", "stty rows 24 cols 80; exec \"$@\"", "sh"]);
    let (_, shown) = Terminal::start(supervisor)?.end()?;
    let shown = shown.replace("\r\n", "\n");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let words = ["word"; 14].join(" ");
    assert_has(
        &shown,
        &[
            "+    call(argument, argument, ",
            "\n+        argument, ",
            &format!("\n+    // {words}\n+    // word word word and more.\n+    // - an item"),
        ],
    );
    Ok(())
}

/// The compiler's messages take the place of cargo's progress bar.
#[test]
fn message_erases_the_progress_bar() -> Result {
    let checkout = begun();
    checkout.write("work/02/src/main.rs", "fn main() {\n    nonsense\n}\n");
    let check = || checkout.course(&["check", "02"]);
    let (_, shown) = Terminal::start(check().env("TERM", "xterm"))?.end()?;
    assert_has(&shown, &["\r\u{1b}[Kerror[E0425]"]);
    let (_, shown) = Terminal::start(check().env("TERM", "dumb"))?.end()?;
    assert!(shown.contains("error[E0425]") && !shown.contains('\u{1b}'), "{shown}");
    let printed = said(&checkout, &["check", "02"])?;
    assert!(printed.contains("error[E0425]") && !printed.contains('\u{1b}'), "{printed}");
    Ok(())
}

#[test]
fn slow_check_shows_a_bar() -> Result {
    let directory = ScratchDir::new("graded")?;
    let path = directory.path().join("mine").display().to_string();
    write_program(path.as_ref(), "#!/bin/sh\nexec sleep 1000\n", 0o755);
    let args = ["check", "02", "ctrl_c", "--timeout", "2", "--bin", &path];
    let supervisor = course(COURSE, &root()?, &args).env("TERM", "xterm");
    let mut terminal = Terminal::start(supervisor)?;
    terminal.expect("░ 0 of 1  Ctrl-C leaks nothing")?;
    terminal.expect("\r\u{1b}[K✗ Ctrl-C leaks nothing")?;
    let (exit, _) = terminal.end()?;
    exit.assert_clean();
    Ok(())
}

/// Grades a fork bomb as each caller. The bomb stops by itself at 4,095 processes, in case the harness doesn't stop it.
#[test]
fn fork_bomb_ends_at_its_limit() -> Result {
    let scratch = ScratchDir::new("bomb")?;
    let log = scratch.path().join("log");
    let grow = format!(
        "grow() {{ echo >>{log:?}; [ $1 = 0 ] || {{ grow $(($1 - 1)) & grow $(($1 - 1)) & wait; }}; exec sleep 60; }}"
    );
    // The second program passes the check as root, so that the ordinary user's bomb is graded, too.
    let step = step_program(2).display().to_string();
    for root in ["".into(), format!("[ $(id -u) != 0 ] || exec {step} \"$@\"\n")] {
        write_program(&log, "", 0o666);
        let script = format!("#!/bin/sh\n{root}{grow}\ngrow 11\n");
        let printed = graded(&script, &["ctrl_c", "--timeout", "120"])?;
        assert_has(&printed, &["it created more than 500 processes, so it was killed"]);
        let processes = fs::read(&log).expect("read the log").len();
        assert!((1..4095).contains(&processes), "{processes}: {printed}");
    }
    // Can this user still start something?
    let alive = graded("#!/bin/sh\nexit 3\n", &["usage_error"])?;
    assert_has(&alive, &["seen:     exit status 3"]);
    Ok(())
}

/// A shell on a terminal that shows the terminal's settings before and after `course watch`.
fn watching(checkout: &Checkout, step: &str) -> Result<Terminal> {
    watching_after(checkout, step, ":")
}

/// Does the same, after a command that prepares the terminal.
fn watching_after(checkout: &Checkout, step: &str, prepare: &str) -> Result<Terminal> {
    watching_with(COURSE, checkout, step, prepare)
}

fn watching_with(course: &str, checkout: &Checkout, step: &str, prepare: &str) -> Result<Terminal> {
    let script = format!("{prepare}; stty -g; \"$0\" watch \"$1\"; echo \"ended: $?\"; stty -g");
    let shell = environment().supervise("sh", ["-c", &script, course, step]);
    let target = checkout.root.join("target");
    let shell = shell.in_directory(&checkout.root).env("CARGO_TARGET_DIR", target);
    Terminal::start(shell.env("CARGO", env!("CARGO")).env("NO_COLOR", "1"))
}

/// Reads the settings as they were before.
fn settings(terminal: &mut Terminal) -> Result<String> {
    Ok(terminal.expect("\n")?.trim().to_owned())
}

#[test]
fn watch_checks_again_on_every_save() -> Result {
    let checkout = begun();
    let mut terminal = watching(&checkout, "02")?;
    let before = settings(&mut terminal)?;
    terminal.expect("✗ run and init report their PIDs")?;
    let shown = terminal.expect("[r] again")?;
    let total = checks::for_step(&"02".parse()?).len();
    assert_has(&shown, &[&format!("checking {total} of {total}: run reports unshare failure…")]);
    assert!(!shown.contains(&format!("checking {} of ", total + 1)), "{shown}");
    terminal.send_keys("r")?;
    terminal.expect("checking 1 of ")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("h")?;
    terminal.expect("  1 of ")?;
    terminal.send_keys("h")?;
    let shown = terminal.expect("  2 of ")?;
    assert!(!shown.contains("all its hints"), "{shown}");
    terminal.send_keys("h")?;
    terminal.expect("These are all its hints. The key d shows our solution.")?;
    // On a single page, Space isn't offered and changes nothing.
    let shown = terminal.expect("[q] quit")?;
    assert!(!shown.contains("[Space]") && !shown.contains("page "), "{shown}");
    assert!(!shown.contains("[h] hint"), "{shown}");
    terminal.expect("\u{1b}[J")?;
    terminal.send_keys(" a")?;
    let shown = terminal.expect("\u{1b}[J")?;
    assert!(shown.contains("[Enter] back") && !shown.contains("all its hints"), "{shown}");
    // Save as editors do: write a new file, and rename it.
    let source = checkout.root.join("work/02/src/main.rs");
    fs::write(source.with_extension("tmp"), "fn main() {\n    nonsense\n}\n").expect("write");
    fs::rename(source.with_extension("tmp"), &source).expect("rename");
    terminal.expect("doesn't compile")?;
    terminal.expect("--> work/02/src/main.rs:2:5")?;
    terminal.expect("[q] quit")?;
    // A key that isn't offered changes nothing.
    terminal.send_keys("a")?;
    terminal.expect("--> work/02/src/main.rs:2:5")?;
    terminal.expect("[q] quit")?;
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    terminal.expect("exit status 4")?;
    terminal.send_keys("d")?;
    terminal.expect("Press d again to see it.")?;
    terminal.send_keys("\rd")?;
    let shown = terminal.expect("Press d again to see it.")?;
    assert!(!shown.contains("+++"), "{shown}");
    terminal.send_keys("d")?;
    terminal.expect("+++ steps/02-two/src/main.rs")?;
    terminal.send_keys("a")?;
    terminal.expect("[Enter] back")?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    let (exit, after) = terminal.end()?;
    exit.assert_clean();
    assert_eq!(after.trim(), before);
    assert_has(&said(&checkout, &["progress"])?, &["02-two"]);
    Ok(())
}

/// The keys of slow motion lead back to `watch`, which then grades a file that was saved meanwhile.
#[test]
fn slow_motion_in_watch_goes_back_to_it() -> Result {
    let checkout = begun();
    let mut terminal = watching(&checkout, "02")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("s")?;
    terminal.expect("slow motion of your work/02: 02-two run /bin/true")?;
    terminal.expect("[q] back to watch ")?;
    // The last frame stays on the screen until Enter.
    terminal.send_keys("c")?;
    terminal.expect("[exit status 3]\r\n[Enter] back to watch ")?;
    terminal.send_keys("\r")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("s")?;
    terminal.expect("[q] back to watch ")?;
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(5);\n}\n");
    terminal.send_keys("q")?;
    let shown = terminal.expect("exit status 5")?;
    assert!(!shown.contains("exit status 4"), "the newest save is graded at once: {shown}");
    terminal.expect("[r] again")?;
    // The key kills a step that makes no call, but `watch` goes on.
    checkout.write("work/02/src/main.rs", "fn main() {\n    loop {}\n}\n");
    terminal.expect("checking 1 of ")?;
    terminal.send_keys("s")?;
    terminal.expect("Waiting for the next call…  [q] end the step ")?;
    terminal.send_keys("q")?;
    terminal.expect("watching work/02")?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// In slow motion, Ctrl-C leads back to `watch`, and there it ends `watch`.
#[test]
fn ctrl_c_in_slow_motion_goes_back_to_watch() -> Result {
    let checkout = begun();
    // Ctrl-C goes to the shell as well, which should go on.
    let mut terminal = watching_after(&checkout, "02", "trap : INT")?;
    let before = settings(&mut terminal)?;
    terminal.expect("[r] again")?;
    for to_the_end in [false, true] {
        terminal.send_keys("s")?;
        terminal.expect("[q] back to watch ")?;
        if to_the_end {
            terminal.send_keys("c")?;
            terminal.expect("[Enter] back to watch ")?;
        }
        terminal.send_keys("\u{3}")?;
        terminal.expect("[r] again")?;
        // The shell, the process that cleans up, and the worker.
        terminal.wait_for_tree(|tree| tree.processes().len() == 3)?;
    }
    // It ends a step that makes no call, too.
    checkout.write("work/02/src/main.rs", "fn main() {\n    loop {}\n}\n");
    terminal.expect("checking 1 of ")?;
    terminal.send_keys("s")?;
    terminal.expect("Waiting for the next call…  [q] end the step ")?;
    terminal.send_keys("\u{3}")?;
    terminal.expect("watching work/02")?;
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    terminal.expect("exit status 4")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("\u{3}")?;
    terminal.expect("ended: 130\r\n")?;
    let (exit, after) = terminal.end()?;
    exit.assert_clean();
    assert_eq!(after.trim(), before);
    Ok(())
}

/// A page fits 80 columns and 24 lines, and the first page begins with the first error.
#[test]
fn watch_shows_long_errors_in_pages() -> Result {
    let checkout = begun();
    let line = "    a_name_that_nothing_has(\"the same long argument in each line\");\n";
    checkout.write("work/02/src/main.rs", &format!("fn main() {{\n{}}}\n", line.repeat(9)));
    let mut terminal = watching(&checkout, "02")?;
    terminal.expect("doesn't compile")?;
    let page = terminal.expect("[q] quit")?;
    assert_has(&page, &["main.rs:2:5", "page 1 of 3  [Space] next page"]);
    assert!(page.trim().lines().count() < 24 && !page.contains("main.rs:10:5"), "{page}");
    terminal.send_keys(" ")?;
    let page = terminal.expect("[q] quit")?;
    assert!(page.trim().lines().count() < 24 && !page.contains("main.rs:2:5"), "{page}");
    assert_has(&page, &["page 2 of 3  [Space] next page"]);
    terminal.send_keys(" ")?;
    terminal.expect("page 3 of 3  [Space] first page")?;
    terminal.send_keys(" ")?;
    terminal.expect("page 1 of 3")?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// `watch` goes on if the step's directory is moved aside, as `start --again` does.
#[test]
fn watch_outlives_a_removed_step() -> Result {
    let checkout = begun();
    let mut terminal = watching(&checkout, "02")?;
    terminal.expect("[r] again")?;
    let [own, aside] = ["02", "02.1"].map(|name| checkout.root.join("work").join(name));
    fs::rename(&own, &aside).expect("rename");
    terminal.expect("isn't there")?;
    terminal.expect("work/02 doesn't exist; `cargo course start 02` creates it")?;
    terminal.send_keys("dd")?;
    terminal.expect("read work/02/src: No such file or directory (ENOENT)")?;
    // `watch` has to notice saves in the new directory, too.
    for name in ["src/main.rs", "Cargo.toml"] {
        let text = fs::read_to_string(aside.join(name)).expect("a source");
        checkout.write(&format!(".02.new/{name}"), &text);
    }
    fs::rename(checkout.root.join(".02.new"), &own).expect("rename");
    terminal.expect("exit status 3")?;
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    terminal.expect("exit status 4")?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// Cargo replaces the tool's file even while the tool runs.
#[test]
fn watch_goes_on_when_the_tool_is_built_again() -> Result {
    if programs_for_each_caller(step_program(2)).is_empty() {
        return Ok(());
    }
    let checkout = begun();
    let scratch = ScratchDir::new("tool")?;
    let finished = scratch.path().join("02-init-pid1");
    write_program(&finished, fs::read(step_program(2)).expect("read the step"), 0o755);
    checkout.write("work/02/src/main.rs", &becoming(&finished));
    // Errors begin with the program's name.
    let steps = checkout.root.join("steps");
    fs::rename(steps.join("02-two"), steps.join("02-init-pid1")).expect("rename the step");
    checkout.write("steps/02-init-pid1/Cargo.toml", &manifest("02-init-pid1"));
    checkout.write("work/02/Cargo.toml", &(manifest("02-init-pid1") + "[workspace]\n"));
    let tool = scratch.path().join("course");
    fs::copy(COURSE, &tool).expect("copy the tool");
    let mut terminal = watching_with(&tool.to_string_lossy(), &checkout, "02", ":")?;
    let total = checks::for_step(&"02".parse()?).len();
    let verdict = format!("{total} of {total} checks passed");
    terminal.expect(&verdict)?;
    fs::remove_file(&tool).expect("remove the tool");
    fs::write(&tool, "another one").expect("write a new one");
    terminal.send_keys("r")?;
    terminal.expect("checking 1 of ")?;
    terminal.expect(&verdict)?;
    terminal.send_keys("s")?;
    terminal.expect("[q] back to watch ")?;
    terminal.send_keys("q")?;
    terminal.expect(&verdict)?;
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

#[test]
fn next_step_registers_no_handler_again() -> Result {
    // The grader hides its files from programs of the same user.
    if !geteuid().is_root() || !Requirement::Inspect(Caller::Rootless).is_met_or_skip() {
        return Ok(());
    }
    let (checkout, _scratch, _) = finished()?;
    let mut terminal = watching(&checkout, "01")?;
    terminal.expect("[n] next step")?;
    // Each signal handler writes to a socket, so a second handler would add one.
    let sockets = |terminal: &Terminal| -> Result<usize> {
        let tree = terminal.tree()?;
        let worker = tree.processes().last().expect("the process that works").pids[0];
        let files = fs::read_dir(format!("/proc/{worker}/fd")).expect("read /proc").flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    };
    terminal.expect("[q] quit")?;
    let before = sockets(&terminal)?;
    assert!(before > 0);
    terminal.send_keys("n")?;
    terminal.expect("02-two is next.")?;
    terminal.expect("TODOs.")?;
    let offer = terminal.expect("--from-mine --again")?;
    assert_has(&offer, &["your own step 01 as it is, without TODOs"]);
    terminal.expect("[Enter] back")?;
    terminal.send_keys("\r")?;
    terminal.expect("[r] again")?;
    checkout.write("work/02/src/main.rs", "fn main() {\n    std::process::exit(4);\n}\n");
    terminal.expect("exit status 4")?;
    terminal.expect("[r] again")?;
    assert_eq!(sockets(&terminal)?, before);
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

#[test]
fn watch_fits_a_small_terminal() -> Result {
    let checkout = begun();
    let mut terminal = watching_after(&checkout, "02", "stty rows 10 cols 40")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("a")?;
    terminal.expect("[Enter] back")?;
    terminal.send_keys(" ")?;
    terminal.expect("\u{1b}[H")?;
    let page = terminal.expect("\u{1b}[J")?.replace("\u{1b}[K", "").replace("\u{1b}[J", "");
    assert!(page.contains("page 2 of "), "{page}");
    let rows = |line: &str| line.trim_end().chars().count().div_ceil(40).max(1);
    assert!(page.lines().map(rows).sum::<usize>() < 10, "{page}");
    terminal.send_keys("q")?;
    terminal.expect("ended: 0\r\n")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// Ctrl-Z stops every process of the job, and `fg` continues them all.
#[test]
fn ctrl_z_stops_watch_and_fg_resumes_it() -> Result {
    if !require_tools(&["bash"]) {
        return Ok(());
    }
    let checkout = begun();
    let words = ["--norc", "--noprofile", "--noediting", "-i"];
    let bash = environment().supervise("bash", words).in_directory(&checkout.root);
    let bash = bash.env("CARGO_TARGET_DIR", checkout.root.join("target"));
    let bash = bash.env("CARGO", env!("CARGO")).env("NO_COLOR", "1").env("PS1", "next? ");
    let mut terminal = Terminal::start(bash)?;
    terminal.expect("next? ")?;
    terminal.send_keys(&format!("{COURSE} watch 02\r"))?;
    terminal.expect("[r] again")?;
    terminal.send_keys("\u{1a}")?;
    terminal.expect("Stopped")?;
    // The worker can be PID 1 of a PID namespace, which Ctrl-Z can't stop, so this looks at both processes.
    terminal.wait_for_tree(|tree| tree.processes()[1..].iter().all(|one| one.state == 'T'))?;
    terminal.send_keys("fg\r")?;
    terminal.expect("[r] again")?;
    terminal.send_keys("q")?;
    terminal.expect("next? ")?;
    terminal.send_keys("exit\r")?;
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// Whichever signal ends `watch`, the terminal gets its old settings back, and no process is left.
#[test]
fn watch_brings_the_terminal_back() -> Result {
    let checkout = begun();
    checkout.write("work/02/src/main.rs", "fn main() {\n    loop {}\n}\n");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGHUP] {
        for child in [0, 1] {
            // The worker can be PID 1 of a PID namespace, which only SIGKILL kills.
            if child == 1 && signal != Signal::SIGKILL {
                continue;
            }
            let mut terminal = watching(&checkout, "02")?;
            let before = settings(&mut terminal)?;
            terminal.expect("checking 1 of ")?;
            // Below the shell is the process that cleans up, and below that the worker.
            let mut process = terminal.tree()?.root.children.remove(0);
            for _ in 0..child {
                process = process.children.remove(0);
            }
            kill(Pid::from_raw(process.pids[0]), signal).expect("it runs");
            terminal.expect("ended: ")?;
            let after = settings(&mut terminal).and_then(|_| settings(&mut terminal))?;
            // If SIGKILL kills the process that the shell waits for, the shell may go on before the worker has restored
            // the terminal. An interactive shell restores it itself.
            if (signal, child) != (Signal::SIGKILL, 0) {
                assert_eq!(after, before, "{signal} to process {child}");
            }
            terminal.end()?.0.assert_clean();
        }
    }
    Ok(())
}
