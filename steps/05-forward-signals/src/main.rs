//! All of our processes start here: `run`, which you start in a shell, `init`,
//! which `run` starts in the container, and `exec`, which `init` starts and which
//! becomes the command. The subcommand says which of them we are.

mod error;
mod guard;
mod init;
mod reap;
mod run;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::sys::signal::Signal;

use crate::error::log;

// ANCHOR: main
fn main() -> ExitCode {
    let result = match Cli::parse().subcommand {
        Some(Role::Run { interactive, argv }) => run::run(interactive, &argv),
        Some(Role::Init(Inner { argv, .. })) => init::init(&argv),
        Some(Role::Exec(Inner { blocked, argv })) => init::exec(&blocked, &argv),
        None => run::run(true, &["/bin/sh".into()]),
    };
    result.unwrap_or_else(|error| {
        log(format!("{}: {error}", env!("CARGO_BIN_NAME")));
        // As with `docker run`, exit status 125 means that our own program failed,
        // and not the command.
        ExitCode::from(125)
    })
}
// ANCHOR_END: main

// ANCHOR: cli
/// A container's init. Without a subcommand, do the same as run --ti /bin/sh
#[derive(Parser)]
// By default, clap adds a subcommand `help`, but the option --help is enough.
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    subcommand: Option<Role>,
}

// With `trailing_var_arg`, everything after CMD belongs to CMD, even options.
#[derive(Subcommand)]
enum Role {
    /// Start CMD in a container and wait for it
    Run {
        /// Give CMD our standard input [default: /dev/null]
        // As in Docker, -ti means -t -i. Here, these are two names for one option, which
        // `overrides_with` allows to occur twice. Docker creates a new terminal for the
        // container. Our CMD uses the terminal in which you started `run`.
        #[arg(long = "ti", short = 't', overrides_with = "interactive")]
        #[arg(visible_alias = "it", visible_short_alias = 'i')]
        interactive: bool,
        /// The program and its arguments
        #[arg(value_name = "CMD", trailing_var_arg = true, default_value = "/bin/sh")]
        argv: Vec<OsString>,
    },
    /// Be PID 1 and start CMD as a child. Only `run` may use this subcommand
    Init(Inner),
    /// Become CMD. Only `init` starts this subcommand
    Exec(Inner),
}

// The arguments of `init` and `exec`. `init` passes all of them on to `exec`.
#[derive(Args)]
struct Inner {
    /// Leave this signal blocked, as it was when `run` started
    #[arg(long)]
    blocked: Vec<Signal>,
    /// The program and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, required = true)]
    argv: Vec<OsString>,
}
// ANCHOR_END: cli
