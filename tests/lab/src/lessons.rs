//! What is new in each step, as the contract has it: one function a promise.

use crate::contract::{Broken, Kept, expect};
use crate::{Session, Step, Transcript};

fn line(step: &Step, args: &[&str]) -> String {
    format!("{} {}", step.name(), args.join(" "))
}

/// Runs a command in the container, and compares what it prints on standard output.
fn prints(step: &Step, command: &[&str], expected: &str) -> Kept {
    let args = [&["run"], command].concat();
    let output = step.command(&args).output();
    let output = output.map_err(|error| Broken {
        tried: line(step, &args),
        expected: expected.into(),
        seen: error.to_string(),
    })?;
    let seen = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    expect(seen == expected, line(step, &args), expected, format!("{seen}{said}"))
}

fn shell(step: &Step) -> Session {
    step.session(["run", "--ti", "/bin/sh"])
}

/// Step 02: the command has taken the place of `init`, and the PID 1.
///
/// # Errors
/// The promise is broken; so for every function here.
pub fn the_command_is_pid_1(step: &Step) -> Kept {
    prints(step, &["sh", "-c", "echo $$ $PPID"], "1 0\n")?;
    let tree = shell(step).tree();
    let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
    let tried = line(step, &["run", "--ti", "/bin/sh"]);
    expect(pids == [1, 2], tried, "run, and below it a shell with two PIDs", tree.text())
}

/// Step 03: the container sees its own processes and no others.
pub fn ps_shows_the_container_and_nothing_else(step: &Step) -> Kept {
    prints(step, &["ps", "-e", "-o", "pid=,args="], "      1 ps -e -o pid=,args=\n")
}

/// Step 03: in its own mount namespace, and the host's /proc stays.
pub fn the_hosts_proc_is_unharmed(step: &Step) -> Kept {
    let shell = step.watch_other(
        "sh",
        ["-c", "\"$0\" run true && ps -o comm= -p $$", &step.path().to_string_lossy()],
    );
    let (transcript, ended) = Transcript::and_end(shell.on_scratch_host());
    let tried = format!("{}, and then ps, where `/` is shared", line(step, &["run", "true"]));
    let seen = transcript.printed.ends_with("sh\n");
    expect(seen, &tried, "ps on the host shows sh", &transcript.printed)?;
    expect(ended.mounts.is_empty(), &tried, "no mount is left", ended.mounts.join("\n"))
}

/// Step 03: mounted as nobody needs it otherwise.
pub fn proc_is_nosuid_nodev_noexec(step: &Step) -> Kept {
    let command = ["sh", "-c", "grep '^proc /proc ' /proc/mounts | tail -n 1"];
    prints(step, &command, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n")
}
