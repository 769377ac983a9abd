//! Run by you, on the host. There are two ways to start a program: as a child
//! of this process (`command`), or in the place of this process (`exec`).

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, ExitCode};

use clap::{Arg, ArgMatches, value_parser};
use nix::errno::Errno;

// ANCHOR: main
fn main() -> ExitCode {
    match command_line().get_matches().subcommand() {
        Some(("command", args)) => command(&words(args)),
        Some(("exec", args)) => exec(&words(args)),
        _ => both(),
    }
}
// ANCHOR_END: main

// ANCHOR: command
/// Start the program as a child and wait for it. Now there are two processes.
fn command(words: &[OsString]) -> ExitCode {
    say(format!("pid: {}", process::id()));
    match Command::new(&words[0]).args(&words[1..]).status() {
        Ok(status) => {
            // A signal leaves no exit status. Shells make one up: 128 + its number.
            let code = status.code().or(status.signal().map(|n| 128 + n));
            ExitCode::from(code.unwrap_or(125) as u8)
        }
        Err(error) => failed(&words[0], &error),
    }
}
// ANCHOR_END: command

// ANCHOR: exec
/// Become the program. The process goes on, with the same PID, but this code is
/// gone from it: `exec` comes back only if the kernel refused.
fn exec(words: &[OsString]) -> ExitCode {
    say(format!("pid: {}", process::id()));
    let error = Command::new(&words[0]).args(&words[1..]).exec();
    failed(&words[0], &error)
}
// ANCHOR_END: exec

// ANCHOR: both
/// The lesson in one go. `exec` comes last: there is no coming back from it.
fn both() -> ExitCode {
    let question = r#"echo "$0: the shell's PID is $$, its parent's PID is $PPID""#;
    command(&["/bin/sh", "-c", question, "command"].map(OsString::from));
    exec(&["/bin/sh", "-c", question, "exec"].map(OsString::from))
}
// ANCHOR_END: both

// ANCHOR: command_line
fn command_line() -> clap::Command {
    let cmd = Arg::new("CMD").help("The program and its arguments").num_args(1..);
    // Everything after CMD belongs to CMD, options too, and need not be UTF-8.
    let cmd = cmd.trailing_var_arg(true).value_parser(value_parser!(OsString));
    let cmd = cmd.default_value("/bin/sh");
    let command = clap::Command::new("command").about("Start CMD as a child, and wait for it");
    let exec = clap::Command::new("exec").about("Become CMD: the same process, a new program");
    clap::Command::new(env!("CARGO_BIN_NAME"))
        .about("Start a program in the two ways there are. With no subcommand: in both")
        .disable_help_subcommand(true)
        .subcommands([command.arg(cmd.clone()), exec.arg(cmd)])
}

fn words(args: &ArgMatches) -> Vec<OsString> {
    args.get_many("CMD").unwrap_or_default().cloned().collect()
}
// ANCHOR_END: command_line

// ANCHOR: say
/// One line of our own, on standard error: standard output is the program's.
fn say(line: String) {
    // `eprintln!` would panic where standard error is closed.
    let _ = io::stderr().write_all((line + "\n").as_bytes());
}
// ANCHOR_END: say

// ANCHOR: failed
/// The program did not start. The exit status is the shell's: 127 is "not
/// found", 126 "found, but it cannot be executed".
fn failed(program: &OsString, error: &io::Error) -> ExitCode {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let (name, program) = (env!("CARGO_BIN_NAME"), program.display());
    say(format!("{name}: exec {program}: {} ({errno:?})", errno.desc()));
    ExitCode::from(if errno == Errno::ENOENT { 127 } else { 126 })
}
// ANCHOR_END: failed
