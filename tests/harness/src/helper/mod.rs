//! The helper program: one subcommand for each process that an instrument needs beside the program under test.

mod supervise;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use nix::unistd::setsid;

use crate::error::{Context, Error, Result};
use crate::exit::{exit_code, shell_status};
use crate::helper_path::{NAME, helper_command, use_own_executable};
use crate::namespace::{CLONE_NEWTIME, enter_user_namespace, make_mounts_private};
use crate::{probe, seccomp, soak};

/// Runs the helper if this process was started as one. A program that calls this first in `main` is its own
/// helper, and needs no second executable.
pub fn main_if_asked() -> Option<ExitCode> {
    use_own_executable();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let mut args: Vec<_> = args.collect();
    // A wrapper such as `unshare` chooses no name for what it starts, so there's a word for it, too.
    if args.first().is_some_and(|word| word == "as") {
        args.remove(0);
    } else if Path::new(&name).file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    Some(run(&args).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::FAILURE
    }))
}

fn run(args: &[OsString]) -> Result<ExitCode> {
    let (command, args) = args.split_first().ok_or_else(|| Error::new("there's no subcommand"))?;
    match command.to_str().unwrap_or_default() {
        "supervise" => supervise::supervise(args)?,
        "probe" if !probe::main(args)? => return Ok(ExitCode::FAILURE),
        "probe" => {}
        "seccomp" => seccomp::main(args)?,
        "nest-pidns" => return nest_pid_namespaces(args),
        "shift-boottime" => return shift_boottime(args),
        "stopped" => return stopped(args),
        "soak-one" => return soak::main(args),
        "unshare" => {
            let flags = args.first().and_then(|flags| flags.to_str()?.parse().ok()).unwrap_or(0);
            unshare(CloneFlags::from_bits_retain(flags)).context("unshare")?;
        }
        other => return Err(Error::new(format!("there's no subcommand {other}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the command line after `--`.
fn command_line(args: &[OsString]) -> Result<(&OsString, &[OsString])> {
    let after = args.iter().position(|arg| arg == "--").map_or(args, |at| &args[at + 1..]);
    after.split_first().ok_or_else(|| Error::new("there is nothing to start"))
}

/// Starts itself in one PID namespace after the other, and becomes the command when the kernel allows no more.
fn nest_pid_namespaces(args: &[OsString]) -> Result<ExitCode> {
    let (program, words) = command_line(args)?;
    match unshare(CloneFlags::CLONE_NEWPID) {
        Err(Errno::ENOSPC) => return Err(Command::new(program).args(words).exec()).context("exec"),
        Err(Errno::EPERM) => enter_user_namespace(CloneFlags::CLONE_NEWPID)?,
        result => result.context("unshare(CLONE_NEWPID)")?,
    }
    let mut next = helper_command()?;
    let status = next.args(["nest-pidns", "--"]).arg(program).args(words).status();
    Ok(exit_code(shell_status(status.context("start the next level")?)))
}

/// Starts a command in a time namespace three years ahead. unshare(1) can set whole seconds only, and this
/// offset has nearly a second more.
fn shift_boottime(args: &[OsString]) -> Result<ExitCode> {
    let (program, words) = command_line(args)?;
    enter_user_namespace(CLONE_NEWTIME)?;
    fs::write("/proc/self/timens_offsets", "boottime 100000000 999999999")
        .context("write(/proc/self/timens_offsets)")?;
    // To set an ID, std forks. Older kernels refuse vfork here.
    let status = Command::new(program).args(words).gid(0).status();
    Ok(exit_code(shell_status(status.context("start the command")?)))
}

/// Stops, and becomes `USER PROGRAM NAME ARG…` when it's continued. An empty USER is the caller.
fn stopped(args: &[OsString]) -> Result<ExitCode> {
    let [user, program, name, words @ ..] = args else {
        return Err(Error::new("there is nothing to start"));
    };
    let mut command = Command::new(program);
    command.arg0(name).args(words);
    if let Some(user) = user.to_str().and_then(|user| user.parse().ok()) {
        command.uid(user).gid(user);
    }
    // The keys that a terminal turns into signals are the tracer's, and a program without a terminal makes the same calls
    // everywhere.
    setsid().context("setsid")?;
    // Otherwise, a /proc that root's program mounts could cover the tracer's. If this isn't allowed, the program can
    // still run.
    let _ = make_mounts_private();
    raise(Signal::SIGSTOP).context("raise(SIGSTOP)")?;
    Err(command.exec()).context(format!("exec {}", program.display()))
}
