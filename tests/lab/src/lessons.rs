//! What is new in each step, as the contract has it: one function a promise.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::contract::{Broken, Kept, expect, output};
use crate::{Session, Step, Transcript};

fn line(step: &Step, args: &[&str]) -> String {
    format!("{} {}", step.name(), args.join(" "))
}

/// Runs a command in the container, and compares what it prints on standard output.
fn prints(step: &Step, command: &[&str], expected: &str) -> Kept {
    let args = [&["run"], command].concat();
    let output = output(step.command(&args).stdin(Stdio::null()));
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
    // Not the arguments: where it fails, these are other people's.
    prints(step, &["ps", "-e", "-o", "pid=,comm="], "      1 ps\n")
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

/// Step 04: exec against spawn, inside. The command has a parent in the container.
pub fn init_stays_and_the_command_is_its_child(step: &Step) -> Kept {
    prints(step, &["sh", "-c", "echo $PPID"], "1\n")
}

/// Step 04: what is sent to `run` comes to the command, and its own end is the end.
pub fn a_signal_to_run_reaches_the_command(step: &Step) -> Kept {
    let command = "trap 'exit 42' TERM; sleep 1000 </dev/null >/dev/null 2>&1 & echo up; wait";
    let args = ["run", "sh", "-c", command];
    let session = Session::ready(step.watch(args), "up");
    session.signal(Signal::SIGTERM);
    let (ended, _) = session.wait();
    let tried = format!("{}, and SIGTERM to `run`", line(step, &args));
    let status = ended.status.to_string();
    expect(ended.status.code() == Some(42), tried, "exit status: 42, by the command's trap", status)
}

/// Step 04: no zombie stays.
pub fn a_dead_orphan_is_reaped(step: &Step) -> Kept {
    // PID 1 may need a moment; the shell, whose child it never was, cannot wait for it.
    let command = "(true &); n=0; \
        while ps -e -o stat= | grep -q ^Z && [ $n -lt 100 ]; do n=$((n+1)); done; \
        ps -e -o stat= | grep -c ^Z; :";
    prints(step, &["sh", "-c", command], "0\n")
}

/// Step 04: a pipe is at its end when the command has closed it, and not when `run` and init end.
pub fn a_pipe_that_the_command_has_closed_is_closed(step: &Step) -> Kept {
    let command = "echo words; exec >&- 8>&-; exec sleep 1000";
    let script = format!(
        "rm -f out; mkfifo out; \"$0\" run sh -c '{command}' >out 2>/dev/null 8>&1 & \
         cat out; kill -KILL $!; wait; rm out"
    );
    let program = step.path().to_string_lossy();
    let said = output(step.other("sh", ["-c", &script, &program]).stdin(Stdio::null()));
    let seen = match said {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => error.to_string(),
    };
    let tried = line(step, &["run", "sh", "-c", &format!("'{command}'"), ">out 8>&1 & cat out"]);
    expect(seen == "words\n", tried, "words, and then the end of the pipe", seen)
}

/// Step 05: the clock that counts from boot counts from the container's.
pub fn the_clock_starts_at_zero(step: &Step) -> Kept {
    let command = "test $(cut -d. -f1 /proc/uptime) -lt 60 && echo yes";
    prints(step, &["sh", "-c", command], "yes\n")
}

/// Step 05: what is the host's cannot be read...
pub fn the_hosts_own_is_masked(step: &Step) -> Kept {
    let command = "for file in /proc/keys /proc/timer_list; do test -e $file && stat -c %F $file; done \
        | sort -u";
    prints(step, &["sh", "-c", command], "character special file\n")
}

/// Step 05: ...or cannot be written.
pub fn proc_sys_is_read_only(step: &Step) -> Kept {
    let command = "grep -c '^proc /proc/sys proc ro,nosuid,nodev,noexec,' /proc/mounts";
    prints(step, &["sh", "-c", command], "1\n")
}
