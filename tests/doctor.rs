//! `just doctor`: in each place that stops a step, it names the cause and what changes it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use course::test_support::programs_for_each_caller;
use harness::test_support::require_tools;
use harness::{
    Caller, Program, Restriction, Result, ScratchDir, Terminal, Transcript, assert_snapshot,
};

fn doctors() -> Vec<Program> {
    programs_for_each_caller(env!("CARGO_BIN_EXE_course"))
}

/// Asserts that it exits with 1, and that what it says contains all of `words`, on lines of at most 80 columns.
#[track_caller]
fn assert_says(restriction: Restriction, words: &[&str]) {
    if !restriction.requirements().into_iter().all(|tool| tool.is_met_or_skip()) {
        return;
    }
    for doctor in doctors().iter().filter(|doctor| restriction.binds(doctor)) {
        let supervisor = restriction.supervise(doctor, &["doctor"]).expect("a restriction");
        let said = Transcript::run(supervisor).expect("an answer");
        let tried = format!("{restriction:?} as {:?}:\n{}", doctor.caller(), said.printed);
        assert_eq!(said.status.code(), Some(1), "{tried}");
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(flat.contains(words), "{words}: {tried}");
        }
        for line in said.printed.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn names_unmapped_user() {
    assert_says(Restriction::UnmappedUser, &["user ID isn't mapped in its user namespace"]);
}

/// From inside, a chroot that looks like the host can't be told from a security module.
#[test]
fn suspects_a_chroot() {
    assert_says(Restriction::Chroot, &["The cause is a chroot"]);
}

#[test]
fn names_chroot_without_mount() {
    assert_says(Restriction::ChrootNotMounted, &["why: This is a chroot"]);
}

#[test]
fn names_limits() {
    assert_says(
        Restriction::UserNsLimit,
        &["user.max_user_namespaces is 0", "fix: sysctl user.max_user_namespaces=10000"],
    );
    assert_says(
        Restriction::PidNsLimit,
        &["user.max_pid_namespaces is 0", "fix: sysctl user.max_pid_namespaces=10000"],
    );
}

#[test]
fn names_nesting_depth() {
    assert_says(Restriction::MaxPidNesting, &["This shell is 32 PID namespaces deep"]);
}

#[test]
fn names_what_covers_proc() {
    assert_says(
        Restriction::CoveredProc,
        &[
            "mount(proc, /proc): Operation not permitted (EPERM) why: Parts of /proc are covered (/proc/sys)",
        ],
    );
}

#[test]
fn names_missing_proc() {
    for place in [Restriction::NoProc, Restriction::NoProcRootless] {
        assert_says(place, &["There is no procfs at /proc", "fix: mount -t proc proc /proc"]);
    }
}

#[test]
fn names_proc_of_a_dead_namespace() {
    assert_says(Restriction::DeadProc, &["a PID namespace that is dead", "fix: umount /proc"]);
}

#[test]
fn names_process_limit() {
    assert_says(
        Restriction::ProcessLimit,
        &[
            "start /proc/self/exe: Try again (EAGAIN)",
            "This user has reached the limit of processes (ulimit -u): 1.",
            "sudo prlimit --pid PID --nproc=10000",
            "These can't: 01, 02,",
        ],
    );
}

#[test]
fn names_ignored_sigchld() {
    assert_says(
        Restriction::IgnoredSigchld,
        &["why: This shell ignores", "fix: env --default-signal=CHLD bash", "can't: 01, 02,"],
    );
}

#[test]
fn names_missing_null_device() {
    assert_says(
        Restriction::NoDev,
        &[
            "There is no /dev/null. fix: mknod -m 666 /dev/null c 1 3",
            "ok a separate /proc,",
            "These can't: 02, 03,",
        ],
    );
}

#[test]
fn names_null_that_is_a_file() {
    assert_says(
        Restriction::NullIsFile,
        &["/dev/null isn't the null device (1:3)", "mknod -m 666", "These can't: 07."],
    );
}

#[test]
fn names_null_that_cannot_be_opened() {
    assert_says(
        Restriction::NullRefused,
        &[
            "open(/dev/null): Permission denied (EACCES) why: /dev/null is on a mount with the option nodev",
        ],
    );
}

/// The steps run on such a host, because they mount their own /proc.
#[test]
fn accepts_proc_subset() -> Result {
    assert_accepts(Restriction::ProcSubset, "note /proc has only processes (subset=pid)")
}

/// Step 07 runs without time namespaces, as on a kernel before 5.6.
#[test]
fn accepts_kernel_without_time_ns() -> Result {
    assert_accepts(Restriction::NoTimeNsKernel, "runs without it: uptime is the host's")
}

/// systemd mounts binfmt_misc on every host, over a directory that the kernel keeps empty.
#[test]
fn ignores_binfmt_misc_mount() -> Result {
    assert_accepts(Restriction::BinfmtMisc, "All steps can run.")?;
    if !require_tools(&["unshare", "mount", "setpriv"]) {
        return Ok(());
    }
    // If something else covers /proc, only that's to blame.
    let cover = "mount -t tmpfs none /proc/sys/fs/binfmt_misc && mount -t tmpfs none /proc/fs && \
        exec setpriv --bounding-set -sys_admin \"$@\"";
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", cover, "sh"];
    for doctor in doctors() {
        let said = Transcript::run(doctor.supervise(["doctor"]).wrapped_by(&wrapper))?.printed;
        assert!(said.contains("/proc/fs") && !said.contains("binfmt"), "{said}");
    }
    Ok(())
}

/// Asserts that every step can run there, and that the report says so with `words`.
#[track_caller]
fn assert_accepts(restriction: Restriction, words: &str) -> Result {
    if !restriction.requirements().into_iter().all(|tool| tool.is_met_or_skip()) {
        return Ok(());
    }
    for doctor in doctors() {
        let said = Transcript::run(restriction.supervise(&doctor, &["doctor"])?)?;
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words) && flat.ends_with("All steps can run."), "{}", said.printed);
        assert_eq!(said.status.code(), Some(0), "{}", said.printed);
    }
    Ok(())
}

#[test]
fn names_filters() {
    assert_says(
        Restriction::NoUnshareNoMount,
        &["why: A seccomp filter refuses every call to unshare(2)"],
    );
    assert_says(Restriction::NoMount, &["why: A filter or a security module refuses mount(2)"]);
}

#[test]
fn names_kernel_without_namespaces() {
    assert_says(
        Restriction::NoNamespaces,
        &["why: This kernel was built without that kind of namespace"],
    );
}

#[test]
fn names_security_module() {
    assert_says(
        Restriction::SecurityModule,
        &["why: A security module, SELinux or AppArmor, forbids the call"],
    );
    let setgroups =
        "write(/proc/self/setgroups): Permission denied (EACCES) why: A security module";
    assert_says(Restriction::UsernsWithoutCaps, &[setgroups]);
}

/// These restrictions stop only step 07.
#[test]
fn names_refused_clock_or_mask() {
    use Restriction::*;
    assert_says(
        NoTimeNs,
        &["(CLONE_NEWTIME): Operation not permitted (EPERM) why: A seccomp filter"],
    );
    assert_says(TimeNsLimit, &["why: user.max_time_namespaces is 0"]);
    assert_says(ReadOnlyProc, &["file system (EROFS) why: /proc is read-only"]);
    assert_says(NoWriting, &["(EACCES) why: A security module, SELinux or AppArmor, forbids"]);
    let bind = "not ok masks in /proc";
    assert_says(NoBind, &[bind, "why: A filter or a security module refuses mount(2)"]);
    assert_says(
        BindForbidden,
        &[bind, "MS_BIND): Permission denied (EACCES) why: A security module"],
    );
    assert_says(
        NoTmpfs,
        &["mount(tmpfs, /proc/fs): Operation not permitted (EPERM) why: A filter"],
    );
    assert_says(NoRemount, &["MS_RDONLY): Operation not permitted (EPERM) why: A filter"]);
    assert_says(
        RemountUnsupported,
        &["(EINVAL) why: This kernel can't create this kind of mount."],
    );
    assert_says(NoSysTime, &["Root without CAP_SYS_TIME", "These can't: 07."]);
}

#[test]
fn names_lost_capability_of_root() {
    assert_says(
        Restriction::Runc,
        &["why: Root without CAP_SETFCAP, as in some containers", "a container: "],
    );
}

/// Only `just start`, `just break`, and tests need git. A checkout without .git is enough.
#[test]
fn says_what_needs_git() -> Result {
    for doctor in doctors() {
        let said = Transcript::run(doctor.supervise(["doctor"]).env("PATH", "/nonexistent"))?;
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = "missing git just start, just break; tests not in PATH; package: git";
        assert!(flat.contains(words) && flat.ends_with("All steps can run."), "{}", said.printed);
    }
    Ok(())
}

/// A TMPDIR that won't do is no missing ability: the harness uses another directory, and doctor says so.
#[test]
fn names_unfit_tmpdir() -> Result {
    let closed = ScratchDir::new("closed")?;
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).expect("chmod");
    for doctor in doctors() {
        let (directory, words) = match doctor.caller() {
            Caller::Root => (closed.path(), "note TMPDIR can't be entered by ordinary users"),
            Caller::Rootless => (Path::new("/nonexistent"), "note TMPDIR doesn't exist"),
        };
        let said = Transcript::run(doctor.supervise(["doctor"]).env("TMPDIR", directory))?;
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words) && flat.ends_with("All steps can run."), "{}", said.printed);
    }
    Ok(())
}

/// Only root can create a device with the mode 0600, and mount it over /dev/null in a private mount namespace.
#[test]
fn names_null_closed_to_ordinary_users() -> Result {
    let doctors = doctors();
    let [root, user] = &doctors[..] else { return Ok(()) };
    let script = "mount -t tmpfs none /mnt && mknod -m 600 /mnt/null c 1 3 || exit 77; \
        mount --bind /mnt/null /dev/null && exec \"$@\"";
    for (caller, end) in
        [("", "All steps can run."), ("54321", "These can't: 02, 03, 04, 05, 06, 07.")]
    {
        let script = match caller {
            "" => script.to_owned(),
            uid => script.replace(
                "exec",
                &format!("exec setpriv --reuid {uid} --regid {uid} --clear-groups"),
            ),
        };
        let path = user.path().to_string_lossy();
        let args = ["--mount", "sh", "-c", &script, "sh", &path, "doctor"];
        let said = Transcript::run(root.environment().supervise("unshare", args))?;
        if said.status.code() == Some(77) {
            return Ok(());
        }
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("/dev/null has the mode 0600"), "{}", said.printed);
        assert!(flat.contains("chmod 666 /dev/null") && flat.ends_with(end), "{}", said.printed);
    }
    Ok(())
}

#[test]
fn terminal_gets_color_and_a_next_step() -> Result {
    for doctor in doctors() {
        let supervisor = doctor.supervise(["doctor"]).env("TERM", "xterm").env("NO_COLOR", "");
        let (exit, shown) = Terminal::start(supervisor)?.end()?;
        assert_eq!(exit.status.code(), Some(0), "{shown}");
        assert!(shown.starts_with("\u{1b}[32mok      \u{1b}[0m Linux "), "{shown}");
        assert!(shown.ends_with("Next:\u{1b}[0m cargo course test\r\n"), "{shown}");
    }
    Ok(())
}

/// The report contains no hostname, username, or private path. The JSON has the same findings.
#[test]
fn reports_success_without_private_data() -> Result {
    for doctor in doctors() {
        let said = Transcript::run(doctor.supervise(["doctor"]))?;
        assert_eq!(said.status.code(), Some(0), "{}", said.printed);
        assert!(said.printed.ends_with("\nAll steps can run.\n"), "{}", said.printed);
        let directory = doctor.directory().to_string_lossy().into_owned();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
        for secret in [host.trim(), &directory, "/home", "/root"] {
            let told = said.printed.split([' ', '\n']).any(|word| word == secret);
            assert!(!told, "{secret}: {}", said.printed);
        }
        let json = doctor.supervise(["doctor", "--json"]).output()?;
        assert_eq!(json.exit.assert_clean().status.code(), Some(0));
        let json = String::from_utf8_lossy(&json.stdout);
        assert!(json.contains("\"all_steps\": true"), "{json}");
        assert!(json.contains("\"check\": \"a PID namespace, without root\""), "{json}");
        // An ordinary user reads nothing about root.
        let about_root = said.printed.contains("as root") || said.printed.contains("sudo");
        assert_eq!(about_root, doctor.caller() == Caller::Root, "{}", said.printed);
    }
    Ok(())
}

/// The book shows this report.
#[test]
fn report_in_a_container() -> Result {
    let doctors = doctors();
    let rootless = doctors.iter().find(|doctor| doctor.caller() == Caller::Rootless);
    let Some(doctor) = rootless else { return Ok(()) };
    if !require_tools(&["unshare", "mount", "setpriv"]) {
        return Ok(());
    }
    let said = Transcript::run(Restriction::CoveredProc.supervise(doctor, &["doctor"])?)?;
    // If these tests run in a container themselves, the doctor names only that container's engine.
    if said.text.contains("a container: ") {
        return Ok(());
    }
    let lines = said.text.lines();
    let tried = lines.filter(|line| !line.starts_with(['m', 'n']) || line.starts_with("not ok"));
    let tried = tried.skip_while(|line| !line.contains("/proc "));
    let tried =
        tried.take_while(|line| ![" temporary ", " git "].iter().any(|at| line.contains(at)));
    let shown: Vec<_> = std::iter::once("$ just doctor").chain(tried).collect();
    assert_snapshot!("covered_proc", shown.join("\n"));
    Ok(())
}
