//! The learner's tool under unusual conditions: other directories, other environments, and unknown programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use course::checks;
use course::commands::summary;
use course::patch::{Patch, PatchKind};
use course::sandbox::{Sandbox, missing_lines};
use course::step::Step;
use course::test_support::{
    self, Checkout, STEP, environment, in_parallel, manifest, names_in, program, step_program,
};
use course::workspace::root;
use harness::procfs::Stat;
use harness::test_support::{require_tools, write_program};
use harness::{
    Caller, Exit, Requirement, Result, ScratchDir, Session, Supervisor, Terminal, Transcript,
};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const COURSE: &str = env!("CARGO_BIN_EXE_course");

/// Prepares `course arg…` in a directory.
fn course(directory: &Path, args: &[&str]) -> Supervisor {
    test_support::course(COURSE, directory, args)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn acts_on_the_checkout_it_is_called_in() -> Result {
    let checkout = Checkout::new(COURSE);
    let steps = checkout.output(&["steps"])?;
    assert_eq!(text(&steps.stdout), "01  one\n02  two\n");
    let diff = text(&checkout.output(&["diff", "1", "02-two"])?.stdout);
    assert!(diff.contains("+    eprintln!(\"said by 02-two\");\n"), "{diff}");
    let same = text(&checkout.output(&["diff", "2", "02"])?.stderr);
    assert_eq!(same, "course: 02-two is the same step as 02-two; compare it with another\n");
    let elsewhere = course(Path::new("/"), &["progress"]).output()?;
    assert_eq!(
        text(&elsewhere.stderr),
        "course: / isn't in a checkout of the course: cd into one\n"
    );
    Ok(())
}

/// Editors leave backups, locks, and swap files beside a source. A source in a subdirectory belongs to the diff.
#[test]
fn diff_ignores_editor_files() -> Result {
    let checkout = Checkout::new(COURSE);
    let source = checkout.root.join("steps/02-two/src");
    for name in [".main.rs.swp", "main.rs~", "#main.rs#", "notes.txt", "latin.rs"] {
        fs::write(source.join(name), b"\xff\xfe").expect("write a file");
    }
    std::os::unix::fs::symlink("someone@host.1", source.join(".#main.rs")).expect("make a link");
    checkout.write("steps/02-two/src/deep/inner.rs", "// Deep.\n");
    let diff = checkout.output(&["diff", "1", "2"])?;
    let files: Vec<_> = text(&diff.stdout)
        .lines()
        .filter(|line| line.starts_with("+++ "))
        .map(str::to_owned)
        .collect();
    assert_eq!(files, ["+++ 02-two/src/deep/inner.rs", "+++ 02-two/src/main.rs"]);
    assert_eq!(text(&diff.stderr), "");
    Ok(())
}

/// With `CARGO_BUILD_TARGET`, cargo puts the program in another directory.
#[test]
fn runs_the_program_that_cargo_built() -> Result {
    let checkout = Checkout::new(COURSE);
    let run = || -> Result<String> {
        let run =
            checkout.course(&["run", "01"]).env("CARGO_BUILD_TARGET", host_target()).output()?;
        Ok(text(&run.stdout) + &text(&run.stderr))
    };
    let first = run()?;
    assert!(first.contains("version 1\n"), "{first}");
    checkout.write("steps/01-one/src/main.rs", &STEP.replace("version 1", "version 2"));
    assert!(run()?.contains("version 2\n"));
    Ok(())
}

/// Returns rustc's name of this machine's target, such as `x86_64-unknown-linux-gnu`.
fn host_target() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().expect("start rustc");
    let text = text(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("a host").to_owned()
}

#[test]
fn compile_errors_name_the_learners_file() -> Result {
    let checkout = Checkout::new(COURSE);
    checkout.write("work/02/Cargo.toml", &(manifest("02-two") + "[workspace]\n"));
    checkout.write("work/02/src/main.rs", "fn main() {\n    let number: u8 = \"no\";\n}\n");
    let output = checkout.output(&["work", "02"])?;
    let said = text(&output.stderr);
    assert!(said.contains("--> work/02/src/main.rs:2:22\n"), "{said}");
    assert!(said.ends_with("course: work/02 doesn't compile\n"), "{said}");
    Ok(())
}

#[test]
fn help_fits_80_columns() -> Result {
    let checkout = Checkout::new(COURSE);
    for name in ["slow", "tree", "check", "hint", "watch", "start", "doctor"] {
        let help = text(&checkout.output(&[name, "--help"])?.stdout);
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
    Ok(())
}

#[test]
fn words_stay_whole_in_60_columns() -> Result {
    let checkout = Checkout::new(COURSE);
    for args in [&["doctor"][..], &["diff", "02", "02"]] {
        let [whole, narrow] = [200, 60].map(|columns| -> Result<String> {
            let sized = format!("stty rows 24 cols {columns}; exec \"$@\"");
            let course = checkout.course(args).wrapped_by(&["sh", "-c", &sized, "sh"]);
            Ok(Terminal::start(course.env("NO_COLOR", "1"))?.end()?.1)
        });
        let (whole, narrow) = (whole?, narrow?);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&narrow), words(&whole));
        assert!(whole.lines().any(|line| line.chars().count() > 60), "{whole}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    }
    Ok(())
}

/// Cargo's own options end before the step's name.
#[test]
fn step_gets_help_option() -> Result {
    let (step, bin) = (step_program(2), "02-init-pid1");
    let expected = Supervisor::new(&environment(), &step, bin, ["--help"]).output()?;
    let help = course(&root()?, &["run", "02", "--help"]).output()?;
    assert_eq!(text(&help.stdout), text(&expected.stdout));
    Ok(())
}

#[test]
fn tree_needs_a_shell_that_answers() -> Result {
    let output = course(&root()?, &["tree", "03", "run", "sleep", "1000"]).output()?;
    assert_eq!(output.exit.status.code(), Some(1));
    let error = "course: the tree is that of a shell in the container, so type cargo course tree 03 \
        run --ti sh\n";
    assert_eq!(text(&output.stderr), error);
    Ok(())
}

#[test]
fn tree_prints_the_command_line_first() -> Result {
    let checkout = Checkout::new(COURSE);
    let (said, exit) = Transcript::run_with_exit(checkout.course(&["tree", "01"]))?;
    exit.assert_clean();
    let at = |words: &str| said.printed.find(words).unwrap_or_else(|| panic!("{}", said.text));
    assert!(at("$ 01-one command /bin/sh\n") < at("said by 01-one\n"), "{}", said.text);
    Ok(())
}

/// When the reader exits, strace alone would wait for the step, which it can't kill.
#[test]
fn trace_ends_with_its_reader() -> Result {
    if !require_tools(&["strace"]) {
        return Ok(());
    }
    let checkout = Checkout::new(COURSE);
    checkout.output(&["run", "01"])?;
    let script = "\"$0\" trace 01 command sleep 1000 | head -n 1";
    let shell = environment().supervise("sh", ["-c", script, COURSE]);
    let shell = shell.in_directory(&checkout.root).env("CARGO", env!("CARGO"));
    let (said, exit) = Transcript::run_with_exit(shell)?;
    exit.assert_clean();
    assert!(said.printed.starts_with("execve("), "{}", said.text);
    Ok(())
}

#[test]
fn missing_cargo_is_named() -> Result {
    let checkout = Checkout::new(COURSE);
    let output = checkout.course(&["run", "01"]).env("CARGO", "cargo").env("PATH", "/nowhere");
    let output = output.output()?;
    assert_eq!(output.exit.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "course: cargo isn't in PATH; add Rust's directory, usually ~/.cargo/bin\n"
    );
    Ok(())
}

/// Readers who are used to Docker type its subcommands and options out of habit.
#[test]
fn corrects_the_command_line_of_docker() -> Result {
    for (typed, meant) in [
        (&["ps", "-e"] as &[&str], "run 02 run ps -e"),
        (&["--rm", "--ti", "sh"], "run 02 run --ti sh"),
        (&["run", "-d", "--name", "web", "sleep", "9"], "run 02 run sleep 9"),
        (&["run", "--ti", "--rm", "sh", "-c", "a b"], "run 02 run --ti sh -c 'a b'"),
    ] {
        let output = course(&root()?, &[&["run", "02"], typed].concat()).output()?;
        let said = text(&output.stderr);
        assert!(said.ends_with(&format!(": cargo course {meant}\n")), "{typed:?}: {said}");
    }
    Ok(())
}

/// Some breaks fail only root's tests.
#[test]
fn test_breaks_needs_root() -> Result {
    let caller = program(COURSE, Caller::Rootless);
    let test_breaks = caller.supervise(["test-breaks", "02"]).in_directory(&root()?);
    let (said, exit) = Transcript::run_with_exit(test_breaks)?;
    assert_eq!(exit.assert_clean().status.code(), Some(1), "{}", said.text);
    assert!(said.text.contains("course: test-breaks needs root: unshare("), "{}", said.text);
    Ok(())
}

/// If a break only removes lines, readers might overlook that, so the tool names the missing lines.
#[test]
fn break_says_which_lines_are_missing() {
    let missing = missing_lines("$ true\n[exit status 7]\n", "$ true\n").expect("a sentence");
    assert!(
        missing.contains("[exit status 7]") && missing.contains("[exit status 0]"),
        "{missing}"
    );
    assert_eq!(missing_lines("$ true\n1\n", "$ true\n2\n"), None);
}

#[test]
fn patch_is_taken_back_after_a_panic() -> Result {
    if !require_tools(&["git"]) {
        return Ok(());
    }
    let step: Step = "1".parse()?;
    let patch = Patch::all(&step, PatchKind::Break)?.remove(0);
    let sandbox = Sandbox::new()?;
    let source = format!("steps/{step}/src/main.rs");
    let copy = || fs::read_to_string(sandbox.directory.join(&source)).expect("the copy");
    let whole = copy();
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _patched = sandbox.with(&patch).expect("it applies");
            assert_eq!(copy(), whole, "the patch changes something");
        });
        assert!(panics.join().is_err());
    });
    assert_eq!(copy(), whole);
    Ok(())
}

#[test]
fn checkout_with_crlf_config_has_lf_patches() -> Result {
    let root = root()?;
    if !root.join(".git").exists() || !require_tools(&["git"]) {
        return Ok(());
    }
    let scratch = ScratchDir::new("clone")?;
    let clone = scratch.path().join("clone");
    let mut git = std::process::Command::new("git");
    git.args(["clone", "--quiet", "--config=core.autocrlf=true"]).arg(&root).arg(&clone);
    assert!(git.status().expect("start git").success());
    let patch = fs::read(clone.join("steps/02-init-pid1/start.patch")).expect("a patch");
    assert!(!patch.contains(&b'\r'));
    Ok(())
}

#[test]
fn pending_snapshots_are_no_snapshots() -> Result {
    let scratch = ScratchDir::new("snapshots")?;
    for name in ["one.snap", "one.snap.new"] {
        fs::write(scratch.path().join(name), "").expect("write a file");
    }
    let names = names_in(&scratch.path().to_string_lossy());
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one.snap"]);
    Ok(())
}

fn checks_of_02() -> usize {
    checks::for_step(&"02".parse().expect("a step")).len()
}

/// Returns the line of the first check, as graded for a program that does nothing right. The check starts
/// `run readlink`.
fn first_check_fails() -> String {
    let checks = checks::for_step(&"02".parse().expect("a step"));
    format!("✗ {}", checks[0].title())
}

/// A learner's program, and `course check 02` of it.
struct Graded {
    directory: ScratchDir,
    options: &'static [&'static str],
}

impl Graded {
    fn new(script: &str) -> Result<Self> {
        let directory = ScratchDir::new("graded")?;
        let program = directory.path().join("mine");
        write_program(&program, script, 0o755);
        Ok(Graded { directory, options: &[] })
    }

    /// Waits only a second for an answer. This is for programs that give none, because a slow machine needs longer for
    /// an answer.
    fn in_vain(self) -> Self {
        Graded { options: &["--verbose", "--timeout", "1"], ..self }
    }

    /// Waits as long as a slow machine needs.
    fn patiently(self) -> Self {
        Graded { options: &["--verbose", "--timeout", "300"], ..self }
    }

    fn program(&self) -> String {
        self.directory.path().join("mine").display().to_string()
    }

    fn check(&self) -> Result<Supervisor> {
        let mine = self.program();
        let args = [&["check", "02", "--bin", &mine], self.options].concat();
        Ok(course(&root()?, &args))
    }

    /// Grades as an ordinary user, in a separate PID namespace, so that a grader that fails harms no other process.
    fn graded_as_ordinary_user(self) -> Result<(Transcript, Exit)> {
        let caller = program(COURSE, Caller::Rootless);
        // A fork bomb must leave enough processes for other tests, too.
        let pid_1 = ["unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc"];
        let pid_1 = [&pid_1[..], &["prlimit", "--nproc=300"]].concat();
        let mine = self.program();
        let args = [&["check", "02", "--bin", &mine], self.options].concat();
        let check = caller.supervise(args).wrapped_by(&pid_1).in_directory(&root()?);
        Transcript::run_with_exit(check)
    }

    fn graded(self) -> Result<(Transcript, Exit)> {
        Transcript::run_with_exit(self.check()?)
    }
}

/// Asserts that the grader finished.
#[track_caller]
fn assert_graded(said: &Transcript, exit: &Exit) {
    exit.assert_clean();
    assert_eq!(exit.status.code(), Some(1), "{}", said.printed);
    let end = format!(" of {} checks passed\n\nNext: ", checks_of_02());
    assert!(said.printed.contains(&end), "{}", said.printed);
}

/// A container in a shell script: `run`, and an `init` with these lines.
fn container(init: &str) -> String {
    format!(
        "#!/bin/sh\ncase $1 in\n\
         run) shift; [ $1 = --ti ] && shift\n  \
           exec unshare --user --map-root-user --pid --fork $0 init \"$@\";;\n\
         init) shift; echo init PID: $$ >&2\n{init};;\nesac\n"
    )
}

/// Runs one check of a step.
fn check_of(step: &str, name: &str, timeout: &str, script: &str) -> Result<String> {
    let graded = Graded::new(script)?;
    let args = ["check", step, name, "--timeout", timeout, "--bin", &graded.program()];
    let (said, exit) = Transcript::run_with_exit(course(&root()?, &args))?;
    exit.assert_clean();
    Ok(said.printed)
}

/// An `init` that asks without a pause never sleeps, and with a pause it wakes up for each question.
#[test]
fn polling_init_fails_its_check() -> Result {
    if !require_tools(&["unshare"]) {
        return Ok(());
    }
    let begun = Instant::now();
    let check = |wait: &str, timeout: &str| {
        check_of("04", "idle", timeout, &container(&format!("exec 3<&0; \"$@\" <&3 & {wait}")))
    };
    let printed = check("wait $!", "20")?;
    assert!(printed.starts_with("✓ idle container uses no CPU\n"), "{printed}");
    // The failing check takes its whole timeout, so keep that short, but long enough for a slow machine. With 20 seconds,
    // the check waits for one second in which nothing happens, as each of two callers.
    let beyond_that = begun.elapsed().saturating_sub(Duration::from_secs(2));
    let seconds = 1 + 2 * beyond_that.as_secs();
    for (wait, seen) in [
        ("while :; do :; done", "uses the CPU all the time"),
        ("while :; do sleep 0.05; done", "wakes up again and again, although nothing happens"),
    ] {
        let printed = check(wait, &seconds.to_string())?;
        assert!(printed.contains(&format!("seen:     `init` {seen}\n")), "{printed}");
    }
    Ok(())
}

#[test]
fn run_with_wrong_status_is_named() -> Result {
    if !require_tools(&["setpriv"]) {
        return Ok(());
    }
    let printed = check_of("02", "killed_runs", "60", "#!/bin/sh\nexit 3\n")?;
    for part in [
        "  expected: exit status 0, or 137 after SIGKILL to `run` or `init`\n",
        ", which wasn't killed, has exit status 3 instead of 0\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    Ok(())
}

/// If `init` looks at its parent before it asks for the signal, `run` can die between the two.
#[test]
fn early_look_at_parent_fails_its_check() -> Result {
    if !require_tools(&["unshare", "setpriv"]) {
        return Ok(());
    }
    let look = "while read -r name value; do [ \"$name\" = PPid: ] && ppid=$value; done \
        </proc/self/status\n\
        ours=$(readlink /proc/self/ns/pid) theirs=$(readlink /proc/$ppid/ns/pid_for_children)\n\
        [ \"$ours\" = \"$theirs\" ] || { echo \"02-init-pid1: init: our parent isn't run\"; exit 125; }";
    let late = format!(
        "[ \"$ASKED\" ] || ASKED=1 exec setpriv --pdeathsig KILL $0 init \"$@\"\n{look}\n\"$@\""
    );
    let early = format!("{look}\nsetpriv --pdeathsig KILL \"$@\"");
    for (init, passes) in [(late, true), (early, false)] {
        let printed = check_of("02", "init_refuses_other_parents", "120", &container(&init))?;
        assert_eq!(printed.starts_with("✓ "), passes, "{printed}");
        assert_eq!(
            printed.contains("SIGKILL to `run` before `init` calls prctl"),
            !passes,
            "{printed}"
        );
    }
    Ok(())
}

/// The program mounts something, and in one check it doesn't exit.
#[test]
fn graded_program_harms_neither_host_nor_grader() -> Result {
    if !Requirement::Caller(Caller::Root).is_met_or_skip() {
        return Ok(());
    }
    let script =
        "#!/bin/sh\nmount -t tmpfs course /mnt\n[ \"$2\" != readlink ] || exec sleep 1000\n";
    let graded = Graded::new(script)?.in_vain();
    let (said, exit) = Transcript::run_with_exit(graded.check()?.on_scratch_host())?;
    assert_graded(&said, &exit);
    assert!(said.printed.contains("killed the program after 1 s"), "{}", said.printed);
    assert!(said.printed.contains("\n            + tmpfs at /mnt ("), "{}", said.printed);
    Ok(())
}

#[test]
fn graded_program_may_print_without_end() -> Result {
    for flood in ["yes", "tr '\\0' x </dev/zero >&2"] {
        let script = format!("#!/bin/sh\n[ \"$2\" != readlink ] || exec {flood}\nexit 3\n");
        let (said, exit) = Graded::new(&script)?.patiently().graded()?;
        assert_graded(&said, &exit);
        assert!(said.printed.contains("printed more than 4 MiB"), "{}", said.printed);
    }
    Ok(())
}

/// The program sends SIGTERM and SIGKILL to its process group and to its parent, and SIGSTOP to its parent.
#[test]
fn graded_program_may_signal_its_group_and_parent() -> Result {
    let send = |signal: &str| -> Result {
        let script = format!("#!/bin/sh\n[ \"$2\" != readlink ] || kill -{signal}\nexit 3\n");
        let (said, exit) = Graded::new(&script)?.in_vain().graded()?;
        assert_graded(&said, &exit);
        assert!(said.printed.starts_with(&first_check_fails()), "{signal}: {}", said.printed);
        Ok(())
    };
    in_parallel(["TERM 0", "KILL 0", "TERM $PPID", "KILL $PPID", "STOP $PPID"], send)
}

/// The program sends SIGTERM, SIGKILL, and SIGSTOP to every process that it can see. It runs as an ordinary user,
/// because root's signals would reach every process of the host if the grader failed.
#[test]
fn graded_program_may_signal_every_process() -> Result {
    if !Requirement::Procfs(Caller::Rootless).is_met_or_skip() {
        return Ok(());
    }
    let send = |signal: &str| -> Result {
        let script = format!("#!/bin/sh\n[ \"$2\" != readlink ] || kill -{signal} -1\nexit 3\n");
        let (said, exit) = Graded::new(&script)?.in_vain().graded_as_ordinary_user()?;
        assert_graded(&said, &exit);
        Ok(())
    };
    in_parallel(["TERM", "KILL", "STOP"], send)
}

/// A process that can trace another can open its files, and write a score into them.
#[test]
fn graded_program_cannot_open_graders_files() -> Result {
    if !Requirement::Procfs(Caller::Rootless).is_met_or_skip() {
        return Ok(());
    }
    let script = "#!/bin/sh\nls /proc/$$/fd /proc/1/fd >&2\nexit 3\n";
    let (said, exit) = Graded::new(script)?.patiently().graded_as_ordinary_user()?;
    assert_graded(&said, &exit);
    let refused = said.printed.contains("'/proc/1/fd': Permission denied");
    assert!(refused && !said.printed.contains("/proc/1/fd:\n"), "{}", said.printed);
    Ok(())
}

#[test]
fn graded_program_may_fill_tmpdir() -> Result {
    if !Requirement::Procfs(Caller::Rootless).is_met_or_skip() {
        return Ok(());
    }
    let script =
        "#!/bin/sh\n[ \"$2\" != readlink ] || dd if=/dev/zero of=\"$TMPDIR/full\" bs=1M\nexit 3\n";
    let (said, exit) = Graded::new(script)?.patiently().graded_as_ordinary_user()?;
    assert_graded(&said, &exit);
    assert!(said.printed.contains("256+0 records out"), "{}", said.printed);
    Ok(())
}

/// The supervisor must not take the PIDs of another /proc for those of its children.
#[test]
fn supervised_program_may_cover_proc() -> Result {
    if !require_tools(&["unshare", "mount"]) {
        return Ok(());
    }
    // Either caller will do, because both are root on a scratch host.
    let callers = [Caller::Root, Caller::Rootless].into_iter();
    let mut callers = callers.filter(|caller| Requirement::Procfs(*caller).is_met_or_skip());
    let Some(caller) = callers.next() else { return Ok(()) };
    let sh = program("/bin/sh", caller).with_timeout(Duration::from_secs(1));
    let script = "exec unshare --pid --fork sh -c 'mount -t proc proc /proc; exec sleep 1000'";
    let shell = sh.supervise(["-c", script]).on_scratch_host().within_answer_timeout();
    let exit = shell.start(Stdio::null(), Stdio::null(), Stdio::null())?.wait()?;
    assert!(exit.timed_out.is_some() && !exit.leaked_processes.is_empty(), "{exit:?}");
    Ok(())
}

#[test]
fn numbers_out_of_range_are_usage_errors() -> Result {
    for args in [
        ["check", "02", "--timeout=18446744073709551615"],
        ["soak", "02", "--runs=0"],
        ["soak", "02", "--jobs=0"],
    ] {
        assert_eq!(course(&root()?, &args).output()?.exit.shell_status(), 2, "{args:?}");
    }
    Ok(())
}

/// A real-time signal has no name, so the supervisor learns only that a process died, and not which.
#[test]
fn supervisor_reaps_orphan_killed_by_signal_34() -> Result {
    for sh in test_support::programs_for_each_caller("/bin/sh") {
        // The orphan's parent may be gone when it starts.
        let orphan = "while kill -0 $0; do sleep 0.01; done; kill -34 $$";
        let script = format!("sh -c '{orphan}' $$ >/dev/null 2>&1 & exit 7");
        let captured = sh.supervise(["-c", &script]).output()?;
        assert_eq!(captured.exit.assert_clean().shell_status(), 7);
    }
    Ok(())
}

#[test]
fn graded_program_may_leave_a_process_behind() -> Result {
    let (said, exit) =
        Graded::new("#!/bin/sh\n[ \"$2\" != readlink ] || sleep 1000 &\n")?.graded()?;
    assert_graded(&said, &exit);
    assert!(said.printed.contains("expected: no process is left\n"), "{}", said.printed);
    Ok(())
}

/// Root's grader grades a program twice. This one works only for root. It finds out with a test that is built into the
/// shell, because a check would take another process for `init`, and kill it.
#[test]
fn root_grades_as_ordinary_user_too() -> Result {
    if !(Requirement::Caller(Caller::Root).is_met_or_skip()
        && Requirement::Caller(Caller::Rootless).is_met_or_skip())
    {
        return Ok(());
    }
    let finished = step_program(2);
    let lent = program(&finished, Caller::Rootless);
    let path = lent.path().display();
    let script = format!("#!/bin/sh\n[ -O / ] && exec {path} \"$@\"\nexit 3\n");
    let graded = Graded::new(&script)?;
    let args = ["check", "02", "usage_error", "--timeout", "300", "--bin", &graded.program()];
    let said = course(&root()?, &args);
    let (said, _) = Transcript::run_with_exit(said)?;
    assert!(said.printed.contains("# as an ordinary user\n"), "{}", said.printed);
    Ok(())
}

/// The umask is strict, programs in TMPDIR can't be executed, and another process mounts and unmounts meanwhile.
#[test]
fn finished_step_passes_in_harsh_surroundings() -> Result {
    if !Requirement::Caller(Caller::Root).is_met_or_skip() || !require_tools(&["mount"]) {
        return Ok(());
    }
    let scratch = ScratchDir::new("harsh")?;
    let tmp = scratch.path().join("tmp");
    fs::create_dir(&tmp).expect("make a directory");
    let finished = scratch.path().join("02-init-pid1");
    write_program(&finished, fs::read(step_program(2)).expect("read the step"), 0o700);
    let script = "umask 077; mount -t tmpfs -o noexec course \"$TMPDIR\" || exit; \
        (while mount -t tmpfs other /mnt && umount /mnt; do sleep 0.01; done) & \
        \"$0\" check 02 --timeout 120 --bin \"$1\"; status=$?; kill $!; exit $status";
    let args = ["-c", script, COURSE, &finished.to_string_lossy()];
    let shell = environment().supervise("sh", args).on_scratch_host();
    let shell = shell.in_directory(&root()?).env("TMPDIR", &tmp);
    let (said, exit) = Transcript::run_with_exit(shell)?;
    let all = checks_of_02();
    let last = format!("\n{all} of {all} checks passed\n");
    assert!(said.printed.contains(&last), "{}", said.printed);
    assert_eq!(exit.leaked_processes, [""; 0]);
    Ok(())
}

/// The program under test and an orphan would sleep on, but whichever signal ends the command, no process is left.
#[test]
fn ended_check_leaves_nothing() -> Result {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let end_by = |signal: Signal| -> Result {
        let scratch = ScratchDir::new("temporary")?;
        let script = "#!/bin/sh\n(sleep 1000 >/dev/null 2>&1 &)\nexec sleep 1000\n";
        let graded = Graded::new(script)?.in_vain();
        let session =
            Session::ready(graded.check()?.env("TMPDIR", scratch.path()), &first_check_fails())?;
        let files = || fs::read_dir(scratch.path()).expect("read the directory").count();
        assert_eq!(files(), 1, "while it works");
        session.signal(signal)?;
        let (exit, _) = session.wait()?;
        assert_eq!(exit.assert_clean().shell_status(), 128 + signal as i32);
        assert_eq!(files(), 0, "{signal}");
        Ok(())
    };
    in_parallel([SIGINT, SIGTERM, SIGHUP, SIGQUIT], end_by)
}

/// After SIGKILL, only the next command can clean up.
#[test]
fn next_command_removes_what_a_killed_one_left() -> Result {
    let scratch = ScratchDir::new("temporary")?;
    let files = || fs::read_dir(scratch.path()).expect("read the directory").count();
    let graded = Graded::new("#!/bin/sh\nexec sleep 1000\n")?.in_vain();
    let check = graded.check()?.env("TMPDIR", scratch.path());
    let session = Session::ready(check, &first_check_fails())?;
    session.signal(Signal::SIGKILL)?;
    session.wait()?;
    assert_eq!(files(), 1, "the killed one");
    let checkout = Checkout::new(COURSE);
    let next = checkout.course(&["check", "2", "--bin", "/bin/true"]);
    next.env("TMPDIR", scratch.path()).output()?;
    assert_eq!(files(), 0);
    Ok(())
}

/// The program stops the helper again and again, so the helper can't notice the deadline.
#[test]
fn stopped_supervisor_is_killed_in_time() -> Result {
    let script = "(sleep 1000 &); while :; do kill -STOP $PPID; sleep 0.01; done";
    let sh = environment().supervise("sh", ["-c", script]);
    let (begin, limit) = (Instant::now(), Duration::from_secs(300));
    let running = sh.start(Stdio::null(), Stdio::null(), Stdio::null())?;
    let pid = running.pid();
    let error = running.wait_with_timeout(Duration::from_secs(1)).map(|exit| exit.timed_out);
    assert!(begin.elapsed() < limit, "{error:?}");
    assert!(!matches!(error, Ok(None)), "{error:?}");
    let alive = || Stat::of(pid).is_some_and(|stat| stat.state != 'Z');
    while alive() && begin.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!alive(), "{error:?}");
    Ok(())
}

/// The machine lacks root's abilities, an ordinary user's, and every optional program.
#[test]
fn skips_are_three_lines_at_most() {
    let tests = (0..300).map(|number| format!("test_{number}"));
    let missing =
        ["root", "root-proc", "userns", "userns-proc", "strace", "runc", "pstree", "tini"];
    let line = |name, test: &str| format!("{name}\tno {name}\t{test}\n");
    let skips: String = tests.flat_map(|test| missing.map(|name| line(name, &test))).collect();
    let ordinary = summary(&skips, false);
    assert_eq!(ordinary.lines().count(), 3, "{ordinary}");
    for name in &missing[2..] {
        assert!(ordinary.contains(name), "{name}: {ordinary}");
    }
    assert!(!ordinary.contains("root"), "root's half of the tests doesn't exist for a user");
    assert!(summary(&skips, true).contains("root"));
    assert_eq!(summary("root\tEPERM\ta test\n", false), "");
}

/// Docker's root has neither CAP_SYS_ADMIN nor CAP_SYS_PTRACE.
#[test]
fn skips_with_one_reason_share_a_line() {
    let skips = "root\tEPERM\ta\nroot-proc\tEPERM\tb\nptrace\tEACCES\tc\ntini\tno tini\td\n";
    let lines = "not tested without ptrace (EACCES): 1 test\n\
        not tested without root, root-proc (EPERM): 2 tests\n\
        not tested without tini (not installed): 1 test\n";
    assert_eq!(summary(skips, true), lines);
}

/// The tests of a step say what they skipped: `just test` sums it up.
#[test]
fn test_sums_up_skips_in_three_lines() -> Result {
    let checkout = Checkout::new(COURSE);
    let test = r#"#[test]
fn skips() {
    let names = ["root", "root-proc", "userns", "userns-proc", "strace", "runc", "tini"];
    let line = |number| names.map(|name| format!("{name}\tEPERM\ttest_{number}\n")).concat();
    let lines: String = (0..300).map(line).collect();
    std::fs::write(std::env::var_os("COURSE_SKIPS").unwrap(), lines).unwrap();
}
"#;
    checkout.write("steps/01-one/tests/skips.rs", test);
    let (said, exit) = Transcript::run_with_exit(checkout.course(&["test", "01"]))?;
    assert_eq!(exit.assert_clean().status.code(), Some(0), "{}", said.printed);
    let skips: Vec<_> =
        said.printed.lines().filter(|line| line.starts_with("not tested")).collect();
    assert!((1..=3).contains(&skips.len()), "{}", said.printed);
    assert!(skips.concat().contains("strace"), "{}", said.printed);
    Ok(())
}

/// A user who isn't root lacks nothing, so the first line is about the first check.
#[test]
fn ordinary_user_reads_only_about_checks() -> Result {
    if !Requirement::Caller(Caller::Rootless).is_met_or_skip() {
        return Ok(());
    }
    let finished = program(step_program(2), Caller::Rootless);
    let tool = program(COURSE, Caller::Rootless);
    let path = finished.path().display().to_string();
    let run = |args: &[&str]| -> Result<String> {
        let supervisor = tool.supervise(args).in_directory(&root()?);
        Ok(Transcript::run_with_exit(supervisor)?.0.printed)
    };
    let check = run(&["check", "02", "usage_error", "--bin", &path])?;
    assert!(check.starts_with("✓ usage error exits 2\n"), "{check}");
    let hint = run(&["hint", "02", "usage_error"])?;
    for said in [check, hint] {
        assert!(!said.contains("not tested") && !said.contains("root"), "{said}");
    }
    Ok(())
}

/// Whether `break` can run: it needs git, and a scratch host with its own mounts.
fn can_break() -> bool {
    let callers = [Caller::Root, Caller::Rootless];
    let can_mount = callers.iter().any(|caller| Requirement::Procfs(*caller).check().is_ok());
    require_tools(&["git"]) && can_mount
}

/// A checkout whose second step has a break.
fn with_break() -> Checkout {
    let checkout = Checkout::new(COURSE);
    checkout.write("rustfmt.toml", "");
    let patch = "What is missing?\n$ 02-two run true\n\n--- a/src/main.rs\n+++ b/src/main.rs\n\
        @@ -3,3 +3,3 @@\n fn main() {\n-    eprintln!(\"said by 02-two\");\n+    let unused = 2;\n\
        \x20    let args: Vec<_> = std::env::args_os().skip(2).collect();\n";
    checkout.write("steps/02-two/breaks/more-quiet.patch", patch);
    checkout
}

#[test]
fn break_says_that_it_waits_for_another() -> Result {
    if !can_break() {
        return Ok(());
    }
    let checkout = with_break();
    checkout.write("target/breaks/lock", "");
    let lock = File::open(checkout.root.join("target/breaks/lock")).expect("open the lock");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("lock it");
    // A break whose test is called more_quiet.
    let course = checkout.course(&["break", "02", "more_quiet"]).env("TERM", "xterm");
    let mut terminal = Terminal::start(course)?;
    terminal.expect("Waiting until another break or its test is done…")?;
    drop(lock);
    let shown = terminal.expect("Missing now: said by 02-two")?;
    assert!(shown.starts_with("\r\u{1b}[K"), "{shown}");
    terminal.end()?.0.assert_clean();
    Ok(())
}

/// An editor's swap file can be removed while `break` copies the workspace.
#[test]
fn break_ignores_a_vanished_file() -> Result {
    if !can_break() {
        return Ok(());
    }
    let checkout = with_break();
    let directory = checkout.root.join("tests/harness");
    let files: Vec<_> = (0..20).map(|number| directory.join(format!("{number}.swp"))).collect();
    for file in &files {
        fs::write(file, "").expect("write a file");
    }
    // The copy waits at this pipe until the test closes the write end.
    let pipe = directory.join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("create a pipe");
    let terminal = Terminal::start(checkout.course(&["break", "02", "more-quiet"]))?;
    let stuck = File::options().write(true).open(&pipe).expect("open the pipe");
    for file in &files {
        fs::remove_file(file).expect("remove a file");
    }
    drop(stuck);
    let (exit, shown) = terminal.end()?;
    exit.assert_clean();
    assert!(shown.contains("Missing now: said by 02-two"), "{shown}");
    Ok(())
}

/// `break` writes only to the target directory. If it can't, the error names the path.
#[test]
fn break_works_in_a_read_only_checkout() -> Result {
    if !require_tools(&["mount"]) || !can_break() {
        return Ok(());
    }
    let checkout = with_break();
    let target = ScratchDir::new("target")?;
    // With Cargo.lock there's nothing left to write.
    let first = checkout.course(&["run", "02"]).env("CARGO_TARGET_DIR", target.path());
    assert_eq!(first.output()?.exit.status.code(), Some(0));
    let broken = || -> Result<String> {
        let script = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && \
            ! touch file 2>/dev/null && exec \"$0\" break 02 more-quiet";
        let shell = environment().supervise("sh", ["-c", script, COURSE]);
        let shell = shell.in_directory(&checkout.root).on_scratch_host();
        let shell = shell.env("CARGO", env!("CARGO")).env("CARGO_TARGET_DIR", target.path());
        Ok(Transcript::run_with_exit(shell)?.0.printed)
    };
    let said = broken()?;
    assert!(said.contains("\nMissing now: said by 02-two"), "{said}");
    assert!(!said.contains("warning"), "{said}");
    fs::remove_dir_all(target.path().join("breaks")).expect("remove the copy");
    fs::write(target.path().join("breaks"), "").expect("put a file in the way");
    let (said, path) = (broken()?, target.path().join("breaks/copy"));
    let error = format!("mkdir({}): Not a directory (ENOTDIR)\n", path.display());
    assert!(said.contains(&error), "{said}");
    Ok(())
}

/// An untouched starter passes most checks of earlier steps, so a teacher counts the new ones.
#[test]
fn json_marks_checks_of_earlier_steps() -> Result {
    let bin = step_program(3).display().to_string();
    let args = ["check", "03", "host", "--json", "--timeout", "300", "--bin", &bin];
    let output = course(&root()?, &args).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks").iter();
    let new: Vec<_> =
        checks.map(|check| (check["name"].as_str(), check["new"].as_bool())).collect();
    let (host_proc, on_host) = ("host_proc_is_unharmed", "init_refuses_to_run_on_the_host");
    assert_eq!(new, [(Some(host_proc), Some(true)), (Some(on_host), Some(false))]);
    Ok(())
}

/// Scripts, for example a teacher's, rely on both.
#[test]
fn json_and_exit_status_agree() -> Result {
    in_parallel([(step_program(2), true), (PathBuf::from("/bin/true"), false)], |(program, all)| {
        let bin = program.display().to_string();
        // Three checks will do, because the report of all has the same form.
        let args = ["check", "02", "pid", "--json", "--timeout", "300", "--bin", &bin];
        let output = course(&root()?, &args).output()?;
        assert_eq!(output.exit.status.code(), Some(i32::from(!all)));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["step"], "02-init-pid1");
        assert_eq!(report["passed"] == report["total"], all, "{report:#}");
        assert_eq!(report["total"], 3, "{report:#}");
        let first = &report["checks"][0];
        assert_eq!((&first["passed"], &first["new"]), (&all.into(), &true.into()));
        assert_eq!(first["actual"].is_string(), !all);
        Ok(())
    })
}
