//! The program behind `just`'s verbs, and the processes that the tests need beside themselves.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

fn main() -> ExitCode {
    match act(&command_line().get_matches()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(matches: &ArgMatches) -> Result<ExitCode> {
    match matches.subcommand() {
        Some(("tree", args)) => tree(args)?,
        Some(("diff", args)) => {
            let step = |name| lab::step_named(args.get_one::<String>(name).map_or("", |word| word));
            print(&lab::diff::steps(&step("OLD")?, &step("NEW")?)?)?;
        }
        Some(("doctor", _)) => return doctor(),
        Some(("memory", _)) => print(&lab::memory::table()?)?,
        Some(("try", args)) => {
            let ability = args.get_one::<String>("ABILITY").context("no ability")?;
            lab::attempts::attempt(ability)?;
        }
        Some(("subreaper", args)) => {
            lab::subreaper::watch(&lab::subreaper::Orders {
                report: args.get_one::<PathBuf>("report").context("no report")?.clone(),
                user: args.get_one("user").copied(),
                block: args.get_one("block").copied(),
                scratch_host: args.get_flag("scratch-host"),
                terminal: args.get_one("terminal").cloned(),
                program: std::env::var_os("LAB_PROGRAM").context("no LAB_PROGRAM")?,
                line: args.get_many("CMD").unwrap_or_default().cloned().collect(),
            })?;
        }
        _ => bail!("no such subcommand"),
    }
    Ok(ExitCode::SUCCESS)
}

fn command_line() -> Command {
    let words = |name| Arg::new(name).num_args(1..).trailing_var_arg(true);
    Command::new("lab")
        .about("The instruments of the course. `just` lists what they are for")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands([
            Command::new("tree")
                .about("Start a step that runs a shell, and show who is whose child")
                .arg(Arg::new("STEP").required(true).help("02, 2 or 02-init-pid1"))
                .arg(words("ARG").value_parser(value_parser!(OsString)).help(
                    "The step's own arguments, ending in a shell [default: those that show its point]",
                )),
            Command::new("diff")
                .about("Show what a step adds to the step before")
                .args([Arg::new("OLD").required(true), Arg::new("NEW").required(true)]),
            Command::new("doctor").about("Say what this machine can do for the course"),
            Command::new("memory").about("Weigh run and init while they wait, and tini"),
            Command::new("try")
                .about("Try one ability of the machine, in this process")
                .hide(true)
                .arg(Arg::new("ABILITY").required(true)),
            Command::new("subreaper")
                .about("Start a command line, and report what it leaves behind")
                .hide(true)
                .arg(Arg::new("report").long("report").value_parser(value_parser!(PathBuf)))
                .arg(Arg::new("user").long("user").value_parser(value_parser!(u32)))
                .arg(Arg::new("block").long("block").value_parser(value_parser!(i32)))
                .arg(Arg::new("scratch-host").long("scratch-host").action(ArgAction::SetTrue))
                .arg(Arg::new("terminal").long("terminal").value_parser(value_parser!(PathBuf)))
                .arg(words("CMD").required(true).value_parser(value_parser!(OsString))),
        ])
}

fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // `just diff 01 02 | head` is no mistake.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("write to standard output"),
    }
}

fn tree(args: &ArgMatches) -> Result<()> {
    let step = lab::step_named(args.get_one::<String>("STEP").map_or("", |word| word))?;
    let given: Vec<OsString> = args.get_many("ARG").unwrap_or_default().cloned().collect();
    let shell = |verb: &[&str]| verb.iter().map(OsString::from).collect::<Vec<_>>();
    let lines = match (given.is_empty(), step.starts_with("01")) {
        (false, _) => vec![given],
        (true, true) => vec![shell(&["command", "/bin/sh"]), shell(&["exec", "/bin/sh"])],
        (true, false) => vec![shell(&["run", "--ti", "/bin/sh"])],
    };
    let program = lab::build(&format!("step-{step}"), &step)?;
    for (index, line) in lines.iter().enumerate() {
        let words = line.iter().map(|word| String::from_utf8_lossy(word.as_bytes()));
        let words = words.collect::<Vec<_>>().join(" ");
        let mut command = process::Command::new(&program);
        command.arg0(&step).args(line);
        let held = lab::Held::start(command).with_context(|| format!("{step} {words}"))?;
        let gap = if index == 0 { "" } else { "\n" };
        print(&format!("{gap}$ {step} {words}\n{}", held.tree.text()))?;
    }
    Ok(())
}

fn doctor() -> Result<ExitCode> {
    let mut steps_run = false;
    for ability in [lab::Ability::Root, lab::Ability::Userns] {
        let verdict = match ability.here() {
            Ok(()) => "ok".to_owned(),
            Err(reason) => format!("no: {reason}"),
        };
        steps_run |= verdict == "ok";
        print(&format!("{:<8}{verdict}\n", ability.name()))?;
    }
    Ok(if steps_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
