//! Step 03: a /proc that belongs to the container, and that the host never sees.

use std::fs;
use std::process;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{assert_checks_pass, programs_for_each_caller, shell_diagram};
use harness::test_support::{inspectable, with_tools};
use harness::{ProcessTree, Program, Result, Supervisor, Transcript, assert_snapshot};

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("03-proc-mount"))
}

fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

/// Runs a command in the container, and returns its standard output.
fn run(program: &Program, command: &[&str]) -> Result<String> {
    let captured = program.supervise([&["run"], command].concat()).output()?;
    captured.exit.assert_clean();
    Ok(String::from_utf8_lossy(&captured.stdout).into_owned())
}

const RUN_PID: &str = r"run PID: (\d+)";

/// The promises that learners are graded by.
#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("03-proc-mount"));
}

#[test]
fn ps_lists_only_the_container() -> Result {
    for program in with_tools(&["ps"], programs()) {
        let (ps, exit) = Transcript::type_lines(shell(&program), &["ps -e -o pid,ppid,args"])?;
        exit.assert_clean();
        assert_eq!(ps.captures(r"(?m)^ +(\d+) ")?, [1, 2], "{}", ps.text);
        assert_snapshot!("ps", ps.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn proc_uses_the_containers_pids() -> Result {
    for program in programs() {
        let lines = ["echo $$", "echo /proc/[0-9]*", "readlink /proc/self"];
        let (list, exit) = Transcript::type_lines(shell(&program), &lines)?;
        exit.assert_clean();
        let answers = "\n1\n# echo /proc/[0-9]*\n/proc/1\n# readlink /proc/self\n2\n";
        assert!(list.text.ends_with(answers), "{}", list.text);
        assert_eq!(run(&program, &["grep", "NSpid", "/proc/self/status"])?, "NSpid:\t1\n");
        assert_snapshot!("proc_lists", list.redacted(&[RUN_PID])?);
    }
    Ok(())
}

#[test]
fn command_has_its_own_mount_namespace() -> Result {
    for program in inspectable(programs()) {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        assert_eq!(command.pids[1..], [1]);
        assert_ne!(run.namespaces["mnt"], command.namespaces["mnt"]);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        let seen = shell.run("readlink /proc/self/ns/mnt")?;
        assert_eq!(seen, format!("mnt:[{}]", command.namespaces["mnt"]));
        shell.end()?.0.assert_clean();
        assert_snapshot!("tree", tree.redacted());
        let caption = "run, and the command with its own mounts";
        let argv = ["03-proc-mount", "run", "--ti", "/bin/sh"];
        assert_snapshot!("diagram", shell_diagram(caption, &tree, &argv));
    }
    Ok(())
}

/// The host's procfs is still there, below the new one, and root of the container can uncover it.
#[test]
fn new_procfs_covers_the_hosts() -> Result {
    for program in programs() {
        let mounts = run(&program, &["grep", "^proc /proc ", "/proc/mounts"])?;
        let newest = mounts.lines().last().unwrap_or_default();
        assert!(newest.starts_with("proc /proc proc rw,nosuid,nodev,noexec,"), "{mounts}");
        let lines = ["grep -c ' /proc ' /proc/mounts", "umount /proc", "readlink /proc/self"];
        let (typed, exit) = Transcript::type_lines(shell(&program), &lines)?;
        exit.assert_clean();
        let pids = [RUN_PID, r"readlink /proc/self\n(\d+)"];
        assert_snapshot!("covered_proc", typed.redacted(&pids)?);
        // The host's procfs lists this test, which is outside the container.
        let outside = process::id().to_string();
        let args = ["run", "sh", "-c", "umount /proc; test -e /proc/$0", &outside];
        assert!(program.transcript(args)?.status.success());
    }
    Ok(())
}

/// The host's own /proc, on a host whose `/` is shared, as systemd makes it.
#[test]
fn host_keeps_its_proc() -> Result {
    for program in with_tools(&["ps"], programs()) {
        let host = program.environment().supervise::<&str>("sh", []).on_scratch_host();
        let lines = ["03-proc-mount run true", "ps -o comm= -p $$"];
        let (host, exit) = Transcript::type_lines(host, &lines)?;
        exit.assert_clean();
        assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
        assert_snapshot!("host_unharmed", host.redacted(&[RUN_PID])?);
    }
    Ok(())
}

/// A scratch host has a root, whichever caller creates it.
fn any_program(tools: &[&'static str]) -> Option<Program> {
    with_tools(tools, programs()).next()
}

const CONTAINER: &str = "unshare --mount --propagation unchanged --pid --fork";

/// Without the private mount, the container's procfs appears on the host and outlives the container.
#[test]
fn shared_mount_damages_the_hosts_proc() -> Result {
    let Some(program) = any_program(&["ps", "unshare", "mount"]) else { return Ok(()) };
    let host = program.environment().supervise::<&str>("sh", []).on_scratch_host();
    let mistake = format!("{CONTAINER} sh -c 'mount -t proc proc /proc; echo $$'");
    let lines = [&mistake, "ps", "umount /proc", "ps -o comm= -p $$"];
    let (host, exit) = Transcript::type_lines(host, &lines)?;
    exit.assert_clean();
    let advice = "$ ps\nError, do this: mount -t proc proc /proc\n";
    assert!(host.text.contains(advice), "{}", host.text);
    assert!(host.text.ends_with("\n$ ps -o comm= -p $$\nsh\n"), "{}", host.text);
    assert_snapshot!("host_harmed", host.text);
    Ok(())
}

/// The host's `ps` fails as soon as the mount is there, and not only after the container.
#[test]
fn shared_mount_damages_the_host_at_once() -> Result {
    let Some(program) = any_program(&["ps", "unshare", "mount"]) else { return Ok(()) };
    let script = format!(
        "mkfifo up go; {CONTAINER} sh -c 'mount -t proc proc /proc; echo >up; read _ <go' & \
        read _ <up; ps; echo >go; wait; umount /proc; rm up go"
    );
    let host = program.environment().supervise("sh", ["-c", &script]).on_scratch_host();
    let printed = Transcript::run(host)?.printed;
    assert_eq!(printed, "Error, do this: mount -t proc proc /proc\n");
    Ok(())
}

/// `/` is private then, but /proc is a separate mount and still shared.
#[test]
fn private_without_rec_still_leaks() -> Result {
    let Some(program) = any_program(&["unshare", "mount"]) else { return Ok(()) };
    let script = format!("{CONTAINER} sh -c 'mount --make-private /; mount -t proc proc /proc'");
    let host = program.environment().supervise("sh", ["-c", &script]).on_scratch_host();
    let (_, exit) = Transcript::run_with_exit(host)?;
    let [leak] = &exit.mount_changes[..] else { panic!("not one: {:?}", exit.mount_changes) };
    assert!(leak.starts_with('+') && leak.contains(" /proc "), "{leak}");
    Ok(())
}

/// In a mount namespace of another user namespace, the kernel turns shared copies into slaves.
#[test]
fn rootless_mounts_never_reach_the_host() -> Result {
    let Some(program) = any_program(&["unshare", "mount"]) else { return Ok(()) };
    let script = "mount -t tmpfs none /mnt; grep -c ' /mnt ' /proc/self/mountinfo";
    let options = ["--user", "--map-root-user", "--mount", "--propagation", "unchanged"];
    let args = [&options[..], &["sh", "-c", script]].concat();
    let host = program.environment().supervise("unshare", args).on_scratch_host();
    let (inside, exit) = Transcript::run_with_exit(host)?;
    assert_eq!(inside.printed, "1\n", "mounted inside");
    exit.assert_clean();
    Ok(())
}

/// The mount namespace keeps everything else that the command mounts, too.
#[test]
fn mounts_by_the_command_stay_inside() -> Result {
    for program in programs() {
        let script = "mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/self/mountinfo";
        let host = program.supervise(["run", "sh", "-c", script]).on_scratch_host();
        let (inside, exit) = Transcript::run_with_exit(host)?;
        assert!(inside.printed.ends_with("\n1\n"), "{}", inside.printed);
        exit.assert_clean();
    }
    Ok(())
}

/// On the host, `init` would mount over the host's /proc. It makes no such call.
#[test]
fn init_on_the_host_changes_no_mount() -> Result {
    for program in with_tools(&["strace"], programs()) {
        let trace = "--trace=unshare,mount,umount2,setns,mount_setattr,move_mount,open_tree,fsopen";
        let args = ["--quiet=all", "--output=calls", trace, "03-proc-mount", "init", "true"];
        let host = program.environment().supervise("strace", args).on_scratch_host();
        let refusal = Transcript::run(host)?;
        assert_eq!(refusal.status.code(), Some(125), "{}", refusal.text);
        let calls = fs::read_to_string(program.directory().join("calls")).expect("a trace");
        assert_eq!(calls, "");
    }
    Ok(())
}

/// The kernel makes PID 1 the parent of every orphan. `sleep` never waits for one, so a dead orphan stays.
#[test]
fn dead_orphan_stays_a_zombie() -> Result {
    for program in programs() {
        // The orphan lives until the test writes to the pipe, after PID 1 has become `sleep`.
        Transcript::run(program.environment().supervise("mkfifo", ["pipe"]))?;
        let mut terminal =
            program.terminal(["run", "sh", "-c", "(cat pipe &); exec sleep 1000"])?;
        let names = |tree: &ProcessTree| -> Vec<String> {
            tree.processes().iter().map(|process| process.comm.clone()).collect()
        };
        terminal.wait_for_tree(|tree| names(tree)[1..] == ["sleep", "cat"])?;
        fs::write(program.directory().join("pipe"), "").expect("write to the pipe");
        let is_zombie =
            |tree: &ProcessTree| tree.processes().get(2).is_some_and(|orphan| orphan.state == 'Z');
        let tree = terminal.wait_for_tree(is_zombie)?;
        assert_snapshot!("zombie", tree.redacted());
        terminal.send_keys("\u{3}")?;
        terminal.end()?.0.assert_clean();
    }
    Ok(())
}

/// The parts of /proc that don't describe processes are the host's as before.
#[test]
fn memory_and_uptime_are_the_hosts() -> Result {
    for program in programs() {
        for file in ["/proc/version", "/proc/cpuinfo", "/proc/meminfo"] {
            let host = fs::read_to_string(file).expect("it can be read");
            let first = host.lines().next().unwrap_or_default();
            assert_eq!(run(&program, &["head", "-n", "1", file])?, format!("{first}\n"));
        }
        let seconds = |text: &str| -> f64 {
            text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number")
        };
        let host = || seconds(&fs::read_to_string("/proc/uptime").expect("it can be read"));
        let before = host();
        let inside = seconds(&run(&program, &["cat", "/proc/uptime"])?);
        let after = host();
        assert!(before <= inside && inside <= after, "{before} {inside} {after}");
    }
    Ok(())
}

/// The lines of the first exercise: the mistake, the repair, and the step in place of the mistake.
#[test]
fn reader_can_create_a_scratch_host() -> Result {
    for program in with_tools(&["ps", "unshare", "mount"], programs()) {
        let script = format!(
            "{CONTAINER} sh -c 'mount -t proc proc /proc'; ps; umount /proc; ps -o comm= -p $$; \
            03-proc-mount run true 2>/dev/null; ps -o comm= -p $$; :"
        );
        let options = ["--user", "--map-root-user", "--mount", "--propagation", "shared"];
        let args = [&options[..], &["sh", "-c", &script]].concat();
        let host = Transcript::run(program.environment().supervise("unshare", args))?;
        assert_eq!(host.printed, "Error, do this: mount -t proc proc /proc\nsh\nsh\n");
    }
    Ok(())
}

#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork|mount|wait4|exit_group)\(",
        r"^prctl\(PR_SET_PDEATHSIG",
        r"^unshare\(CLONE_NEWNS\)",
    ];
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let [run, init] = trace.by_process()?;
        let expected =
            ["execve", "prctl", "unshare", "mount", "mount", "execve", "exit_group"].map(Some);
        let seen: Vec<_> = init.iter().map(|call| call.split('(').next()).collect();
        assert_eq!(seen, expected, "{run:?}");
        assert_snapshot!("trace", trace.redacted()?);
    }
    Ok(())
}
