//! Step 03: a /proc of the container's own, and nothing of it on the host.

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use course::test_support::{assert_checks_pass, programs_for_each_caller};
use harness::test_support::{AssertClean, require_tools};
use harness::{Program, Result, Supervisor, Transcript, assert_snapshot, diagram};

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("03-proc-mount"))
}

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("03-proc-mount"));
}

fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

#[test]
fn ps_shows_only_the_container() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs() {
        let (ps, exit) = Transcript::type_lines(shell(&program), &["ps -e -o pid,ppid,args"])?;
        exit.assert_clean();
        let pids: Vec<_> = ps.captures(r"(?m)^ +(\d+) ")?;
        assert_eq!(pids, [1, 2], "{}", ps.text);
        assert_snapshot!("ps", ps.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

#[test]
fn proc_lists_inner_pids() -> Result {
    for program in programs() {
        let lines = ["echo $$", "echo /proc/[0-9]*", "readlink /proc/self"];
        let (list, exit) = Transcript::type_lines(shell(&program), &lines)?;
        exit.assert_clean();
        assert!(
            list.text.ends_with("\n1\n# echo /proc/[0-9]*\n/proc/1\n# readlink /proc/self\n2\n"),
            "{}",
            list.text
        );
        program
            .command(["run", "grep", "NSpid", "/proc/self/status"])
            .assert()
            .stdout("NSpid:\t1\n");
        assert_snapshot!("proc_lists", list.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

#[test]
fn proc_is_nosuid_nodev_noexec() -> Result {
    for program in programs() {
        let (options, _) = Transcript::type_lines(
            shell(&program),
            &["grep '^proc /proc ' /proc/mounts | tail -n 1"],
        )?;
        let last = options.text.lines().last().expect("a line");
        assert_eq!(last, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0");
        assert_snapshot!("mount_options", options.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

#[test]
fn command_is_pid_1_in_own_mount_namespace() -> Result {
    for program in programs() {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_eq!(command.pids[1..], [1]);
        assert_ne!(run.namespaces["mnt"], command.namespaces["mnt"]);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        assert_eq!(
            shell.run("readlink /proc/self/ns/pid")?,
            format!("pid:[{}]", command.namespaces["pid"])
        );
        shell.end()?.0.assert_clean();
        let before = tree.before(["03-proc-mount", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        assert_snapshot!("tree", tree.redacted());
        let caption = "run, and the command with mounts of its own";
        assert_snapshot!("diagram", diagram(caption, &moments));
    }
    Ok(())
}

/// On a host whose `/` is shared, as systemd makes it.
#[test]
fn host_proc_is_unharmed() -> Result {
    if !require_tools(&["ps"]) {
        return Ok(());
    }
    for program in programs() {
        let shell = program.environment().supervise::<&str>("sh", []).on_scratch_host();
        let lines = ["03-proc-mount run true", "ps -o comm= -p $$"];
        let (host, exit) = Transcript::type_lines(shell, &lines)?;
        exit.assert_clean();
        assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
        assert_snapshot!("host_unharmed", host.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// Root of a scratch host: of the machine, or of a user namespace, for those who are not root.
fn root_of_a_scratch_host() -> Option<Program> {
    programs().into_iter().next()
}

/// The same without making the copies private, as in an early version of the original: the procfs of
/// the container lands on the host, and stays there when the container is gone.
#[test]
fn shared_mount_hides_host_proc() -> Result {
    if !require_tools(&["ps", "unshare", "mount"]) {
        return Ok(());
    }
    let Some(program) = root_of_a_scratch_host() else { return Ok(()) };
    let shell = program.environment().supervise::<&str>("sh", []).on_scratch_host();
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let (host, exit) = Transcript::type_lines(
        shell,
        &[
            &format!("{container} sh -c 'mount -t proc proc /proc; echo $$'"),
            "ps",
            "umount /proc",
            "ps -o comm= -p $$",
        ],
    )?;
    exit.assert_clean();
    assert!(
        host.text.contains("$ ps\nError, do this: mount -t proc proc /proc\n"),
        "{}",
        host.text
    );
    assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
    assert_snapshot!("host_harmed", host.text);
    Ok(())
}

/// It is lost at once, and not only when the container has exit.
#[test]
fn shared_mount_hides_host_proc_at_once() -> Result {
    let Some(program) = root_of_a_scratch_host() else { return Ok(()) };
    let line = "dir=$(mktemp -d); mkfifo $dir/up $dir/go; \
        unshare --mount --propagation unchanged --pid --fork \
            sh -c 'mount -t proc proc /proc; echo >$0/up; read _ <$0/go' $dir & \
        read _ <$dir/up; ps; echo >$dir/go; wait; umount /proc; rm -r $dir";
    let host =
        Transcript::run(program.environment().supervise("sh", ["-c", line]).on_scratch_host())?;
    assert_eq!(host.printed, "Error, do this: mount -t proc proc /proc\n");
    Ok(())
}

/// A private `/` alone is not enough: without MS_REC, /proc, a mount of its own, stays shared.
#[test]
fn private_without_rec_leaks_proc() -> Result {
    if !require_tools(&["ps", "unshare", "mount"]) {
        return Ok(());
    }
    let Some(program) = root_of_a_scratch_host() else { return Ok(()) };
    let shell = program.environment().supervise::<&str>("sh", []).on_scratch_host();
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let mounts = "mount --make-private /; mount -t proc proc /proc";
    let (host, exit) =
        Transcript::type_lines(shell, &[&format!("{container} sh -c '{mounts}; echo $$'"), "ps"])?;
    assert!(
        host.text.contains("$ ps\nError, do this: mount -t proc proc /proc\n"),
        "{}",
        host.text
    );
    let [leak] = &exit.mount_changes[..] else {
        panic!("one mount more: {:?}", exit.mount_changes)
    };
    assert!(leak.starts_with('+') && leak.contains(" /proc "), "{leak}");
    assert_snapshot!("private_without_rec", host.text);
    Ok(())
}

/// Where the mount namespace belongs to a user namespace of its own, the kernel itself makes the
/// copies slaves: what is mounted there never comes back. Rootless, the mistake does no harm.
#[test]
fn rootless_mount_never_reaches_host() -> Result {
    if !require_tools(&["unshare", "mount"]) {
        return Ok(());
    }
    let Some(program) = root_of_a_scratch_host() else { return Ok(()) };
    let line = "mount -t tmpfs none /mnt; grep -c ' /mnt ' /proc/self/mountinfo";
    let args =
        ["--user", "--map-root-user", "--mount", "--propagation", "unchanged", "sh", "-c", line];
    let (inside, exit) = Transcript::run_with_exit(
        program.environment().supervise("unshare", args).on_scratch_host(),
    )?;
    assert_eq!(inside.printed, "1\n", "mounted inside");
    exit.assert_clean();
    Ok(())
}

/// The mount namespace is for more than /proc.
#[test]
fn mounts_of_command_stay_inside() -> Result {
    for program in programs() {
        let line = "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/self/mountinfo";
        let watch = program.supervise(["run", "sh", "-c", line]).on_scratch_host();
        let (inside, exit) = Transcript::run_with_exit(watch)?;
        assert!(inside.printed.ends_with("\n1\n"), "{}", inside.printed);
        exit.assert_clean();
    }
    Ok(())
}

/// What /proc tells of the machine, and not of processes, is the host's as before.
#[test]
fn proc_shows_host_memory_and_uptime() {
    for program in programs() {
        for file in ["/proc/version", "/proc/cpuinfo", "/proc/meminfo"] {
            let first = |text: &str| text.lines().next().expect("a line").to_owned() + "\n";
            let host = first(&std::fs::read_to_string(file).expect("it can be read"));
            program.command(["run", "head", "-n", "1", file]).assert().stdout(host);
        }
        let seconds = |text: &str| {
            let first = text.split(' ').next().expect("a number");
            first.parse::<f64>().expect("a number")
        };
        let host = || seconds(&std::fs::read_to_string("/proc/uptime").expect("it can be read"));
        let before = host();
        let inside = program.command(["run", "cat", "/proc/uptime"]).output().expect("it runs");
        let inside = seconds(&String::from_utf8_lossy(&inside.stdout));
        assert!(before <= inside && inside <= host(), "{before} {inside}");
    }
}

/// The line that a reader types to try the mistake without harm.
#[test]
fn unshare_creates_scratch_host() -> Result {
    let container = "unshare --mount --propagation unchanged --pid --fork";
    let line = format!(
        "{container} sh -c 'mount -t proc proc /proc'; ps; umount /proc; ps -o comm= -p $$"
    );
    for program in programs() {
        let scratch =
            ["--user", "--map-root-user", "--mount", "--propagation", "shared", "sh", "-c"];
        let watch = program.environment().supervise("unshare", [&scratch[..], &[&line]].concat());
        let host = Transcript::run(watch)?;
        assert_eq!(host.printed, "Error, do this: mount -t proc proc /proc\nsh\n");
    }
    Ok(())
}

/// The calls of the lesson: what is new is PID 1's.
#[test]
fn makes_the_calls_of_the_lesson() -> Result {
    let lesson =
        [r"^(execve|clone3?|v?fork|prctl|mount|wait4|exit_group)\(", r"^unshare\(CLONE_NEWNS\)"];
    for program in programs() {
        if !require_tools(&["strace"]) {
            return Ok(());
        }
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let [run, init] = trace.by_process()?;
        let calls =
            ["execve", "prctl", "unshare", "mount", "mount", "execve", "exit_group"].map(Some);
        let seen: Vec<_> = init.iter().map(|call| call.split('(').next()).collect();
        assert_eq!(seen, calls, "{run:?}");
        assert_snapshot!("trace", trace.redacted()?);
    }
    Ok(())
}
