//! The learner's command line, behind `just`.

use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::io::{IsTerminal, Write, stderr};
use std::process::{ExitCode, Termination};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use course::cleanup::{contained, with_cleanup};
use course::commands;
use course::print::{fill, is_broken_pipe, width};
use course::step::Step;
use course::style::{self, Color};
use course::workspace::called_as;
use harness::{Error, Result};

/// Learn what a container's init is
#[derive(Parser, Debug)]
#[command(disable_help_subcommand = true)]
struct Cli {
    /// Choose when to print in color
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the steps
    Steps,
    /// Run a step
    Run {
        /// Step to run: 02, 2, or 02-init-pid1
        step: Step,
        /// Arguments of the step itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Start a step that runs a shell, and show its process tree
    Tree {
        /// Step to start: 02, 2, or 02-init-pid1
        step: Step,
        /// Arguments of the step that start a shell [default: its examples]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Show what a step adds to an earlier one
    Diff {
        /// Step to start from
        old: Step,
        /// Step to compare with OLD
        new: Step,
    },
    /// Show a step's system calls (needs strace)
    Trace {
        /// Step to run: 02, 2, or 02-init-pid1
        step: Step,
        /// Arguments of the step itself [default: run /bin/true]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Step through a step's system calls, one at a time
    Slow(commands::Slow),
    /// Remove one idea from a step, and see what breaks
    Break {
        /// Step to break: 02, 2, or 02-init-pid1
        step: Step,
        /// Break to show [default: list them]
        name: Option<String>,
    },
    /// Create a starter for your own step in work/
    Start(commands::Start),
    /// Run your step, in private mounts if you're root
    Work {
        /// Step to run: 02, 2, or 02-init-pid1
        step: Step,
        /// Arguments of the step itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Grade your step
    Check(commands::Check),
    /// Show the next hint, and those before it
    Hint(commands::Hint),
    /// Check your step again on every save, and when you press r
    ///
    /// Press s to see your program in slow motion, and q or Ctrl-C to come back.
    ///
    /// If you save a file meanwhile, it's checked as soon as you're back.
    Watch {
        /// Step you are writing: 02, 2, or 02-init-pid1
        step: Step,
    },
    /// Show how your step differs from our solution
    Solution {
        /// Step you are writing: 02, 2, or 02-init-pid1
        step: Step,
    },
    /// Show how many checks each of your steps passes
    Progress,
    /// Check whether this machine can run the course
    ///
    /// The exit status is 1 if a step can't run.
    Doctor {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Run steps many times, kill some, and count what is left
    Soak(commands::Soak),
    /// Compare the memory use of run, init, and tini
    Memory,
    /// Run the course's tests, and list what this machine couldn't test
    Test {
        /// Step to test [default: all]
        step: Option<Step>,
    },
    /// Apply each break, and check which tests fail
    TestBreaks {
        /// Step to break [default: all]
        step: Option<Step>,
    },
}

fn main() -> ExitCode {
    // The harness starts this program again for the processes that it needs.
    if let Some(code) = harness::helper::main_if_asked() {
        return code;
    }
    let command = Cli::command().bin_name(called_as());
    let matches = match command.try_get_matches_from(with_end_of_options(env::args_os())) {
        Ok(matches) => matches,
        // Our own reason, for example for a step that isn't there, needs no more words.
        Err(error) => match error.source().and_then(|reason| reason.downcast_ref::<Error>()) {
            Some(reason) => {
                print_error(reason);
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Error::new(error.to_string()));
    match cli.and_then(|cli| {
        style::choose(cli.color);
        execute(cli.command)
    }) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Puts `--` after the step of a command that passes on arguments, so that the step also gets `--help`.
fn with_end_of_options(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    let passes_on = |name: &OsString| ["run", "tree", "trace", "work"].iter().any(|it| name == it);
    let is_option = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-");
    if let [_, name, step, first, ..] = &args[..]
        && (passes_on(name) && !is_option(step) && is_option(first) && first != "--")
    {
        args.insert(3, "--".into());
    }
    args
}

/// Prints an error. At a terminal, lines that are too long are broken between words.
fn print_error(error: &Error) {
    let mut text = format!("course: {error}");
    if stderr().is_terminal() {
        text = text
            .lines()
            .flat_map(|line| fill("", "", line, width()))
            .collect::<Vec<_>>()
            .join("\n");
    }
    let _ = writeln!(stderr(), "{text}");
}

fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Steps => commands::list().map(<()>::report),
        Command::Run { step, args } => commands::run(&step, &args),
        Command::Tree { step, args } => commands::tree(&step, args).map(<()>::report),
        Command::Diff { old, new } => commands::diff(&old, &new).map(<()>::report),
        Command::Trace { step, args } => commands::trace(&step, &args),
        Command::Slow(options) => commands::slow(&options),
        Command::Break { step, name } => {
            with_cleanup(|| commands::break_step(&step, name.as_deref()))
        }
        Command::Start(options) => commands::start(&options).map(<()>::report),
        Command::Work { step, args } => commands::work(&step, &args),
        Command::Check(options) => contained(|| commands::check(&options)),
        Command::Hint(options) => contained(|| commands::hint(&options)),
        Command::Watch { step } => contained(|| commands::watch(step)),
        Command::Solution { step } => commands::solution(&step).map(<()>::report),
        Command::Progress => commands::progress().map(<()>::report),
        Command::Doctor { json } => commands::doctor(json),
        Command::Soak(options) => with_cleanup(|| commands::soak(&options)),
        Command::Memory => commands::memory().map(<()>::report),
        Command::Test { step } => with_cleanup(|| commands::test(step.as_ref())),
        Command::TestBreaks { step } => with_cleanup(|| commands::test_breaks(step.as_ref())),
    }
}
