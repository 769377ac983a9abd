//! `just slow`: slow motion shows the calls that a step makes, in the same order every time.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use course::slow::{Kind, Scene, ptrace_advice, record};
use course::step::Step;
use course::test_support::{programs_for_each_caller, step_program};
use harness::test_support::{inspectable, require_tools};
use harness::{
    Caller, Context, Program, Requirement, Result, Supervisor, Terminal, Transcript,
    assert_snapshot,
};

/// The tool and a step, for one caller.
struct Pair {
    course: Program,
    program: Program,
    step: Step,
}

/// Returns the tool and a step, once for each caller that this machine can have.
fn pairs(step: &str) -> Result<Vec<Pair>> {
    let step: Step = step.parse()?;
    let mut courses = programs_for_each_caller(env!("CARGO_BIN_EXE_course"));
    let mut pairs = Vec::new();
    for program in programs_for_each_caller(step_program(step.number)) {
        let is_for_caller = |course: &Program| course.caller() == program.caller();
        let Some(index) = courses.iter().position(is_for_caller) else { continue };
        let course = courses.remove(index);
        // The tool looks for the steps above the directory that it's called in.
        let directory = course.directory().join("steps").join(step.to_string());
        fs::create_dir_all(&directory).context("mkdir")?;
        fs::create_dir_all(course.directory().join("tests/harness")).context("mkdir")?;
        fs::write(directory.join("Cargo.toml"), "").context("write Cargo.toml")?;
        // An ordinary user enters them, too, whatever the umask is.
        let entered = ["steps", "tests", "tests/harness"].map(|path| course.directory().join(path));
        for path in entered.iter().chain([&directory, &directory.join("Cargo.toml")]) {
            fs::set_permissions(path, Permissions::from_mode(0o755)).context("chmod")?;
        }
        pairs.push(Pair { course, program, step: step.clone() });
    }
    Ok(pairs)
}

impl Pair {
    /// Prepares `course slow STEP options… args…`.
    fn slow(&self, options: &[&str], args: &[&str]) -> Supervisor {
        let (step, program) = (self.step.label(), self.program.path().to_string_lossy());
        let words = [&["slow", &step, "--bin", &program], options, args].concat();
        self.course.supervise(words)
    }

    /// Returns what that prints, with names instead of PIDs.
    fn frames(&self, options: &[&str], args: &[&str]) -> Result<String> {
        let (said, exit) =
            Transcript::run_with_exit(self.slow(&[&["--redacted"], options].concat(), args))?;
        exit.assert_clean();
        assert_eq!(said.status.code(), Some(0), "{}", said.printed);
        Ok(said.printed)
    }

    /// Returns the name of a snapshot that depends on the caller.
    fn named(&self, name: &str) -> String {
        let caller = if self.course.caller() == Caller::Root { "root" } else { "rootless" };
        format!("{}_{name}{caller}", self.step.label())
    }
}

/// A first step without a container is the same for every caller.
#[test]
fn frames_are_as_recorded() -> Result {
    for step in Step::all()? {
        for pair in pairs(&step.label())? {
            let name = if step.has_container() { pair.named("") } else { step.label() };
            assert_snapshot!(name, pair.frames(&["--all"], &[])?);
        }
    }
    Ok(())
}

#[test]
fn step_04_shows_an_orphan_by_default() -> Result {
    for pair in pairs("04")? {
        let frames = pair.frames(&["--all"], &[])?;
        assert!(frames.contains(" init adopts its child."), "{frames}");
        let dead = frames.split_once("   true is a zombie.\n").expect("it dies").1;
        let (zombie, reaped) = dead.split_once("The call has reaped it.").expect("it's reaped");
        let returned = "\n   wait4(-1, 0)\n   init was waiting";
        assert!(zombie.contains("─ [true] (zombie)\n") && zombie.contains(returned), "{frames}");
        // The command still runs, so the end of the container isn't why the orphan is gone.
        assert!(reaped.contains("(gone)\n") && reaped.contains("└─ /bin/cat\n"), "{frames}");
    }
    Ok(())
}

#[test]
fn signal_reaches_run_then_init_then_command() -> Result {
    for pair in pairs("05")? {
        let frames = pair.frames(&["--signal=term"], &["run", "/bin/sleep", "100"])?;
        assert!(frames.ends_with("\n[exit status 143]\n"), "{frames}");
        assert_snapshot!(pair.named("signal_"), frames);
    }
    Ok(())
}

/// A learner's program makes other calls than our steps.
#[test]
fn sentences_are_true_for_other_programs() -> Result {
    if !require_tools(&["unshare", "mount", "timeout"]) {
        return Ok(());
    }
    for pair in pairs("03")? {
        let directory = pair.course.directory().join("steps");
        let at = directory.to_string_lossy();
        for (program, args, expected) in [
            (
                "/usr/bin/unshare",
                &["--ipc", "--mount", "--propagation=slave", "true"][..],
                &[
                    "unshare(CLONE_NEWNS|CLONE_NEWIPC)",
                    "a copy of every mount, and its own message queues",
                    "mount(\"none\", \"/\", NULL, MS_REC|MS_SLAVE)",
                    "makes the mount at /, and every mount below it, a slave: ",
                ][..],
            ),
            ("/bin/mount", &["--bind", "/etc", &at], &["with /etc."]),
            (
                "/usr/bin/timeout",
                &["--preserve-status", "9", "true"],
                &["rt_sigprocmask(SIG_BLOCK, [SIGHUP, ...])", " signals. A blocked signal "],
            ),
            ("/bin/mount", &["-t", "ramfs", "none", &at], &["mounts a filesystem at "]),
        ] {
            let words = [&["slow", "03", "--all", "--bin", program, "--"], args].concat();
            let supervisor = pair.course.supervise(words);
            let supervisor = supervisor.env("LIBMOUNT_FORCE_MOUNT2", "always");
            let wrapper = ["unshare", "--map-root-user", "--mount", "--"];
            let said = Transcript::run(supervisor.wrapped_by(&wrapper))?;
            let words = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in expected {
                assert!(words.contains(part), "{part}: {}", said.printed);
            }
        }
    }
    Ok(())
}

/// Without ptrace(2), the kernel discards such a SIGCHLD as soon as the child dies, so it interrupts no call.
#[test]
fn sigchld_without_handler_has_no_frame() -> Result {
    let mut pairs = pairs("03")?;
    for pair in &pairs {
        let frames = pair.frames(&["--signal=chld"], &["run", "/bin/sleep", "0.5"])?;
        assert!(frames.contains("so the kernel discards it."), "{frames}");
        assert_eq!(frames.matches("\n   SIGCHLD\n").count(), 1, "{frames}");
    }
    if !require_tools(&["unshare"]) {
        return Ok(());
    }
    for pair in &mut pairs {
        // `unshare` waits for one child while another one dies.
        let script = "#!/bin/sh\n/bin/sleep 0.2 &\nexec unshare --fork /bin/sleep 0.6\n";
        let path = pair.course.directory().join("script");
        fs::write(&path, script).context("write script")?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).context("chmod")?;
        pair.program = Program::new(&path, pair.course.caller())?;
        let frames = pair.frames(&[], &["run"])?;
        assert!(frames.contains("2. ") && frames.contains("[exit status 0]"), "{frames}");
        assert!(!frames.contains("interrupted") && !frames.contains("SIGCHLD\n"), "{frames}");
        assert_eq!(frames.matches("unshare was waiting in this call").count(), 1, "{frames}");
    }
    Ok(())
}

/// Root's step may forget the private mounts, and cover the host's /proc, in which slow motion looks.
#[test]
fn step_that_covers_proc_changes_no_host() -> Result {
    for mut pair in pairs("03")?.into_iter().filter(|pair| pair.course.caller() == Caller::Root) {
        let script = "#!/bin/sh\nmount -t tmpfs course /proc || exit 4\n/bin/true\nexit 3\n";
        let path = pair.course.directory().join("script");
        fs::write(&path, script).context("write script")?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).context("chmod")?;
        pair.program = Program::new(&path, Caller::Root)?;
        let slow = pair.slow(&["--redacted"], &["run"]).on_scratch_host();
        let (said, exit) = Transcript::run_with_exit(slow)?;
        exit.assert_clean();
        let shown = said.printed;
        assert!(shown.contains("└─ /bin/true") && shown.contains("[exit status 3]"), "{shown}");
    }
    Ok(())
}

/// A signal is sent only when every process waits. So the default command of `--signal` is one that waits.
#[test]
fn signal_that_was_not_sent_is_named() -> Result {
    for pair in pairs("05")? {
        let frames = pair.frames(&["--signal=term"], &["run", "/bin/true"])?;
        assert!(frames.contains("\n[exit status 0]\nSIGTERM wasn't sent, because "), "{frames}");
        let frames = pair.frames(&["--signal=term"], &[])?;
        assert!(frames.ends_with("\n[exit status 143]\n"), "{frames}");
    }
    Ok(())
}

/// The error line that the step prints belongs to the last frames.
#[test]
fn refused_call_is_a_frame() -> Result {
    for pair in pairs("03")? {
        let filter = ["/proc/self/exe", "as", "seccomp", "unshare=EPERM", "--"];
        let supervisor = pair.slow(&["--redacted"], &[]).wrapped_by(&filter);
        let (said, exit) = Transcript::run_with_exit(supervisor)?;
        exit.assert_clean();
        assert_snapshot!("03_refused", said.printed);
    }
    Ok(())
}

#[test]
fn refused_ptrace_is_explained_in_one_line() -> Result {
    for pair in pairs("02")? {
        let filter = ["/proc/self/exe", "as", "seccomp", "ptrace=EPERM", "--"];
        let (said, exit) = Transcript::run_with_exit(pair.slow(&[], &[]).wrapped_by(&filter))?;
        exit.assert_clean();
        assert_eq!(said.status.code(), Some(1));
        let start = "course: ptrace(PTRACE_SEIZE): Operation not permitted (EPERM): ";
        assert!(said.printed.starts_with(start), "{}", said.printed);
        assert_eq!(said.printed.lines().count(), 1, "{}", said.printed);
    }
    Ok(())
}

/// The kernel of this machine may lack Yama. On Debian 13 we ran slow motion with each setting.
#[test]
fn refused_ptrace_has_an_advice_per_cause() {
    let causes = [("0", false), ("1", false), ("", true), ("1", true), ("2", true), ("3", false)];
    let advice = causes.map(|(scope, has_filter)| ptrace_advice(scope, has_filter));
    assert_eq!(advice[0], advice[1]);
    assert!(advice[2].contains("seccomp=unconfined") && advice[2] == advice[3], "{advice:?}");
    assert!(advice[4].contains("`sudo sysctl -w kernel.yama.ptrace_scope=1`"), "{advice:?}");
    assert!(advice[5].contains("3 until the next reboot"), "{advice:?}");
}

/// For each process, both show the same calls in the same order. Masked paths depend on the kernel, so one stands for
/// all.
#[test]
fn calls_are_those_that_strace_sees() -> Result {
    if !require_tools(&["strace"]) {
        return Ok(());
    }
    let lesson = [
        r"^(execve|clone3?|v?fork|unshare|wait4|waitid|kill|setpgid|exit_group)\(",
        r"^prctl\(PR_SET_PDEATHSIG",
        r#"^mount\((NULL, "/"|"proc"|.*"(/proc/keys|/sys/firmware|/proc/sys)")"#,
        r"^write\(.*/(setgroups|uid_map|gid_map|timens_offsets)>",
        r"^read\(\d+<.*signalfd",
        r"^rt_sigprocmask\(SIG_(UN)?BLOCK, \[HUP INT",
        r"^rt_sigtimedwait\(",
    ];
    // The trace calls each way to create a process the same.
    let name = |call: &str| match call.split('(').next().unwrap_or_default() {
        "clone3" | "fork" | "vfork" => "clone".to_owned(),
        name => name.to_owned(),
    };
    for step in Step::all()? {
        for program in inspectable(programs_for_each_caller(step_program(step.number))) {
            for example in step.examples() {
                let trace = program.trace(&example, &lesson)?.redacted()?;
                let trace = trace.lines().filter_map(|line| line.split_once("  "));
                let seen = trace.map(|(pid, call)| (pid.to_owned(), name(call)));
                let frames = record(&scene(&program, &step, &example))?.frames.into_iter();
                let frames = frames.filter(|frame| frame.kind == Kind::Call);
                let shown = frames.map(|frame| (frame.pid, name(&frame.described.call)));
                let mut seen = by_process(seen.collect());
                // Slow motion begins after the step has started.
                assert_eq!(seen[0].remove(0), "execve");
                assert_eq!(by_process(shown.collect()), seen, "{step}: {example:?}");
            }
        }
    }
    Ok(())
}

fn scene(program: &Program, step: &Step, args: &[&str]) -> Scene {
    let args = args.iter().map(Into::into).collect();
    let mut scene = Scene::new(program.path().to_owned(), &step.bin(), args);
    scene.redacted = true;
    scene.user = program.environment().uid();
    scene
}

fn by_process(calls: Vec<(String, String)>) -> Vec<Vec<String>> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (pid, call) in calls {
        match found.iter_mut().find(|(known, _)| *known == pid) {
            Some((_, calls)) => calls.push(call),
            None => found.push((pid, vec![call])),
        }
    }
    found.into_iter().map(|(_, calls)| calls).collect()
}

/// The book uses recordings, and they have the frames that a learner sees.
#[test]
fn recording_equals_the_printed_frames() -> Result {
    for pair in pairs("04")? {
        if !Requirement::Inspect(pair.program.caller()).is_met_or_skip() {
            continue;
        }
        let recording = record(&scene(&pair.program, &pair.step, &["run", "/bin/true"]))?;
        assert_eq!(recording.text(), pair.frames(&[], &["run", "/bin/true"])?);
    }
    Ok(())
}

/// Presses Enter until the step has ended, and returns the screens.
fn screens(pair: &Pair, term: &str, no_color: &str) -> Result<Vec<String>> {
    let supervisor = pair.slow(&[], &[]).env("TERM", term).env("NO_COLOR", no_color);
    let mut terminal = Terminal::start(supervisor)?;
    let mut screens = Vec::new();
    loop {
        let screen = terminal.expect("[q] quit ")?;
        let is_last = screen.contains(" exit_group(0)") && screen.contains("run is a zombie.");
        screens.push(screen);
        terminal.send_keys("\r")?;
        if is_last {
            break;
        }
    }
    let (exit, rest) = terminal.end()?;
    exit.assert_clean();
    assert!(rest.contains("[exit status 0]\r\n") && rest.contains("Next:"), "{rest}");
    Ok(screens)
}

#[test]
fn each_screen_fits_80_columns_and_24_lines() -> Result {
    for step in ["02", "07"] {
        for pair in pairs(step)? {
            let screens = screens(&pair, "xterm", "1")?;
            assert!(screens.len() > 15, "{}", screens.len());
            for screen in screens {
                let (_, screen) = screen.split_once("\x1b[H\x1b[2J").expect("a cleared screen");
                assert!(!screen.contains('\x1b'), "{screen:?}");
                assert!(screen.lines().count() <= 24, "{screen}");
                let widest = screen.lines().map(|line| line.chars().count()).max();
                assert!(widest <= Some(80), "{screen}");
            }
        }
    }
    Ok(())
}

/// The longest word fits, so no line needs to be cut.
#[test]
fn output_is_wrapped_in_60_columns() -> Result {
    let words = "a program prints a line that is longer than sixty columns, so it continues below";
    for pair in pairs("01")? {
        let (course, step) = (pair.course.path().display(), pair.program.path().display());
        let script = format!(
            "stty rows 24 cols 60; NO_COLOR=1 exec {course} slow 01 --bin {step} exec /bin/echo '{words}'"
        );
        let supervisor = pair.course.environment().supervise("/bin/sh", ["-c", &script]);
        let mut terminal = Terminal::start(supervisor.env("TERM", "xterm"))?;
        let mut screen = String::new();
        while !screen.contains("| a program prints") {
            screen = terminal.expect("[q] quit ")?;
            terminal.send_keys("\r")?;
        }
        let (_, screen) = screen.rsplit_once("\x1b[H\x1b[2J").expect("a cleared screen");
        let printed = screen.lines().filter_map(|line| line.trim().strip_prefix("| "));
        let printed: Vec<_> = printed.flat_map(str::split_whitespace).collect();
        assert!(printed.join(" ").ends_with(words), "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= 60), "{screen}");
        terminal.expect("[q] quit ")?;
        terminal.send_keys("q")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn dumb_terminal_gets_plain_text() -> Result {
    for pair in pairs("02")? {
        let screens = screens(&pair, "dumb", "")?;
        assert!(screens.iter().all(|screen| !screen.contains('\x1b')), "{screens:?}");
    }
    Ok(())
}

#[test]
fn changes_are_highlighted() -> Result {
    for pair in pairs("02")? {
        let screens = screens(&pair, "xterm", "")?.concat();
        assert!(screens.contains("\x1b[1;35m* "), "{screens:?}");
    }
    Ok(())
}

/// However slow motion ends, it restores the terminal's settings, and exits with the right status.
#[test]
fn each_way_out_leaves_nothing() -> Result {
    for (key, status) in [("q", "0"), ("c", "0"), ("\u{3}", "130"), ("\r\r\r\rq", "0")] {
        for pair in pairs("03")? {
            let (course, step) = (pair.course.path().display(), pair.program.path().display());
            // The shell must outlive Ctrl-C.
            let script = format!(
                "trap : INT; stty -g; {course} slow 03 --bin {step}; echo status=$?; stty -g"
            );
            let supervisor = pair.course.environment().supervise("/bin/sh", ["-c", &script]);
            let mut terminal = Terminal::start(supervisor)?;
            let before = terminal.expect("\n")?;
            terminal.expect("[q] quit ")?;
            terminal.send_keys(key)?;
            terminal.expect("status=")?;
            let (exit, rest) = terminal.end()?;
            exit.assert_clean();
            assert_eq!(rest.trim_end(), format!("{status}\r\n{}", before.trim_end()), "{key:?}");
        }
    }
    Ok(())
}

/// The screen shows no frame of a call that was about to happen, and every line once.
#[test]
fn run_to_the_end_leaves_a_transcript() -> Result {
    for step in ["02", "03", "04", "05", "06", "07"] {
        for pair in pairs(step)? {
            let supervisor = pair.slow(&[], &[]).env("TERM", "xterm").env("NO_COLOR", "1");
            let mut terminal = Terminal::start(supervisor)?;
            terminal.expect("[q] quit ")?;
            terminal.send_keys("c")?;
            let (exit, rest) = terminal.end()?;
            exit.assert_clean();
            let (_, screen) = rest.split_once("\x1b[H\x1b[2J").expect("a cleared screen");
            assert!(screen.lines().next().is_some_and(|line| line.contains(" run ")), "{screen}");
            assert_eq!(screen.matches("| run PID: ").count(), 1, "{screen}");
            assert_eq!(screen.matches("| init PID: 1").count(), 1, "{screen}");
            assert!(screen.contains("[exit status 0]\r\n\r\nNext: "), "{screen}");
            assert!(!screen.contains("calls") && !screen.contains("Ctrl-C"), "{screen}");
        }
    }
    Ok(())
}

/// The step may sleep, or use the CPU without making calls.
#[test]
fn key_ends_step_that_goes_on() -> Result {
    let busy = ["run", "/bin/sh", "-c", "while :; do :; done"];
    for (args, key) in [(&["run", "/bin/sleep", "1000"][..], "c"), (&busy, "c"), (&busy, "\r")] {
        for pair in pairs("03")? {
            let mut terminal = Terminal::start(pair.slow(&[], args).env("TERM", "xterm"))?;
            let mut screen = terminal.expect("[q] quit ")?;
            // The last frame is the command's start.
            while key == "\r"
                && !(screen.contains("execve(\"/bin/sh\"") && screen.contains("] next"))
            {
                terminal.send_keys(key)?;
                screen = terminal.expect("[q] quit ")?;
            }
            terminal.send_keys(key)?;
            terminal.expect("[q] end the step ")?;
            terminal.send_keys("q")?;
            terminal.expect("[you ended it]\r\n")?;
            let (exit, rest) = terminal.end()?;
            exit.assert_clean();
            assert!(rest.contains("Next:"), "{rest}");
        }
    }
    Ok(())
}

#[test]
fn printed_escapes_never_reach_the_screen() -> Result {
    for pair in pairs("02")? {
        let script = "printf '\\033[2J\\n'\nexit 0";
        let frames = pair.frames(&[], &["run", "/bin/sh", "-c", script])?;
        assert!(frames.contains("| ") && frames.contains("[2J"), "{frames}");
        assert!(!frames.contains('\u{1b}'), "{frames}");
        let mut terminal = Terminal::start(pair.slow(&[], &["run", "/bin/sh", "-c", script]))?;
        terminal.expect("[q] quit ")?;
        terminal.send_keys("c")?;
        terminal.expect("|  [2J\r\n")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn each_command_line_ends_with_its_status() -> Result {
    for pair in pairs("01")? {
        let mut terminal = Terminal::start(pair.slow(&[], &[]))?;
        for end in ["[exit status 0]\r\n[Enter] next command line  [q] quit ", "Next: "] {
            terminal.expect("[q] quit ")?;
            terminal.send_keys("c")?;
            terminal.expect(end)?;
            terminal.send_keys("\r")?;
        }
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

#[test]
fn endless_output_ends_it() -> Result {
    for pair in pairs("02")? {
        let (said, exit) = Transcript::run_with_exit(pair.slow(&[], &["run", "/usr/bin/yes"]))?;
        exit.assert_clean();
        assert!(said.printed.contains("printed more than 4 MiB"), "{}", said.printed);
    }
    Ok(())
}
