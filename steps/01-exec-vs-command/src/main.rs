//! Run by you, on the host. A process can start a program in two ways: as a
//! child (`command`), or in its own place (`exec`).

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{self, Command, ExitCode};
use std::{env, fmt::Display};

use clap::{Parser, Subcommand};
use nix::errno::Errno;

// ANCHOR: main
fn main() -> ExitCode {
    match Cli::parse().subcommand {
        Some(Start::Command { argv }) => spawn_and_wait(&argv),
        Some(Start::Exec { argv }) => exec_command(&argv),
        None => demo(),
    }
}
// ANCHOR_END: main

// ANCHOR: command
/// Starts the program as a child and waits for it, so now there are two
/// processes.
fn spawn_and_wait(argv: &[OsString]) -> ExitCode {
    log(format!("pid: {}", process::id()));
    match Command::new(&argv[0]).args(&argv[1..]).status() {
        Ok(status) => {
            // A process that signal N kills has no exit code, so shells report 128 + N.
            let code = status.code().or(status.signal().map(|n| 128 + n));
            ExitCode::from(code.unwrap_or(125) as u8)
        }
        Err(error) => exec_failed(&argv[0], error),
    }
}
// ANCHOR_END: command

// ANCHOR: exec
/// Becomes the program: the process keeps its PID, but runs the program's code
/// instead of ours. If `exec` returns at all, it has failed.
fn exec_command(argv: &[OsString]) -> ExitCode {
    log(format!("pid: {}", process::id()));
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    exec_failed(&argv[0], error)
}
// ANCHOR_END: exec

// ANCHOR: demo
/// Starts a shell both ways. `exec` comes last, because nothing runs after it.
fn demo() -> ExitCode {
    let script = r#"echo "$0: the shell's PID is $$, its parent's PID is $PPID""#;
    spawn_and_wait(&["/bin/sh", "-c", script, "command"].map(OsString::from));
    exec_command(&["/bin/sh", "-c", script, "exec"].map(OsString::from))
}
// ANCHOR_END: demo

// ANCHOR: cli
/// Start a program as a child, or become it. Without a subcommand: both
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    subcommand: Option<Start>,
}

// `trailing_var_arg`: everything after CMD belongs to CMD, options included.
#[derive(Subcommand)]
enum Start {
    /// Start CMD as a child and wait for it
    Command {
        /// The program and its arguments
        #[arg(value_name = "CMD", trailing_var_arg = true, default_value = "/bin/sh")]
        argv: Vec<OsString>,
    },
    /// Become CMD: the same process, a new program
    Exec {
        /// The program and its arguments
        #[arg(value_name = "CMD", trailing_var_arg = true, default_value = "/bin/sh")]
        argv: Vec<OsString>,
    },
}
// ANCHOR_END: cli

// ANCHOR: log
/// Writes a line to standard error, because standard output is the program's.
fn log(line: impl Display) {
    // `eprintln!` would panic if standard error is closed.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
// ANCHOR_END: log

// ANCHOR: exec_failed
/// Reports why the program didn't start, and returns the exit status that a shell
/// would: 127 if it wasn't found, 126 if it was found but can't be executed.
fn exec_failed(program: &OsStr, error: io::Error) -> ExitCode {
    let mut errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    // EACCES can also mean that a directory in PATH can't be searched.
    if errno == Errno::EACCES && !is_found(program) {
        errno = Errno::ENOENT;
    }
    let (name, program) = (env!("CARGO_BIN_NAME"), program.display());
    log(format!("{name}: exec {program}: {} ({errno:?})", errno.desc()));
    ExitCode::from(if errno == Errno::ENOENT { 127 } else { 126 })
}

/// Searches PATH as execvp(3) does: only for a name without a slash.
fn is_found(program: &OsStr) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_in = |directory: PathBuf| directory.join(program).exists();
    program.as_encoded_bytes().contains(&b'/') || env::split_paths(&path).any(is_in)
}
// ANCHOR_END: exec_failed
