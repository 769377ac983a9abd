//! Run by you, on the host: the command line. `run` is the subcommand for you;
//! `init` is the one that `run` starts inside the new PID namespace, and `exec`
//! the one that `init` starts to become the command.

mod both;
mod hint;
mod init;
mod mask;
mod reaper;
mod run;
mod wait;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nix::errno::Errno;
use nix::sys::signal::Signal;

// ANCHOR: main
fn main() -> ExitCode {
    let outcome = match command_line().get_matches().subcommand() {
        Some(("init", args)) => init::init(args.get_flag("foreground"), &words(args)),
        Some(("exec", args)) => init::exec(args, &words(args)),
        Some(("run", args)) => run::run(args.get_flag("ti"), &words(args)),
        _ => run::run(true, &["/bin/sh".into()]),
    };
    outcome.unwrap_or_else(|failure| {
        say(format!("{}: {}", env!("CARGO_BIN_NAME"), failure.message));
        if let Some(hint) = failure.hint {
            say(format!("hint: {hint}"));
        }
        ExitCode::from(failure.status)
    })
}
// ANCHOR_END: main

// ANCHOR: command_line
fn command_line() -> Command {
    // -ti is two short options in one word; here they are two names of one option.
    let ti = Arg::new("ti").long("ti").visible_alias("it").short('t').visible_short_alias('i');
    let ti = ti.overrides_with("ti").action(ArgAction::SetTrue);
    let ti = ti.help("Give CMD our standard input (else: /dev/null)");
    let cmd = Arg::new("CMD").help("The program and its arguments").num_args(1..);
    // Everything after CMD belongs to CMD, options too, and need not be UTF-8.
    let cmd = cmd.trailing_var_arg(true).value_parser(value_parser!(OsString));
    let run = Command::new("run").about("Start CMD in a container, and wait for it");
    let init = Command::new("init").about("What `run` starts inside. Do not call it outside");
    let exec = Command::new("exec").about("What `init` starts to become CMD. Do not call it");
    // Notes from `run`: on the signals that it found blocked, and on the terminal.
    let blocked = Arg::new("blocked").long("blocked").value_parser(value_parser!(Signal));
    let blocked = blocked.action(ArgAction::Append).hide(true);
    let front = Arg::new("foreground").long("foreground").action(ArgAction::SetTrue).hide(true);
    let inner = [blocked, front, cmd.clone().required(true)];
    Command::new(env!("CARGO_BIN_NAME"))
        .about("A container's init. With no subcommand: run --ti /bin/sh")
        .disable_help_subcommand(true)
        .subcommand(run.args([ti, cmd.clone().default_value("/bin/sh")]))
        .subcommands([init.args(inner.clone()), exec.args(inner)])
}

fn words(args: &ArgMatches) -> Vec<OsString> {
    args.get_many("CMD").unwrap_or_default().cloned().collect()
}
// ANCHOR_END: command_line

// ANCHOR: say
/// One line of our own, on standard error: standard output is the command's.
fn say(line: String) {
    // `eprintln!` would panic where standard error is closed.
    let _ = io::stderr().write_all((line + "\n").as_bytes());
}
// ANCHOR_END: say

// ANCHOR: failed
/// Why there is no container: what was tried, and what the kernel answered.
struct Failure {
    message: String,
    hint: Option<&'static str>,
    /// 125 means that the step failed, and not the command.
    status: u8,
}

/// For `map_err`: the call `tried` was refused.
fn failed<E: Into<io::Error>>(tried: &str) -> impl FnOnce(E) -> Failure {
    move |error| {
        let errno = Errno::from_raw(error.into().raw_os_error().unwrap_or_default());
        let message = format!("{tried}: {} ({errno:?})", errno.desc());
        Failure { message, hint: hint::hint(tried, errno), status: 125 }
    }
}
// ANCHOR_END: failed
