//! Step 03: a /proc of the container's own, and nothing of it on the host.

use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use insta::assert_snapshot;
use lab::{Hostile, Step, Transcript, Watch, callers, picture, snapshots, tools};
use predicates::prelude::*;

fn step() -> &'static Path {
    cargo_bin!("03-proc-mount")
}

lab::contract_tests!(step());
lab::refusal_tests!(step());

fn shell(step: &Step) -> Watch {
    step.watch(["run", "--ti", "/bin/sh"])
}

#[test]
fn ps_shows_the_container_and_nothing_else() {
    if !tools(&["ps"]) {
        return;
    }
    for step in callers(step()) {
        let (ps, ended) = Transcript::typed(shell(&step), &["ps -e -o pid,ppid,args"]);
        ended.nothing_left();
        let pids: Vec<_> = ps.numbers(r"(?m)^ +(\d+) ");
        assert_eq!(pids, [1, 2], "{}", ps.text);
        snapshots(|| assert_snapshot!("ps", ps.renamed(&[r"run PID: (\d+)"])));
    }
}

#[test]
fn proc_lists_the_containers_processes_by_the_containers_numbers() {
    for step in callers(step()) {
        let lines = ["echo $$", "echo /proc/[0-9]*", "readlink /proc/self"];
        let (list, ended) = Transcript::typed(shell(&step), &lines);
        ended.nothing_left();
        assert!(
            list.text.ends_with("\n1\n# echo /proc/[0-9]*\n/proc/1\n# readlink /proc/self\n2\n"),
            "{}",
            list.text
        );
        step.command(["run", "grep", "NSpid", "/proc/self/status"]).assert().stdout("NSpid:\t1\n");
        snapshots(|| assert_snapshot!("proc_lists", list.renamed(&[r"run PID: (\d+)"])));
    }
}

#[test]
fn the_new_proc_allows_no_programs_no_devices_no_set_user_id() {
    for step in callers(step()) {
        let (options, _) =
            Transcript::typed(shell(&step), &["grep '^proc /proc ' /proc/mounts | tail -n 1"]);
        let last = options.text.lines().last().expect("a line");
        assert_eq!(last, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0");
        snapshots(|| assert_snapshot!("mount_options", options.renamed(&[r"run PID: (\d+)"])));
    }
}

#[test]
fn the_command_is_pid_1_in_its_own_mount_namespace() {
    for step in callers(step()) {
        let mut shell = step.session(["run", "--ti", "/bin/sh"]);
        let tree = shell.tree();
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_eq!(command.pids[1..], [1]);
        assert_ne!(run.namespaces["mnt"], command.namespaces["mnt"]);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        assert_eq!(
            shell.ask("readlink /proc/self/ns/pid"),
            format!("pid:[{}]", command.namespaces["pid"])
        );
        shell.end().0.nothing_left();
        let before = tree.before(["03-proc-mount", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        snapshots(|| {
            assert_snapshot!("tree", tree.renamed());
            let caption = "run, and the command with mounts of its own";
            assert_snapshot!("picture", picture(caption, &moments));
        });
    }
}

/// On a host whose `/` is shared, as systemd makes it.
#[test]
fn the_hosts_proc_is_unharmed() {
    if !tools(&["ps"]) {
        return;
    }
    for step in callers(step()) {
        let shell = step.watch_other::<&str>("sh", []).on_scratch_host();
        let lines = ["03-proc-mount run true", "ps -o comm= -p $$"];
        let (host, ended) = Transcript::typed(shell, &lines);
        ended.nothing_left();
        assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
        snapshots(|| assert_snapshot!("host_unharmed", host.renamed(&[r"run PID: (\d+)"])));
    }
}

/// Root of a scratch host: of the machine, or of a user namespace, for those who are not root.
fn root_of_a_scratch_host() -> Option<Step> {
    callers(step()).into_iter().next()
}

/// The same without making the copies private, as in an early version of the original: the procfs of
/// the container lands on the host, and stays there when the container is gone.
#[test]
fn without_the_private_mount_the_hosts_proc_is_lost() {
    if !tools(&["ps", "unshare", "mount"]) {
        return;
    }
    let Some(step) = root_of_a_scratch_host() else { return };
    let shell = step.watch_other::<&str>("sh", []).on_scratch_host();
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let (host, ended) = Transcript::typed(
        shell,
        &[
            &format!("{container} sh -c 'mount -t proc proc /proc; echo $$'"),
            "ps",
            "umount /proc",
            "ps -o comm= -p $$",
        ],
    );
    ended.nothing_left();
    assert!(
        host.text.contains("$ ps\nError, do this: mount -t proc proc /proc\n"),
        "{}",
        host.text
    );
    assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
    snapshots(|| assert_snapshot!("host_harmed", host.text));
}

/// It is lost at once, and not only when the container has ended.
#[test]
fn without_the_private_mount_the_hosts_proc_is_lost_while_the_container_runs() {
    let Some(step) = root_of_a_scratch_host() else { return };
    let line = "dir=$(mktemp -d); mkfifo $dir/up $dir/go; \
        unshare --mount --propagation unchanged --pid --fork \
            sh -c 'mount -t proc proc /proc; echo >$0/up; read _ <$0/go' $dir & \
        read _ <$dir/up; ps; echo >$dir/go; wait; umount /proc; rm -r $dir";
    let host = Transcript::of(step.watch_other("sh", ["-c", line]).on_scratch_host());
    assert_eq!(host.printed, "Error, do this: mount -t proc proc /proc\n");
}

/// A private `/` alone is not enough: without MS_REC, /proc, a mount of its own, stays shared.
#[test]
fn private_without_rec_leaks_all_the_same() {
    if !tools(&["ps", "unshare", "mount"]) {
        return;
    }
    let Some(step) = root_of_a_scratch_host() else { return };
    let shell = step.watch_other::<&str>("sh", []).on_scratch_host();
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let mounts = "mount --make-private /; mount -t proc proc /proc";
    let (host, ended) =
        Transcript::typed(shell, &[&format!("{container} sh -c '{mounts}; echo $$'"), "ps"]);
    assert!(
        host.text.contains("$ ps\nError, do this: mount -t proc proc /proc\n"),
        "{}",
        host.text
    );
    let [leak] = &ended.mounts[..] else { panic!("one mount more: {:?}", ended.mounts) };
    assert!(leak.starts_with('+') && leak.contains(" /proc "), "{leak}");
    snapshots(|| assert_snapshot!("private_without_rec", host.text));
}

/// Where the mount namespace belongs to a user namespace of its own, the kernel itself makes the
/// copies slaves: what is mounted there never comes back. Rootless, the mistake does no harm.
#[test]
fn rootless_the_mistake_does_no_harm() {
    if !tools(&["unshare", "mount"]) {
        return;
    }
    let Some(step) = root_of_a_scratch_host() else { return };
    let line = "mount -t tmpfs none /mnt; grep -c ' /mnt ' /proc/self/mountinfo";
    let args =
        ["--user", "--map-root-user", "--mount", "--propagation", "unchanged", "sh", "-c", line];
    let (inside, ended) = Transcript::and_end(step.watch_other("unshare", args).on_scratch_host());
    assert_eq!(inside.printed, "1\n", "mounted inside");
    ended.nothing_left();
}

#[test]
fn a_step_that_cannot_mount_says_so() {
    if !tools(&["unshare", "mount", "setpriv"]) {
        return;
    }
    for step in callers(step()) {
        // Under a /proc part of which is covered, as in a container, only real root may mount another.
        let cover = "mount -t tmpfs none /proc/sys; exec setpriv --bounding-set -sys_admin \"$@\"";
        let path = step.path().to_string_lossy();
        let args =
            ["--user", "--map-root-user", "--mount", "sh", "-c", cover, "sh", &path, "run", "true"];
        { step.other("unshare", args) }.assert().code(125).stderr(predicate::str::contains(
            "03-proc-mount: mount(proc, /proc): Operation not permitted (EPERM)\nhint: ",
        ));
    }
}

/// The mount namespace is for more than /proc.
#[test]
fn what_the_command_mounts_stays_inside() {
    for step in callers(step()) {
        let line = "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/self/mountinfo";
        let watch = step.watch(["run", "sh", "-c", line]).on_scratch_host();
        let (inside, ended) = Transcript::and_end(watch);
        assert!(inside.printed.ends_with("\n1\n"), "{}", inside.printed);
        ended.nothing_left();
    }
}

/// What /proc tells of the machine, and not of processes, is the host's as before.
#[test]
fn proc_still_tells_of_the_hosts_memory_and_uptime() {
    for step in callers(step()) {
        for file in ["/proc/version", "/proc/cpuinfo", "/proc/meminfo"] {
            let first = |text: &str| text.lines().next().expect("a line").to_owned() + "\n";
            let host = first(&std::fs::read_to_string(file).expect("it can be read"));
            step.command(["run", "head", "-n", "1", file]).assert().stdout(host);
        }
        let seconds = |text: &str| {
            let first = text.split(' ').next().expect("a number");
            first.parse::<f64>().expect("a number")
        };
        let host = || seconds(&std::fs::read_to_string("/proc/uptime").expect("it can be read"));
        let before = host();
        let inside = step.command(["run", "cat", "/proc/uptime"]).output().expect("it runs");
        let inside = seconds(&String::from_utf8_lossy(&inside.stdout));
        assert!(before <= inside && inside <= host(), "{before} {inside}");
    }
}

/// The line that a reader types to try the mistake without harm.
#[test]
fn a_reader_can_make_a_scratch_host() {
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let line = format!(
        "{container} sh -c 'mount -t proc proc /proc'; ps; umount /proc; ps -o comm= -p $$"
    );
    for step in callers(step()) {
        let scratch =
            ["--user", "--map-root-user", "--mount", "--propagation", "shared", "sh", "-c"];
        let watch = step.watch_other("unshare", [&scratch[..], &[&line]].concat());
        let host = Transcript::of(watch);
        assert_eq!(host.printed, "Error, do this: mount -t proc proc /proc\nsh\n");
    }
}

/// The calls of the lesson: what is new is PID 1's.
#[test]
fn the_calls_are_those_of_the_lesson() {
    let lesson =
        [r"^(execve|clone3?|v?fork|prctl|mount|wait4|exit_group)\(", r"^unshare\(CLONE_NEWNS\)"];
    for step in callers(step()) {
        let Some(trace) = step.trace(&["run", "/bin/true"], &lesson) else { return };
        let [run, init] = trace.by_process();
        let calls =
            ["execve", "prctl", "unshare", "mount", "mount", "execve", "exit_group"].map(Some);
        let seen: Vec<_> = init.iter().map(|call| call.split('(').next()).collect();
        assert_eq!(seen, calls, "{run:?}");
        snapshots(|| assert_snapshot!("trace", trace.renamed()));
    }
}

/// The words that a learner reads where the namespaces are there, and the mount is refused. The chapter
/// "Explain this error" shows them.
#[test]
fn each_refusal_has_its_words() {
    use Hostile::*;
    for step in callers(step()) {
        let in_place = |place: Hostile, look: fn(String)| {
            place.words_of(&step).into_iter().for_each(|words| snapshots(|| look(words)));
        };
        in_place(CoveredProc, |words| assert_snapshot!("refused_mount_proc", words));
        in_place(NoMount, |words| assert_snapshot!("refused_mount", words));
        in_place(ChrootDirectory, |words| assert_snapshot!("refused_chroot", words));
    }
}
