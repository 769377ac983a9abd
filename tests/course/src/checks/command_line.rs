//! Command line, output, exit status, and what the command inherits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use harness::Program;
use nix::sys::signal::Signal;

use super::result::{
    AND, CheckResult, During, RunOutput, command_line, ensure, how_it_died, run, run_script,
};

/// Runs a command that does nothing.
pub(super) fn runs_true(program: &Program) -> CheckResult {
    run(program, ["run", "true"])?.has_status(0).map(drop)
}

/// Prints `run PID: N`, `init PID: 1` and the first command, on standard error and nowhere else.
pub(super) fn run_and_init_report_their_pids(program: &Program) -> CheckResult {
    let said = run(program, ["run", "echo", "a", "b"])?.has_status(0)?.has_stdout(b"a b\n")?;
    let expected = "run PID: N\ninit PID: 1\ninit: first command of the container: echo a b\n";
    let (first, rest) = said.stderr.split_once('\n').unwrap_or_default();
    let number = first.strip_prefix("run PID: ").is_some_and(|pid| pid.parse::<u32>().is_ok());
    let shown = if number { format!("run PID: N\n{rest}") } else { said.stderr };
    let [wanted, actual] = [expected, &shown].map(|text| format!("standard error:\n{text}"));
    ensure(shown == expected, said.command, wanted, actual)
}

/// Passes on 0, 7, and 255, and what a shell makes of a signal.
pub(super) fn passes_on_exit_status(program: &Program) -> CheckResult {
    for status in [0, 7, 255] {
        run_script(program, &format!("exit {status}"))?.has_status(status)?;
    }
    // The shell that kills itself isn't PID 1, which the kernel would protect.
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV] {
        let signal = signal as i32;
        let line = format!("sh -c 'kill -{signal} $$'; exit $?");
        run_script(program, &line)?.has_status(128 + signal)?;
    }
    Ok(())
}

/// Exits with 127 for "not found" and 126 for "can't be executed", and names the reason.
pub(super) fn exec_failure_exits_126_or_127(program: &Program) -> CheckResult {
    ensure_names_exec_failure(program, "run")?;
    run(program, ["run", "/no/such"])?.has_status(127)?;
    run(program, ["run", "/"])?.has_status(126)?;
    run(program, ["run", ""])?.has_status(127).map(drop)
}

pub(super) fn ensure_names_exec_failure(program: &Program, subcommand: &str) -> CheckResult {
    for (file, status, reason) in [
        ("nosuch", 127, "No such file or directory (ENOENT)"),
        ("/etc/passwd", 126, "Permission denied (EACCES)"),
    ] {
        let line = format!("{}: exec {file}: {reason}\n", program.name());
        run(program, [subcommand, file])?.has_status(status)?.has_in_stderr(&line)?;
    }
    Ok(())
}

/// Exits with 2 after a mistake on the command line.
pub(super) fn usage_error_exits_2(program: &Program) -> CheckResult {
    for args in [&["--odd"] as &[&str], &["nosuch"], &["run", "--odd"], &["init"]] {
        run(program, args)?.has_status(2)?.has_in_stderr("Usage: ")?;
    }
    let help = run(program, ["--help"])?.has_status(0)?;
    let text = help.text();
    let warns = text.contains("Only `run` may use this subcommand");
    ensure(warns, &help.command, "the words: Only `run` may use this subcommand", text.clone())
}

/// Passes on spaces, empty words, leading dashes, and bytes that aren't UTF-8.
pub(super) fn arguments_arrive_byte_for_byte(program: &Program) -> CheckResult {
    ensure_passes_on_arguments(program, "run")?;
    run_script(program, "echo \"a  b\"")?.has_stdout(b"a  b\n")?;
    // Commands with a dash in front, and one whose name is the end of our options.
    for odd in ["-odd", "--", "--help"] {
        let expected = format!("exec {odd}: No such file");
        run(program, ["run", "--", odd])?.has_status(127)?.has_in_stderr(&expected)?;
    }
    Ok(())
}

pub(super) fn ensure_passes_on_arguments(program: &Program, subcommand: &str) -> CheckResult {
    let args = ["printf", "[%s]", "a  b", "", "-x", "--", "--ti", "--help", "$HOME", "'\"\n"];
    let expected = b"[a  b][][-x][--][--ti][--help][$HOME]['\"\n]";
    run(program, [&[subcommand], &args[..]].concat())?.has_status(0)?.has_stdout(expected)?;
    let bytes: [&[u8]; 4] = [subcommand.as_bytes(), b"printf", b"%s", b"\xff\xfe\x01"];
    run(program, bytes.map(OsStr::from_bytes))?.has_status(0)?.has_stdout(b"\xff\xfe\x01").map(drop)
}

/// Passes on standard input with --ti, in any of its spellings, and /dev/null without it.
pub(super) fn ti_passes_on_standard_input(program: &Program) -> CheckResult {
    let with_input = |args: &[&str]| {
        let command = format!("echo input | {}", command_line(program, args));
        let shell = ["sh", "-c", "echo input | \"$@\"", "sh"];
        RunOutput::of(command, program.supervise(args).wrapped_by(&shell))
    };
    for ti in ["--ti", "--it", "-ti", "-it"] {
        with_input(&["run", ti, "cat"])?.has_status(0)?.has_stdout(b"input\n")?;
    }
    with_input(&["run", "--ti", "--it", "cat"])?.has_status(0)?.has_stdout(b"input\n")?;
    with_input(&["run", "cat"])?.has_status(0)?.has_stdout(b"")?;
    with_input(&["run", "readlink", "/dev/fd/0"])?.has_stdout(b"/dev/null\n").map(drop)
}

/// Starts `run --ti /bin/sh` without a subcommand, and /bin/sh without CMD.
pub(super) fn starts_shell_by_default(program: &Program) -> CheckResult {
    for args in [&[] as &[&str], &["run", "--ti"]] {
        let command = command_line(program, args);
        let mut shell = program.session(args).during(&command)?;
        let answer = shell.run("echo $0").during(&command)?;
        let (exit, said) = shell.end().during(&command)?;
        let echo = format!("{command}{AND}and `echo $0` in the shell");
        ensure(answer == "/bin/sh", echo, "/bin/sh", answer)?;
        let expected = "exit status 0 when the shell's input ends";
        ensure(exit.status.success(), &command, expected, how_it_died(exit.status))?;
        let lines = "init: first command of the container: /bin/sh\n";
        let wanted = format!("at the end of standard error: {lines}");
        ensure(said.ends_with(lines), &command, wanted, format!("standard error:\n{said}"))?;
    }
    Ok(())
}

/// Leaves variables, working directory, umask, open files, signal mask, and dispositions as they were.
pub(super) fn command_inherits_environment_unchanged(program: &Program) -> CheckResult {
    ensure_inherits_unchanged(program, "run")
}

/// Compares what a command inherits with what its caller had. The caller is a shell that answers the questions
/// first and then becomes the program, so the two answers can't share a fault of the tests' own.
pub(super) fn ensure_inherits_unchanged(program: &Program, subcommand: &str) -> CheckResult {
    // Shells set _ and SHLVL themselves, and some become their last command without a reset of SIGQUIT.
    let question = "pwd; umask; env | grep -v -e ^_= -e ^SHLVL= | sort; readlink /proc/self/fd/7; \
        grep ^SigIgn /proc/self/status; :";
    let prepare = "umask 027; trap '' USR1; exec 7</etc";
    let script =
        format!("{prepare}; {question}; echo --; exec \"$0\" {subcommand} sh -c '{question}'");
    let shell = program.script(&script).env("ODD", "a  b");
    let command = command_line(program, &[subcommand, "sh", "-c", question]);
    let command =
        format!("{command}{AND}with file descriptor 7 open, umask 027, and SIGUSR1 ignored");
    let output = RunOutput::of(&command, shell)?;
    let printed = output.text();
    let (before, after) = printed.split_once("--\n").unwrap_or((&printed, ""));
    for line in ["0027\n", "\nODD=a  b\n", "\n/etc\n"] {
        ensure(before.contains(line), format!("sh -c {question:?}"), line, before)?;
    }
    let (before, ignored_before) = split_ignored(before);
    let (after, ignored_after) = split_ignored(after);
    ensure(after == before, &command, before, format!("{after}{}", output.stderr))?;
    // SIGPIPE: Rust's runtime ignores it. SIGUSR1: the shell does.
    ensure(ignored_after == ignored_before, &command, ignored_before, ignored_after)?;
    // Not through a shell, which would clear the signal mask.
    let args = [subcommand, "grep", "^SigBlk", "/proc/self/status"];
    let command = format!("{}{AND}with SIGUSR2 blocked", command_line(program, &args));
    let output = RunOutput::of(&command, program.supervise(args).blocking(Signal::SIGUSR2))?;
    let printed = output.text();
    let mask = printed.trim_end().strip_prefix("SigBlk:\t");
    let blocked = mask.map_or(printed.clone(), names);
    ensure(blocked == "SIGUSR2", command, "blocked: SIGUSR2", format!("blocked: {blocked}"))
}

/// Splits off the last line, and names the signals in it.
fn split_ignored(answer: &str) -> (&str, String) {
    let (rest, mask) = answer.split_once("SigIgn:\t").unwrap_or((answer, ""));
    (rest, format!("ignored: {}", names(mask.trim_end())))
}

/// Names the signals in a mask of /proc/PID/status. glibc's posix_spawn ignores 32 and 33, its own, in every
/// child: they say how a process was started, and nothing about the program under test.
fn names(mask: &str) -> String {
    let mask = u64::from_str_radix(mask, 16).unwrap_or_default() & !0x1_8000_0000;
    let numbers = (1..=64).filter(|number| mask >> (number - 1) & 1 == 1);
    let name = |number: i32| {
        Signal::try_from(number).map_or(number.to_string(), |signal| signal.to_string())
    };
    numbers.map(name).collect::<Vec<_>>().join(", ")
}

/// Runs even if no one reads what it prints.
pub(super) fn tolerates_closed_stdio(program: &Program) -> CheckResult {
    for (streams, args, status) in [
        ("2>&-", &["run", "sh", "-c", "exit 7"] as &[&str], 7),
        ("2>/dev/full", &["run", "sh", "-c", "exit 7"], 7),
        ("<&- >&- 2>&-", &["run", "--ti", "sh", "-c", "exit 7"], 7),
        ("2>&-", &["run", "nosuch"], 127),
        ("2>/dev/full", &["init", "sh"], 125),
    ] {
        let line = format!("exec \"$@\" {streams}");
        let command = format!("{} {streams}", command_line(program, args));
        let shell = program.supervise(args).wrapped_by(&["sh", "-c", &line, "sh"]);
        RunOutput::of(command, shell)?.has_status(status)?;
    }
    Ok(())
}

/// Names the call, the errno, and the next action if the kernel refuses.
pub(super) fn reports_unshare_failure(program: &Program) -> CheckResult {
    for (limit, call, drop) in [
        ("max_pid_namespaces", "unshare(CLONE_NEWPID)", ""),
        (
            "max_user_namespaces",
            "unshare(CLONE_NEWUSER|CLONE_NEWPID)",
            "setpriv --bounding-set -sys_admin",
        ),
    ] {
        // Limits are counted per user namespace. In a new one, they are ours to set.
        let line = format!("echo 0 >/proc/sys/user/{limit}; exec {drop} \"$@\"");
        let shell = ["unshare", "--user", "--map-root-user", "sh", "-c", &line, "sh"];
        let name = program.name();
        let command = format!("{name} run true{AND}if the limit user.{limit} is 0");
        let line = format!("{name}: {call}: No space left on device (ENOSPC)\n");
        let output = RunOutput::of(command, program.supervise(["run", "true"]).wrapped_by(&shell))?
            .has_status(125)?
            .has_in_stderr(&line)?;
        let rest = output.stderr.split_once(&line).map_or("", |(_, rest)| rest);
        let has_hint = rest.starts_with("hint: ") && rest.contains("just doctor");
        let expected = "`hint: …` below the message on standard error, which names `just doctor`";
        let actual = format!("standard error:\n{}", output.stderr);
        ensure(has_hint, output.command, expected, actual)?;
    }
    Ok(())
}
