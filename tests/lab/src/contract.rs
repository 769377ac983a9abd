//! What every step from 02 on promises, whatever its lesson: one function a promise, used by the
//! steps' tests.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::spawn;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use predicates::prelude::*;
use signal_hook::consts::{SIGPIPE, SIGUSR1};

use crate::session::patience;
use crate::workplace::left_behind;
use crate::{Ability, Caller, ProcessTree, Step, Transcript, Watch, tools};

/// A promise that was not kept.
#[derive(Debug)]
pub struct Broken {
    /// The command line, or what else was tried.
    pub tried: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub seen: String,
}

/// A promise kept, or not.
pub type Kept = Result<(), Broken>;

/// Fails with what was expected and seen, unless `kept`.
///
/// # Errors
/// Not `kept`.
pub fn expect(
    kept: bool,
    tried: impl Into<String>,
    expected: impl Into<String>,
    seen: impl Into<String>,
) -> Kept {
    match kept {
        true => Ok(()),
        false => Err(Broken { tried: tried.into(), expected: expected.into(), seen: seen.into() }),
    }
}

/// Tests of the promises, for the step whose program is `$program`.
#[macro_export]
macro_rules! contract_tests {
    ($program:expr) => {
        /// What the step's own lesson is, as learners are graded by it.
        #[test]
        fn the_lesson_is_kept() {
            for step in $crate::callers($program) {
                for lesson in $crate::grade::lessons(step.name()) {
                    let kept = lesson.kept(&step);
                    kept.unwrap_or_else(|broken| panic!("{:?}: {broken}", step.caller()));
                }
            }
        }

        mod contract {
            use super::*;
            $crate::contract_tests! { $program =>
                run_says_who_it_is_and_init_is_pid_1
                exit_statuses_are_the_commands_own
                what_cannot_be_started_is_126_or_127
                a_wrong_command_line_is_2
                arguments_arrive_byte_for_byte
                ti_gives_the_command_our_standard_input
                with_no_subcommand_it_is_a_shell
                the_command_finds_its_surroundings_as_they_were
                closed_standard_streams_are_no_reason_to_stop
                init_outside_is_refused
                when_run_is_killed_the_container_dies
                when_pid_1_is_killed_run_says_by_which_signal
                ctrl_c_leaves_nothing
                a_hundred_runs_leave_nothing
                two_hundred_runs_with_victims_leave_nothing
                where_unshare_is_refused_it_says_so
            }
        }
    };
    ($program:expr => $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                for step in $crate::callers($program) {
                    if let Err(broken) = $crate::contract::$promise(&step) {
                        panic!(
                            "{:?}: {}\nexpected: {}\nseen:     {}",
                            step.caller(), broken.tried, broken.expected, broken.seen
                        );
                    }
                }
            }
        )*
    };
}

/// What a command line came to.
struct Said {
    line: String,
    status: u8,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn of(line: impl Into<String>, command: &mut Command) -> Result<Self, Broken> {
        let line = line.into();
        let output = output(command.stdin(Stdio::null()));
        let output = output.map_err(|error| Broken {
            tried: line.clone(),
            expected: "it starts, and ends".into(),
            seen: error.to_string(),
        })?;
        let Ok(status) = u8::try_from(shell_status(output.status)) else {
            unreachable!("an exit status is a byte")
        };
        Ok(Said { line, status, stdout: output.stdout, stderr: output.stderr })
    }

    fn status(self, expected: u8) -> Result<Self, Broken> {
        let seen = || format!("{}; {}", self.status, String::from_utf8_lossy(&self.stderr));
        expect(self.status == expected, &self.line, format!("exit status {expected}"), seen())?;
        Ok(self)
    }

    fn stdout(self, expected: &[u8]) -> Result<Self, Broken> {
        let kept = predicate::eq(expected).eval(&self.stdout[..]);
        let [expected, seen] = [expected, &self.stdout].map(|text| text.escape_ascii().to_string());
        expect(kept, &self.line, format!("standard output: {expected}"), seen)?;
        Ok(self)
    }

    fn stderr(self, expected: impl Predicate<str>) -> Result<Self, Broken> {
        let seen = String::from_utf8_lossy(&self.stderr).into_owned();
        let kept = expected.eval(&seen);
        expect(kept, &self.line, format!("standard error: {expected}"), seen)?;
        Ok(self)
    }
}

/// The output of a command that is to end by itself. Where it does not, or leaves a process behind that has its
/// output open, all that it has started is killed: whoever grades a step that hangs is to have an answer.
///
/// # Errors
/// It does not start, or does not end in time.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id().cast_signed();
    let (ended, end) = channel::<()>();
    let late = spawn(move || {
        let mut late = None;
        while end.recv_timeout(patience()) == Err(RecvTimeoutError::Timeout) {
            // Not waited for yet: the number is still its own.
            let tree = ProcessTree::of(pid);
            let gone = tree.as_ref().is_ok_and(|tree| tree.processes()[0].state == 'Z');
            late.get_or_insert(match gone {
                true => "it ended, and left a process behind that had its output still open",
                false => "it did not end",
            });
            // A second look, if it comes to that, is for what was born during the first.
            let orphans = left_behind().into_iter().map(ProcessTree::of);
            for tree in orphans.chain([tree]).flatten() {
                for process in tree.processes() {
                    let _ = kill(Pid::from_raw(process.pids[0]), Signal::SIGKILL);
                }
            }
        }
        late
    });
    let output = child.wait_with_output();
    drop(ended);
    match late.join() {
        Ok(Some(late)) => {
            let seconds = patience().as_secs();
            Err(io::Error::other(format!("{late} (waited for {seconds} s)")))
        }
        _ => output,
    }
}

/// The status as a shell has it: 128 + N when signal N ended it.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn say<S: AsRef<OsStr>>(step: &Step, args: impl IntoIterator<Item = S>) -> Result<Said, Broken> {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    Said::of(format!("{} {}", step.name(), words.join(" ")), &mut step.command(&args))
}

/// `run PID: N`, `init PID: 1`, and the first command, on standard error and nowhere else.
///
/// # Errors
/// The promise is broken; so for every function here.
pub fn run_says_who_it_is_and_init_is_pid_1(step: &Step) -> Kept {
    let said = say(step, ["run", "echo", "a", "b"])?.status(0)?.stdout(b"a b\n")?;
    let seen = String::from_utf8_lossy(&said.stderr);
    let expected = "run PID: N\ninit PID: 1\ninit: first command of the container: echo a b\n";
    let (first, rest) = seen.split_once('\n').unwrap_or_default();
    let number = first.strip_prefix("run PID: ").is_some_and(|pid| pid.parse::<u32>().is_ok());
    let kept = number && expected == format!("run PID: N\n{rest}");
    expect(kept, &said.line, format!("standard error: {expected}"), seen.clone())
}

/// 0, 7, 255; and 128+N for signal N.
pub fn exit_statuses_are_the_commands_own(step: &Step) -> Kept {
    for status in [0, 7, 255] {
        say(step, ["run", "sh", "-c", &format!("exit {status}")])?.status(status)?;
    }
    // The shell is not PID 1 here, for the kernel protects PID 1 from such signals. It says 128+N.
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV] {
        let signal = signal as i32;
        let line = format!("sh -c 'kill -{signal} $$'; exit $?");
        let status = u8::try_from(128 + signal).unwrap_or(u8::MAX);
        say(step, ["run", "sh", "-c", &line])?.status(status)?;
    }
    Ok(())
}

/// 127 is "not found", 126 "found, but it cannot be executed"; both say which call was refused.
pub fn what_cannot_be_started_is_126_or_127(step: &Step) -> Kept {
    let said = |what: &str| predicate::str::ends_with(format!("{}: exec {what}\n", step.name()));
    say(step, ["run", "nosuch"])?
        .status(127)?
        .stderr(said("nosuch: No such file or directory (ENOENT)"))?;
    say(step, ["run", "/no/such"])?.status(127)?;
    say(step, ["run", "/etc/passwd"])?
        .status(126)?
        .stderr(said("/etc/passwd: Permission denied (EACCES)"))?;
    say(step, ["run", "/"])?.status(126)?;
    say(step, ["run", ""])?.status(127)?;
    Ok(())
}

/// The command line's own mistakes are 2.
pub fn a_wrong_command_line_is_2(step: &Step) -> Kept {
    for args in [&["--odd"] as &[&str], &["nosuch"], &["run", "--odd"], &["init"]] {
        say(step, args)?.status(2)?.stderr(predicate::str::contains("Usage: "))?;
    }
    let help = say(step, ["--help"])?.status(0)?;
    let text = String::from_utf8_lossy(&help.stdout);
    let warns = text.contains("Do not call it outside");
    expect(warns, &help.line, "a warning not to call `init`", text.clone())?;
    Ok(())
}

/// Spaces, nothing, leading dashes, what is not UTF-8: all as given.
pub fn arguments_arrive_byte_for_byte(step: &Step) -> Kept {
    let args =
        ["run", "printf", "[%s]", "a  b", "", "-x", "--", "--ti", "--help", "$HOME", "'\"\n"];
    say(step, args)?.status(0)?.stdout(b"[a  b][][-x][--][--ti][--help][$HOME]['\"\n]")?;
    say(step, ["run", "sh", "-c", "echo \"a  b\""])?.stdout(b"a  b\n")?;
    let bytes: [&[u8]; 4] = [b"run", b"printf", b"%s", b"\xff\xfe\x01"];
    say(step, bytes.map(OsStr::from_bytes))?.status(0)?.stdout(b"\xff\xfe\x01")?;
    // A command with a dash in front, and one that is called like the end of our options.
    for odd in ["-odd", "--", "--help"] {
        say(step, ["run", "--", odd])?
            .status(127)?
            .stderr(predicate::str::contains(format!("exec {odd}: No such file")))?;
    }
    Ok(())
}

/// With --ti, in any of its spellings, standard input is ours; without it, /dev/null.
pub fn ti_gives_the_command_our_standard_input(step: &Step) -> Kept {
    let with_input = |args: &[&str]| {
        let line = "echo input | \"$@\"";
        let path = step.path().to_string_lossy();
        let all = [&["-c", line, "sh", &path], args].concat();
        Said::of(
            format!("echo input | {} {}", step.name(), args.join(" ")),
            &mut step.other("sh", all),
        )
    };
    for ti in ["--ti", "--it", "-ti", "-it"] {
        with_input(&["run", ti, "cat"])?.status(0)?.stdout(b"input\n")?;
    }
    with_input(&["run", "--ti", "--it", "cat"])?.status(0)?.stdout(b"input\n")?;
    with_input(&["run", "cat"])?.status(0)?.stdout(b"")?;
    with_input(&["run", "readlink", "/dev/fd/0"])?.stdout(b"/dev/null\n")?;
    Ok(())
}

/// No subcommand is `run --ti /bin/sh`; no CMD is /bin/sh.
pub fn with_no_subcommand_it_is_a_shell(step: &Step) -> Kept {
    for args in [&[] as &[&str], &["run", "--ti"]] {
        let mut shell = step.session(args);
        let answer = shell.ask("echo $0");
        let (ended, said) = shell.end();
        let tried = format!("{} {}", step.name(), args.join(" "));
        expect(answer == "/bin/sh", &tried, "/bin/sh", answer)?;
        let status = ended.status.to_string();
        expect(
            ended.status.success(),
            &tried,
            "exit status 0 when the shell's input ends",
            status,
        )?;
        let lines = "init: first command of the container: /bin/sh\n";
        expect(said.ends_with(lines), &tried, lines, said)?;
    }
    Ok(())
}

/// Environment, working directory, umask, open files, signal mask and dispositions are what they
/// would have been without the step.
pub fn the_command_finds_its_surroundings_as_they_were(step: &Step) -> Kept {
    let path = step.path().to_string_lossy();
    let printed = |watch: Watch| {
        let printed = Transcript::of(watch).printed;
        let own = |line: &&str| !line.starts_with("run PID") && !line.starts_with("init");
        printed.lines().filter(own).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let question = "pwd; umask; env | sort; ls -l /proc/self/fd/7 | sed 's/.* //'; \
        grep '^SigIgn' /proc/self/status";
    let prepare = "umask 027; trap '' USR1; exec 7</etc; exec \"$@\"";
    let asked = |with: &[&str]| {
        let args = [&["-c", prepare, "sh"], with, &["sh", "-c", question]].concat();
        printed(step.watch_other("sh", args).env("ODD", "a  b"))
    };
    let without = asked(&[]);
    for line in ["0027\n", "\nODD=a  b\n", "\n/etc\n"] {
        expect(without.contains(line), "the same without the step", line, &without)?;
    }
    // SIGUSR1 is ignored, SIGPIPE is not.
    let ignored =
        without.split_once("SigIgn:\t").and_then(|(_, mask)| u64::from_str_radix(mask, 16).ok());
    let bits = ignored.map(|mask| mask & (1 << (SIGPIPE - 1) | 1 << (SIGUSR1 - 1)));
    expect(
        bits == Some(1 << (SIGUSR1 - 1)),
        "the same without the step",
        "SIGUSR1 ignored",
        &without,
    )?;
    let with = asked(&[&path, "run"]);
    expect(with == without, format!("{} run sh -c {question:?}", step.name()), without, with)?;
    // A shell would clear the signal mask.
    let with = printed(
        step.watch(["run", "grep", "^SigBlk", "/proc/self/status"]).blocking(Signal::SIGUSR2),
    );
    let tried = format!("{} run grep ^SigBlk /proc/self/status", step.name());
    expect(with == "SigBlk:\t0000000000000800", tried, "SIGUSR2 is blocked", with)
}

/// Nobody need read what the step says.
pub fn closed_standard_streams_are_no_reason_to_stop(step: &Step) -> Kept {
    for (streams, args, status) in [
        ("2>&-", &["run", "sh", "-c", "exit 7"] as &[&str], 7),
        ("2>/dev/full", &["run", "sh", "-c", "exit 7"], 7),
        ("<&- >&- 2>&-", &["run", "--ti", "sh", "-c", "exit 7"], 7),
        ("2>&-", &["run", "nosuch"], 127),
        ("2>/dev/full", &["init", "sh"], 125),
    ] {
        let line = format!("exec \"$@\" {streams}");
        let path = step.path().to_string_lossy();
        let all = [&["-c", &line, "sh", &path], args].concat();
        let tried = format!("{} {} {streams}", step.name(), args.join(" "));
        Said::of(tried, &mut step.other("sh", all))?.status(status)?;
    }
    Ok(())
}

/// `init` is for `run`. On the host, and as PID 1 of somebody else's PID namespace, it refuses before
/// it touches anything.
pub fn init_outside_is_refused(step: &Step) -> Kept {
    let refused = |watch: Watch, reason: &str| {
        let tried = watch.line();
        let (transcript, ended) = Transcript::and_end(watch.on_scratch_host());
        let status = shell_status(ended.status);
        expect(
            status == 125,
            &tried,
            "exit status 125",
            format!("{status}: {}", transcript.printed),
        )?;
        let line = format!("{}: init: {reason}", step.name());
        expect(transcript.printed.contains(&line), &tried, line, &transcript.printed)?;
        let silent = !transcript.printed.contains("unreached");
        expect(silent, &tried, "the command does not run", transcript.printed)?;
        expect(ended.mounts.is_empty(), &tried, "no mount changed", ended.mounts.join("\n"))
    };
    refused(step.watch(["init", "echo", "unreached"]), "this is PID ")?;
    if !tools(&["unshare"]) {
        return Ok(());
    }
    // A PID namespace with a /proc of its own, as a container engine makes it: PID 1, but not ours.
    let engine = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let inside = [step.path().as_os_str(), "init".as_ref(), "echo".as_ref(), "unreached".as_ref()];
    let args = engine.iter().map(OsStr::new).chain(inside);
    refused(step.watch_other("unshare", args), "the parent is not `run`")?;
    // Here PID 1 has outlived the process that made its namespace, as when `run` is killed before
    // init has asked to die with it.
    let orphaned = "dir=$(mktemp -d); cd \"$dir\"; mkfifo up go; \
        unshare $1 --pid --fork \
            sh -c 'echo >up; read _ <go; exec \"$0\" init echo unreached' \"$0\" & \
        read _ <up; kill -KILL $!; wait $!; echo >go; cd /; rm -r \"$dir\"";
    let path = step.path().to_string_lossy();
    let user = if step.caller() == Caller::Root { "" } else { "--user --map-root-user" };
    let watch = step.watch_other("sh", ["-c", orphaned, &path, user]);
    let (transcript, ended) = Transcript::and_end(watch);
    let tried = format!("{} init, when its parent is dead", step.name());
    let line = format!("{}: init: the parent is not `run`", step.name());
    expect(transcript.printed.contains(&line), &tried, line, &transcript.printed)?;
    expect(ended.left.is_empty(), &tried, "no process is left", ended.left.join("\n"))
}

/// A signal leaves no exit status. `run` makes it 128+N, as a shell does.
pub fn when_pid_1_is_killed_run_says_by_which_signal(step: &Step) -> Kept {
    let shell = step.session(["run", "--ti", "sh"]);
    let tree = shell.tree();
    let tried = format!("{} run --ti sh, and SIGKILL to PID 1 from outside", step.name());
    let first = tree.processes().into_iter().find(|process| process.pids.last() == Some(&1));
    let pid = first.map_or(0, |first| first.pids[0]);
    expect(pid > 1, &tried, "a process with the PID 1 inside", tree.text())?;
    let killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
    expect(killed.is_ok(), &tried, "it can be killed from outside", format!("{killed:?}"))?;
    let (ended, _) = shell.wait();
    let code = ended.status.code();
    expect(code == Some(137), &tried, "exit status 137", format!("{}", ended.status))?;
    expect(ended.left.is_empty(), &tried, "no process is left", ended.left.join("\n"))
}

/// However `run` is killed, nothing of the container is left.
pub fn when_run_is_killed_the_container_dies(step: &Step) -> Kept {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let tried = format!("{} run --ti sh, and {signal} to run", step.name());
        let mut shell = step.session(["run", "--ti", "sh"]);
        // A job in the background, which would go on.
        shell.ask("sleep 1000 </dev/null >/dev/null 2>&1 &");
        let tree = shell.tree();
        let processes = tree.processes().len();
        expect(processes >= 3, &tried, "run, sh, sleep", tree.text())?;
        shell.signal(signal);
        let (ended, _) = shell.wait();
        expect(ended.left.is_empty(), &tried, "no process is left", ended.left.join("\n"))?;
        let (status, expected) = (shell_status(ended.status), 128 + signal as i32);
        expect(status == expected, &tried, format!("status {expected}"), status.to_string())?;
    }
    Ok(())
}

/// Ctrl-C in a terminal ends `run --ti cat`, and all that belongs to it.
pub fn ctrl_c_leaves_nothing(step: &Step) -> Kept {
    // No shell, not even one that becomes another program at once: some have a handler for INT, by which they end
    // as PID 1 too, whether `run` has seen to that or not.
    let mut terminal = step.terminal(["run", "--ti", "cat"]);
    terminal.press("a line\r");
    // The terminal shows what is typed, and then what cat says.
    terminal.wait_for("a line\r\n");
    terminal.wait_for("a line\r\n");
    terminal.press("\u{3}");
    let (ended, _) = terminal.end();
    let tried = format!("{} run --ti cat, and Ctrl-C", step.name());
    expect(ended.left.is_empty(), &tried, "no process is left", ended.left.join("\n"))?;
    let status = shell_status(ended.status);
    expect(status == 130, &tried, "status 130", status.to_string())
}

/// No process, no mount, no file, where `/` is shared. Where there are two callers, each makes half of them.
pub fn a_hundred_runs_leave_nothing(step: &Step) -> Kept {
    let program = step.path().to_string_lossy();
    let runs = if geteuid().is_root() { 50 } else { 100 };
    let line = format!(
        "n=0; while [ $n -lt {runs} ]; do \"$0\" run true || exit; n=$((n+1)); done 2>/dev/null"
    );
    let watch = step.watch_other("sh", ["-c", &line, &program]).on_scratch_host();
    let files = || std::fs::read_dir(step.directory()).map(Iterator::count).unwrap_or_default();
    let before = files();
    let (transcript, ended) = Transcript::and_end(watch);
    let tried = format!("{runs} times: {} run true", step.name());
    let status = shell_status(ended.status);
    expect(status == 0, &tried, "exit status 0", format!("{status}: {}", transcript.printed))?;
    expect(ended.left.is_empty(), &tried, "no process is left", ended.left.join("\n"))?;
    expect(ended.mounts.is_empty(), &tried, "no mount is left", ended.mounts.join("\n"))?;
    expect(files() == before, &tried, "no file is left", files().to_string())
}

/// No process, mount, namespace, open file or file, when a third of the runs are killed at random
/// moments. `just soak` does the same with two thousand.
pub fn two_hundred_runs_with_victims_leave_nothing(step: &Step) -> Kept {
    if !Ability::Userns.or_report() || !tools(&["setpriv"]) {
        return Ok(());
    }
    // Half of the runs that root starts go without CAP_SYS_ADMIN.
    if step.caller() == Caller::Rootless && geteuid().is_root() {
        return Ok(());
    }
    let program = step.path().to_string_lossy();
    let lab = Step::new(&crate::watch::program(), step.caller());
    let args = ["soaking", "--runs=200", "--at-once=16", "--seed=1", "--program", &program];
    let mut soak = lab.command(args);
    soak.env("LAB_PATIENCE", patience().as_secs().to_string());
    let said = Said::of(format!("200 times: {}", step.name()), &mut soak)?;
    let seen =
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    expect(said.status == 0, said.line, "nothing is left", seen)
}

/// Where the kernel refuses, the step names the call, the errno, and a way out.
pub fn where_unshare_is_refused_it_says_so(step: &Step) -> Kept {
    if !tools(&["unshare", "setpriv"]) {
        return Ok(());
    }
    for (limit, call) in [
        ("max_pid_namespaces", "unshare(CLONE_NEWPID)"),
        ("max_user_namespaces", "unshare(CLONE_NEWUSER|CLONE_NEWPID)"),
    ] {
        // Limits are counted per user namespace: in a new one, they are ours to set.
        let line = format!(
            "echo 0 >/proc/sys/user/{limit}; exec {} \"$@\"",
            if limit == "max_user_namespaces" { "setpriv --bounding-set -sys_admin" } else { "" },
        );
        let program = step.path().to_string_lossy();
        let args = ["--user", "--map-root-user", "sh", "-c", &line, "sh", &program, "run", "true"];
        let tried = format!("{} run true, with user.{limit} at 0", step.name());
        let expected = format!("{}: {call}: No space left on device (ENOSPC)\nhint: ", step.name());
        Said::of(tried, &mut step.other("unshare", args))?
            .status(125)?
            .stderr(predicate::str::contains(expected))?
            .stderr(predicate::str::contains("just doctor"))?;
    }
    Ok(())
}
