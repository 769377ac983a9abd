//! You start this program in a shell. A program can start another program in two
//! ways: in a child process (`command`), or in its own process, in which the new
//! program replaces the old one (`exec`).

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
/// Starts the program in a child process and waits until the child dies. So there
/// are two processes, and only the child runs the program.
fn spawn_and_wait(argv: &[OsString]) -> ExitCode {
    log(format!("pid: {}", process::id()));
    match Command::new(&argv[0]).args(&argv[1..]).status() {
        Ok(status) => {
            // If signal N killed the child, the child has no exit status, so we
            // exit with 128 + N, as shells do. A dead child has either an exit
            // status or a signal, so we never need the 125.
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
/// Starts a shell in both ways. `exec` comes last, because it replaces our program.
fn demo() -> ExitCode {
    let script = r#"echo "$0: the shell's PID is $$, its parent's PID is $PPID""#;
    spawn_and_wait(&["/bin/sh", "-c", script, "command"].map(OsString::from));
    exec_command(&["/bin/sh", "-c", script, "exec"].map(OsString::from))
}
// ANCHOR_END: demo

// ANCHOR: cli
/// Start a program as a child, or become it. Without a subcommand, do both
#[derive(Parser)]
// By default, clap adds a subcommand `help`, but the option --help is enough.
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    subcommand: Option<Start>,
}

// With `trailing_var_arg`, everything after CMD belongs to CMD, even options.
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
/// Writes a line to standard error, because standard output belongs to the program.
fn log(line: impl Display) {
    // `eprintln!` would panic if it couldn't write, for example to a pipe that no
    // process reads. (Rust ignores SIGPIPE, which would otherwise kill us.) Each
    // line is a single write, so that lines from two processes can't mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
// ANCHOR_END: log

// ANCHOR: exec_failed
/// Reports why the program didn't start, and returns the same exit status as a
/// shell: 127 if the program wasn't found, and 126 if it was found but can't be
/// executed.
fn exec_failed(program: &OsStr, error: io::Error) -> ExitCode {
    let mut errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    // If PATH contains a directory that we're forbidden to search, `exec` fails
    // with EACCES even for a program that doesn't exist. A shell exits with 127 in
    // this case.
    if errno == Errno::EACCES && !is_found(program) {
        errno = Errno::ENOENT;
    }
    let (name, program) = (env!("CARGO_BIN_NAME"), program.display());
    log(format!("{name}: exec {program}: {} ({errno:?})", errno.desc()));
    ExitCode::from(if errno == Errno::ENOENT { 127 } else { 126 })
}

/// Searches PATH for the program, as execvp(3) does. Returns true for a name with a
/// slash, because `exec` uses it as a path, and the EACCES is about that path.
fn is_found(program: &OsStr) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_in = |directory: PathBuf| directory.join(program).exists();
    program.as_encoded_bytes().contains(&b'/') || env::split_paths(&path).any(is_in)
}
// ANCHOR_END: exec_failed
