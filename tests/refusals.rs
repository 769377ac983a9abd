//! Each step under every restriction that the harness can make. If the step works anyway, it exits with the command's
//! status. Otherwise it prints one error and one hint, exits with 125, and leaves nothing behind.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

use course::step::Step;
use course::test_support::programs_for_each_caller;
use harness::{Caller, Program, Restriction, Result, Transcript, assert_snapshot};
use regex_lite::Regex;

/// The message that a restriction makes the steps print, from step `first` on, until a row with a later step.
struct Row {
    first: u32,
    caller: Option<Caller>,
    message: &'static str,
    /// The snapshot of the first step's message, for the book.
    snapshot: Option<&'static str>,
}

/// One test for each restriction.
macro_rules! refusals {
    ($($test:ident: $restriction:ident $(; $first:literal $($caller:ident)? $message:literal $(=> $snapshot:literal)?)*,)*) => {
        $(
            #[test]
            fn $test() -> Result {
                check(Restriction::$restriction, &[$(Row {
                    first: $first,
                    caller: refusals!(@caller $($caller)?),
                    message: $message,
                    snapshot: refusals!(@snapshot $($snapshot)?),
                }),*])
            }
        )*

        #[test]
        fn every_restriction_has_a_test() {
            let tested = [$(Restriction::$restriction),*];
            for (index, restriction) in Restriction::all().enumerate() {
                assert_eq!(tested.get(index), Some(&restriction), "row {index} of `refusals!`");
            }
            assert_eq!(tested.len(), Restriction::all().count(), "a row is there twice");
        }
    };
    (@caller) => { None };
    (@caller $caller:ident) => { Some(Caller::$caller) };
    (@snapshot) => { None };
    (@snapshot $snapshot:literal) => { Some($snapshot) };
}

refusals! {
    reports_unmapped_user: UnmappedUser;
        2 "unshare(CLONE_NEWUSER|CLONE_NEWPID): Operation not permitted (EPERM)" => "unmapped_user",
    reports_chroot_without_caps: Chroot;
        2 "unshare(CLONE_NEWUSER|CLONE_NEWPID): Operation not permitted (EPERM)",
    reports_chroot_not_mounted: ChrootNotMounted;
        3 "mount(/, MS_REC|MS_PRIVATE): Invalid argument (EINVAL)" => "chroot_not_mounted",
    reports_user_ns_limit: UserNsLimit;
        2 "unshare(CLONE_NEWUSER|CLONE_NEWPID): No space left on device (ENOSPC)" => "user_ns_limit",
    reports_pid_ns_limit: PidNsLimit;
        2 "unshare(CLONE_NEWPID): No space left on device (ENOSPC)" => "pid_ns_limit",
    reports_max_pid_nesting: MaxPidNesting;
        2 "unshare(CLONE_NEWPID): No space left on device (ENOSPC)",
    reports_covered_proc: CoveredProc;
        3 "mount(proc, /proc): Operation not permitted (EPERM)" => "covered_proc",
    tolerates_read_only_root: ReadOnlyRoot,
    reports_missing_proc: NoProc;
        2 "start /proc/self/exe: No such file or directory (ENOENT)" => "missing_proc";
        7 "read(/proc/self/timens_offsets): No such file or directory (ENOENT)",
    reports_missing_proc_rootless: NoProcRootless;
        2 "write(/proc/self/setgroups): No such file or directory (ENOENT)" => "missing_proc_rootless",
    reports_dead_proc: DeadProc;
        2 "start /proc/self/exe: No such file or directory (ENOENT)" => "dead_proc";
        7 "read(/proc/self/timens_offsets): No such file or directory (ENOENT)",
    tolerates_binfmt_misc_mount: BinfmtMisc,
    reports_missing_dev: NoDev;
        2 "open(/dev/null): No such file or directory (ENOENT)" => "missing_dev",
    reports_null_that_is_a_file: NullIsFile;
        7 "init: /dev/null isn't the null device, so it would mask nothing" => "null_is_file",
    reports_refused_null: NullRefused;
        2 "open(/dev/null): Permission denied (EACCES)" => "refused_null",
    tolerates_proc_subset: ProcSubset,
    reports_ignored_sigchld: IgnoredSigchld;
        1 "exec sh: No child processes (ECHILD)";
        2 "start /proc/self/exe: No child processes (ECHILD)";
        4 "run: SIGCHLD is ignored: start this with env --default-signal=CHLD" => "refused_ignored_sigchld",
    tolerates_deleted_directory: DeletedDirectory,
    tolerates_missing_path: NoPath,
    reports_process_limit: ProcessLimit;
        1 "exec sh: Try again (EAGAIN)";
        2 "start /proc/self/exe: Try again (EAGAIN)" => "process_limit",
    reports_refused_unshare_and_mount: NoUnshareNoMount;
        2 "unshare(CLONE_NEWUSER|CLONE_NEWPID): Operation not permitted (EPERM)",
    reports_refused_mount: NoMount;
        3 "mount(/, MS_REC|MS_PRIVATE): Operation not permitted (EPERM)" => "refused_mount",
    reports_missing_namespaces: NoNamespaces;
        2 "unshare(CLONE_NEWPID): Invalid argument (EINVAL)" => "missing_namespaces",
    reports_userns_without_caps: UsernsWithoutCaps;
        2 "write(/proc/self/setgroups): Permission denied (EACCES)" => "userns_without_caps",
    reports_security_module: SecurityModule;
        2 "unshare(CLONE_NEWPID): Permission denied (EACCES)" => "security_module",
    reports_runc_container: Runc;
        2 "write(/proc/self/uid_map): Operation not permitted (EPERM)" => "runc_container",
    reports_refused_time_ns: NoTimeNs;
        7 "unshare(CLONE_NEWTIME): Operation not permitted (EPERM)" => "refused_time_ns",
    tolerates_kernel_without_time_ns: NoTimeNsKernel,
    reports_time_ns_limit: TimeNsLimit;
        7 "unshare(CLONE_NEWTIME): No space left on device (ENOSPC)" => "time_ns_limit",
    reports_missing_sys_time: NoSysTime;
        7 "write(/proc/self/timens_offsets): Operation not permitted (EPERM)" => "missing_sys_time",
    reports_read_only_proc: ReadOnlyProc;
        7 "write(/proc/self/timens_offsets): Read-only file system (EROFS)" => "read_only_proc",
    reports_refused_writing: NoWriting;
        2 Rootless "write(/proc/self/setgroups): Permission denied (EACCES)";
        7 Root "write(/proc/self/timens_offsets): Permission denied (EACCES)" => "refused_writing",
    reports_refused_bind: NoBind;
        7 "mount(/dev/null, /proc/keys, MS_BIND): Operation not permitted (EPERM)" => "refused_bind",
    reports_forbidden_bind: BindForbidden;
        7 "mount(/dev/null, /proc/keys, MS_BIND): Permission denied (EACCES)" => "forbidden_bind",
    reports_refused_tmpfs: NoTmpfs;
        7 "mount(tmpfs, /sys/firmware): Operation not permitted (EPERM)" => "refused_tmpfs",
    reports_refused_remount: NoRemount;
        7 "mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY): Operation not permitted (EPERM)"
            => "refused_remount",
    reports_unsupported_remount: RemountUnsupported;
        7 "mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY): Invalid argument (EINVAL)"
            => "unsupported_remount",
}

/// The steps and their programs. COURSE_STEP limits them to one.
fn steps() -> &'static [(Step, PathBuf)] {
    static STEPS: OnceLock<Vec<(Step, PathBuf)>> = OnceLock::new();
    STEPS.get_or_init(|| {
        let only = env::var("COURSE_STEP").ok();
        let steps = Step::all().expect("the steps").into_iter();
        let steps = steps.filter(|step| only.as_ref().is_none_or(|only| step.to_string() == *only));
        steps.map(|step| (step.clone(), step.build().expect("it builds"))).collect()
    })
}

fn check(restriction: Restriction, rows: &[Row]) -> Result {
    if !restriction.requirements().into_iter().all(|tool| tool.is_met_or_skip()) {
        return Ok(());
    }
    // From the step before the first that notices on.
    let from = rows.iter().map(|row| row.first).min().unwrap_or(1).saturating_sub(1);
    for (step, path) in steps().iter().filter(|(step, _)| step.number >= from) {
        let programs = programs_for_each_caller(path);
        for program in programs.iter().filter(|program| restriction.binds(program)) {
            let applies = |row: &&Row| {
                let caller = row.caller.is_none_or(|caller| caller == program.caller());
                row.first <= step.number && caller
            };
            let row = rows.iter().filter(applies).max_by_key(|row| row.first);
            check_program(restriction, step, program, row)?;
            let snapshot = row.filter(|row| row.first == step.number).and_then(|row| row.snapshot);
            if let Some(name) = snapshot {
                let said = Transcript::run(restriction.supervise(program, &["run", "true"])?)?;
                // In runc's container the PID isn't the host's.
                let text = if restriction == Restriction::Runc {
                    said.text
                } else {
                    said.redacted(&[r"run PID: (\d+)"])?
                };
                assert_snapshot!(name, first_mask(&text));
            }
        }
    }
    Ok(())
}

fn check_program(
    restriction: Restriction,
    step: &Step,
    program: &Program,
    row: Option<&Row>,
) -> Result {
    let tried = format!("{restriction:?}, {step} as {:?}", program.caller());
    // Not `test -w`: the one of busybox looks at the mode, which root doesn't need.
    let writable = restriction == Restriction::ReadOnlyRoot;
    let script = if writable { "! touch -c / 2>/dev/null && exit 7" } else { "exit 7" };
    let [subcommand, _] = step.subcommands();
    let supervisor = restriction.supervise(program, &[subcommand, "sh", "-c", script])?;
    let (said, exit) = Transcript::run_with_exit(supervisor)?;
    let printed = first_mask(&said.printed);
    // The first step has nothing but the command, which can't be executed.
    let expected = if row.is_none() {
        7
    } else if step.has_container() {
        125
    } else {
        126
    };
    assert_eq!(exit.shell_status(), expected, "{tried}: {printed}");
    if let Some(row) = row {
        let message = format!("{step}: {}", row.message);
        let knows_cause = row.message.starts_with("init: ") || row.message.starts_with("run: ");
        let lines: Vec<_> = printed.lines().collect();
        let right = match lines[..] {
            // The step itself knows the cause, and needs no doctor to find it.
            [.., last] if !step.has_container() || knows_cause => last == message,
            [.., before, last] => {
                before == message && last == "hint: run 'just doctor'; it finds out why"
            }
            _ => false,
        };
        assert!(right, "{tried}: expected {message} and a hint:\n{printed}");
    }
    for line in printed.lines().filter(|line| line.starts_with("hint: ")) {
        assert!(line.chars().count() <= 80, "{tried}: {line}");
    }
    assert!(!printed.contains("panicked"), "{tried}: {printed}");
    exit.assert_clean();
    Ok(())
}

/// Which path is masked first depends on the kernel, and so does the message. Here the first file is always
/// /proc/keys, and the first directory /sys/firmware.
fn first_mask(text: &str) -> String {
    let file = Regex::new(r"mount\(/dev/null, [^,]+,").expect("a regular expression");
    let text = file.replace(text, "mount(/dev/null, /proc/keys,");
    let directory = Regex::new(r"mount\(tmpfs, [^)]+\)").expect("a regular expression");
    directory.replace(&text, "mount(tmpfs, /sys/firmware)").into_owned()
}
