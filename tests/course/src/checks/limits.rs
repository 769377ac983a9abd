//! The checks that step 07 adds: a clock, masks, and read-only paths.

use std::time::Instant;

use harness::{Caller, Program, Restriction};

use super::result::{AND, CheckResult, During, RunOutput, command_line, ensure, run, run_script};

/// The paths that runc masks by default, and those that it makes read-only (`runc spec`).
const MASKED: &str = "/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list \
    /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware";
const READ_ONLY: &str = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger";

/// Runs `run` with `before` in front, and compares the uptime inside with the time that passed here. The host may
/// have booted a moment ago, so a fixed limit could pass by accident.
fn starts_at_zero(program: &Program, before: &[&str]) -> CheckResult {
    let args = [before, &["run", "cut", "-d.", "-f1", "/proc/uptime"]].concat();
    let start = Instant::now();
    let output = run(program, args)?.has_status(0)?;
    let limit = start.elapsed().as_secs() + 1;
    let shown = output.text().trim().to_owned();
    let passed = shown.parse().is_ok_and(|uptime: u64| uptime <= limit);
    // Our caller finds the program by its name, too.
    let command = output.command.replace(&*program.path().to_string_lossy(), program.name());
    ensure(passed, command, format!("an uptime of at most {limit} s"), format!("{shown} s"))
}

/// The uptime is the container's.
pub(super) fn clock_starts_at_zero(program: &Program) -> CheckResult {
    starts_at_zero(program, &[])
}

/// The uptime is the container's even if the caller's clock has an offset.
pub(super) fn clock_of_nested_container_starts_at_zero(program: &Program) -> CheckResult {
    starts_at_zero(program, &["run", &program.path().to_string_lossy()])
}

/// Runs a script for each of the paths that exist. It prints the path if it isn't as it should be.
fn each_path_is(
    program: &Program,
    paths: &str,
    look: &str,
    expected: &str,
    script: &str,
) -> CheckResult {
    let script =
        format!("for path in {paths}; do [ ! -e $path ] || {{ {script}; }}; done; echo checked");
    let output = run_script(program, &script)?.has_status(0)?;
    let shown = output.text();
    let others = shown.strip_suffix("checked\n");
    let wrong = others.map(|paths| paths.split_whitespace().collect::<Vec<_>>().join(" "));
    let look = look.replace("PATHS", wrong.as_deref().unwrap_or(paths));
    let command = format!("{} run {look}", program.name());
    let actual = wrong.map(|wrong| format!("not as expected: {}", wrong.replace(' ', ", ")));
    ensure(others == Some(""), command, expected, actual.unwrap_or(shown))
}

/// A masked file is the null device.
pub(super) fn masks_files(program: &Program) -> CheckResult {
    let script = "[ -d $path ] || [ -c $path ] || echo $path";
    let expected = "each file is the null device, with the numbers 1 and 3";
    each_path_is(program, MASKED, "ls -l PATHS", expected, script)
}

/// A masked directory is an empty one, which stays empty.
pub(super) fn masks_directories(program: &Program) -> CheckResult {
    let script = "[ ! -d $path ] || grep -q \"^tmpfs $path tmpfs ro,\" /proc/mounts || echo $path";
    let expected = "a read-only tmpfs is mounted over each directory";
    each_path_is(program, MASKED, "cat /proc/mounts", expected, script)
}

/// If something can't be masked, the command doesn't start.
pub(super) fn failed_mask_exits_125(program: &Program) -> CheckResult {
    let args = ["run", "echo", "started"];
    let line = command_line(program, &args);
    let command = format!("{line}{AND}if the kernel refuses bind mounts");
    let supervisor = Restriction::NoBind.supervise(program, &args).during(&command)?;
    let output = RunOutput::of(command, supervisor)?.has_status(125)?.has_stdout(b"")?;
    // A read-only path is a bind mount, too, and its error comes later.
    let named = MASKED.split_whitespace().any(|path| output.stderr.contains(path));
    ensure(named, output.command, "an error that names a path to mask", output.stderr)
}

/// A mask must be empty.
pub(super) fn refuses_false_dev_null(program: &Program) -> CheckResult {
    let as_root: &[&str] =
        if program.caller() == Caller::Root { &[] } else { &["--user", "--map-root-user"] };
    let script = "echo words >text; mount --bind text /dev/null && exec \"$@\"";
    let host = [&["unshare"], as_root, &["--mount", "sh", "-c", script, "sh"]].concat();
    let args = ["run", "cat", "/proc/keys"];
    let line = command_line(program, &args);
    let command = format!("{line}{AND}if /dev/null is a regular file with text in it");
    let output = RunOutput::of(command, program.supervise(args).wrapped_by(&host))?;
    output.has_status(125)?.has_stdout(b"").map(drop)
}

/// The files below a read-only path can be read but not written.
pub(super) fn protects_kernel_settings(program: &Program) -> CheckResult {
    let script = "grep -q \"^proc $path proc ro,nosuid,nodev,noexec,\" /proc/mounts || echo $path";
    let expected = "each path is a mount with the options ro, nosuid, nodev and noexec";
    each_path_is(program, READ_ONLY, "cat /proc/mounts", expected, script)
}
