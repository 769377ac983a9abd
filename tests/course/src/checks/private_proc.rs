//! The checks that step 03 adds: a private /proc.

use harness::{Program, Transcript};

use super::pid_namespace::ensure_new_namespace;
use super::result::{
    AND, CheckResult, During, RunOutput, command_line, ensure, ensure_clean, prints, run,
};

/// The command is in a new mount namespace.
pub(super) fn command_has_its_own_mounts(program: &Program) -> CheckResult {
    ensure_new_namespace(program, "mnt", &[])
}

/// No mount inside propagates in either direction, even if every mount of the host is shared.
pub(super) fn mounts_are_private(program: &Program) -> CheckResult {
    let script = "sed -n 's/.* \\(shared\\|master\\):.* - .*/\\1/p' /proc/self/mountinfo | sort -u";
    let args = ["run", "sh", "-c", script];
    let line = command_line(program, &["run", "cat", "/proc/self/mountinfo"]);
    let command = format!("{line}{AND}on a host whose `/` is shared");
    let output =
        RunOutput::of(&command, program.supervise(args).on_scratch_host())?.has_status(0)?;
    let found = output.text();
    let expected = "no mount propagates to the host (`shared:`) or from the host (`master:`)";
    let actual = format!("mounts with `{}:`", found.trim().replace('\n', ":` and `"));
    ensure(found.is_empty(), command, expected, actual)
}

/// The container sees its own processes and no others.
pub(super) fn ps_shows_only_the_container(program: &Program) -> CheckResult {
    // No arguments, because a wrong answer would show other people's.
    let output = run(program, ["run", "ps", "-e", "-o", "pid=,comm="])?;
    // The column is as wide as the kernel's highest PID.
    let text = output.text();
    let lines: Vec<_> = text.trim().lines().map(str::trim).collect();
    // The kernel names a process after the last part of the path that it was started as.
    let explain = |line: &&str| {
        let note = if line.ends_with(" exe") { " (started as /proc/self/exe)" } else { "" };
        format!("{line}{note}")
    };
    let shown: Vec<_> = lines.iter().map(explain).collect();
    let actual = format!("standard output: {}", shown.join("\n"));
    ensure(lines == ["1 ps"], output.command, "standard output: 1 ps", actual)
}

/// The container has its own /proc, and the host keeps its own.
pub(super) fn host_proc_is_unharmed(program: &Program) -> CheckResult {
    // The last command isn't `ps`, because some shells would become it.
    let script = "\"$0\" run readlink /proc/self && ps -o comm= -p $$; :";
    let shell = program.script(script).on_scratch_host();
    let run = command_line(program, &["run", "readlink", "/proc/self"]);
    let command =
        format!("{run}{AND}and then `ps -o comm= -p $$` on the host, whose `/` is shared");
    let (transcript, exit) = Transcript::run_with_exit(shell).during(&command)?;
    // Depending on the step, the command is PID 1 or 2 inside.
    let shown = ["\n1\nsh\n", "\n2\nsh\n"].iter().any(|end| transcript.printed.ends_with(end));
    let expected = "PID 1 or 2 inside the container, and then sh, which is the host's shell";
    ensure(shown, &command, expected, &transcript.printed)?;
    ensure_clean(&command, &exit)
}

/// The new /proc has the three flags that keep set-user-ID bits, devices, and programs out.
pub(super) fn proc_is_nosuid_nodev_noexec(program: &Program) -> CheckResult {
    let command = ["sh", "-c", "grep '^proc /proc ' /proc/mounts | tail -n 1"];
    prints(program, &command, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n")
}
