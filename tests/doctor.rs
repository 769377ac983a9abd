//! `just doctor`: in each place that stops a step, it names the cause.

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use insta::assert_snapshot;
use lab::{Caller, Hostile, Step, Transcript, callers, snapshots, tools};
use predicates::prelude::*;

fn doctors() -> Vec<Step> {
    callers(cargo_bin!("lab"))
}

/// What it says in `place` has all of `words`, on lines of at most 80 columns, and it exits with 1.
#[track_caller]
fn it_says(place: Hostile, words: &[&str]) {
    for doctor in doctors() {
        if !place.stops(&doctor) {
            continue;
        }
        let said = Transcript::of(place.watch(&doctor, &["doctor"]));
        let caller = doctor.caller();
        assert_eq!(said.status.code(), Some(1), "{caller:?}, {place:?}: {}", said.printed);
        let flat = said.printed.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(flat.contains(words), "{caller:?}, {place:?}: {words}\n{}", said.printed);
        }
        for line in said.printed.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn it_names_a_user_without_a_number() {
    it_says(Hostile::Unmapped, &["has no number in its user namespace"]);
}

/// From inside, a chroot that looks like the host cannot be told from a security module.
#[test]
fn it_says_that_it_may_be_a_chroot() {
    it_says(Hostile::Chroot, &["One of these: a chroot;"]);
}

#[test]
fn it_names_a_chroot_that_is_no_mount() {
    it_says(Hostile::ChrootDirectory, &["why: This is a chroot"]);
}

#[test]
fn it_names_limits() {
    it_says(
        Hostile::NoUserNamespaces,
        &["user.max_user_namespaces is 0", "change: sudo sysctl user.max_user_namespaces=10000"],
    );
    it_says(
        Hostile::NoPidNamespaces,
        &["user.max_pid_namespaces is 0", "change: sudo sysctl user.max_pid_namespaces=10000"],
    );
}

#[test]
fn it_names_the_depth() {
    it_says(Hostile::Deep, &["This shell is 32 PID namespaces deep"]);
}

#[test]
fn it_names_what_covers_proc() {
    it_says(
        Hostile::CoveredProc,
        &[
            "mount(proc, /proc): Operation not permitted (EPERM) why: Parts of /proc are covered (/proc/sys)",
        ],
    );
}

#[test]
fn it_names_a_missing_proc() {
    for place in [Hostile::NoProc, Hostile::NoProcRootless] {
        it_says(place, &["not ok /proc", "change: sudo umount /proc"]);
    }
}

#[test]
fn it_names_filters() {
    it_says(Hostile::Filtered, &["why: A seccomp filter refuses the call unshare(2)"]);
    it_says(Hostile::NoMount, &["why: A filter or a security module refuses mount(2)"]);
}

#[test]
fn it_names_a_kernel_without_namespaces() {
    it_says(Hostile::NoNamespaces, &["why: This kernel was built without that kind of namespace"]);
}

#[test]
fn it_names_a_security_module() {
    it_says(Hostile::Forbidden, &["why: A security module forbids it: SELinux or AppArmor"]);
    let setgroups =
        "write(/proc/self/setgroups): Permission denied (EACCES) why: A security module";
    it_says(Hostile::NoRightsInside, &[setgroups]);
}

/// What stops step 05 alone.
#[test]
fn it_names_what_refuses_a_clock_or_a_mask() {
    use Hostile::*;
    it_says(NoClock, &["(CLONE_NEWTIME): Operation not permitted (EPERM) why: A seccomp filter"]);
    it_says(NoTimeNamespaces, &["why: user.max_time_namespaces is 0"]);
    it_says(ReadOnlyProc, &["file system (EROFS) why: /proc is read-only"]);
    it_says(NoWriting, &["(EACCES) why: A security module forbids it"]);
    let bind = "not ok masks in /proc";
    it_says(NoBind, &[bind, "why: A filter or a security module refuses mount(2)"]);
    it_says(BindForbidden, &[bind, "MS_BIND): Permission denied (EACCES) why: A security module"]);
    it_says(NoTmpfs, &["mount(tmpfs, /proc/fs): Operation not permitted (EPERM) why: A filter"]);
    it_says(NoRemount, &["MS_RDONLY): Operation not permitted (EPERM) why: A filter"]);
    it_says(RemountUnknown, &["(EINVAL) why: This kernel cannot mount so."]);
    // An ordinary user has all capabilities in a user namespace: that way is open.
    for doctor in doctors().iter().filter(|doctor| NoTimeRight.stops(doctor)) {
        let said = Transcript::of(NoTimeRight.watch(doctor, &["doctor"])).printed;
        assert!(said.contains("Root without CAP_SYS_TIME") && said.contains("All steps"), "{said}");
    }
}

#[test]
fn it_names_what_runc_takes_from_root() {
    it_says(Hostile::Runc, &["why: Root without CAP_SETFCAP, as in a container", "a container: "]);
}

/// Where all steps run it says so, exits with 0, and names neither the host nor the user nor a path of
/// theirs. Its JSON has the same.
#[test]
fn where_all_is_well_it_says_so_and_gives_nothing_away() {
    for doctor in doctors() {
        let said = Transcript::of(doctor.watch(["doctor"]));
        assert_eq!(said.status.code(), Some(0), "{}", said.printed);
        assert!(said.printed.ends_with("\nAll steps can run.\n"), "{}", said.printed);
        let directory = doctor.directory().to_string_lossy().into_owned();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
        for secret in [host.trim(), &directory, "/home", "/root"] {
            assert!(
                !said.printed.split([' ', '\n']).any(|word| word == secret),
                "{}",
                said.printed
            );
        }
        let json = doctor.command(["doctor", "--json"]).assert().code(0);
        json.stdout(predicate::str::contains("\"all_steps\": true"))
            .stdout(predicate::str::contains("\"check\": \"a PID namespace, without root\""));
    }
}

/// The book shows this one.
#[test]
fn its_words_in_a_container() {
    let Some(doctor) = doctors().into_iter().find(|doctor| doctor.caller() == Caller::Rootless)
    else {
        return;
    };
    if !tools(&["unshare", "mount", "setpriv"]) {
        return;
    }
    let said = Transcript::of(Hostile::CoveredProc.watch(&doctor, &["doctor"]));
    let tried = said
        .text
        .lines()
        .filter(|line| !line.starts_with(['m', 'n']) || line.starts_with("not ok"));
    let tried =
        tried.skip_while(|line| !line.contains("/proc ")).take_while(|line| !line.contains(" ps "));
    let shown: Vec<_> = std::iter::once("$ just doctor").chain(tried).collect();
    snapshots(|| assert_snapshot!("covered_proc", shown.join("\n")));
}
