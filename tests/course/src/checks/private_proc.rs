//! What is new in step 03: a private /proc.

use harness::{Program, Transcript};

use super::result::{CheckResult, command_line, during, ensure, ensure_clean, prints};

/// The container sees its own processes and no others.
pub(super) fn ps_shows_only_the_container(program: &Program) -> CheckResult {
    // No arguments, because a wrong answer would show other people's.
    prints(program, &["ps", "-e", "-o", "pid=,comm="], "      1 ps\n")
}

/// The container's /proc doesn't cover the host's.
pub(super) fn host_proc_is_unharmed(program: &Program) -> CheckResult {
    let args = ["-c", "\"$0\" run true && ps -o comm= -p $$; :", &program.path().to_string_lossy()];
    let shell = program.environment().supervise("sh", args).on_scratch_host();
    let run = command_line(program, &["run", "true"]);
    let command = format!("{run}, and then `ps`, on a host with a shared `/`");
    let (transcript, exit) = Transcript::run_with_exit(shell).map_err(during(&command))?;
    let shown = transcript.printed.ends_with("sh\n");
    ensure(shown, &command, "`ps` on the host shows sh", &transcript.printed)?;
    ensure_clean(&command, &exit)
}

/// /proc has the mount flags that it needs no program, device or set-user-ID bit for.
pub(super) fn proc_is_nosuid_nodev_noexec(program: &Program) -> CheckResult {
    let command = ["sh", "-c", "grep '^proc /proc ' /proc/mounts | tail -n 1"];
    prints(program, &command, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n")
}
