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
        Some(("doctor", args)) => return doctor(args.get_flag("json")),
        Some(("try", args)) => {
            let word = |name| args.get_one::<String>(name).map_or("", |word| word);
            lab::attempts::attempt(word("ABILITY"), word("TRIAL"))?;
        }
        Some(("soak", args)) => return soak(args),
        Some(("soaking", args)) => {
            let number = |name| args.get_one::<u64>(name).copied().unwrap_or_default();
            let outcome = lab::soak::soak(&lab::soak::Plan {
                program: args.get_one::<PathBuf>("program").context("no program")?.clone(),
                runs: u32::try_from(number("runs"))?,
                at_once: u32::try_from(number("at-once"))?,
                seed: number("seed"),
            })?;
            print(&format!("{outcome}\n"))?;
            let clean = outcome.odd.is_empty() && outcome.left.is_empty();
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Some(("unshare", args)) => {
            let flags = args.get_one::<i32>("FLAGS").copied().unwrap_or_default();
            nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(flags))?;
        }
        Some(("skips", args)) => {
            let file = args.get_one::<PathBuf>("FILE").context("no file")?;
            print(&lab::skipped(&std::fs::read_to_string(file).context("read the skips")?))?;
        }
        Some(("deep", args)) => {
            let words: Vec<OsString> = args.get_many("CMD").unwrap_or_default().cloned().collect();
            return Ok(ExitCode::from(lab::deep(&words)?));
        }
        Some(("refuse", args)) => {
            let rules: Vec<String> = args.get_many("RULE").unwrap_or_default().cloned().collect();
            let words: Vec<OsString> = args.get_many("CMD").unwrap_or_default().cloned().collect();
            lab::refuse(&rules, process::Command::new(&words[0]).args(&words[1..]))?;
        }
        Some(("subreaper", args)) => {
            lab::subreaper::watch(&lab::subreaper::Orders {
                report: args.get_one::<PathBuf>("report").context("no report")?.clone(),
                user: args.get_one("user").copied(),
                block: args.get_one("block").copied(),
                scratch_host: args.get_flag("scratch-host"),
                terminal: args.get_one("terminal").cloned(),
                through: args.get_many("through").unwrap_or_default().cloned().collect(),
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
            Command::new("doctor")
                .about("Say what this machine can do for the course. Exit status 1: not all steps")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("For scripts")),
            Command::new("try")
                .about("Try one ability of the machine, in this process")
                .hide(true)
                .args(["ABILITY", "TRIAL"].map(|name| Arg::new(name).required(true))),
            Command::new("soak")
                .about("Run steps many times, kill some, and count what is left")
                .arg(Arg::new("STEP").help("02, 2 or 02-init-pid1 [default: all]"))
                .args(soak_options()),
            Command::new("soaking")
                .about("Do so with one program, from this process")
                .hide(true)
                .arg(Arg::new("program").long("program").value_parser(value_parser!(PathBuf)))
                .args(soak_options()),
            Command::new("unshare")
                .about("Make namespaces, and end")
                .hide(true)
                .arg(Arg::new("FLAGS").required(true).value_parser(value_parser!(i32))),
            Command::new("skips")
                .about("List what a test run could not test, from the file of LAB_SKIPS")
                .hide(true)
                .arg(Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf))),
            Command::new("deep")
                .about("Become a command, below as many PID namespaces as the kernel allows")
                .hide(true)
                .arg(words("CMD").required(true).value_parser(value_parser!(OsString))),
            Command::new("refuse")
                .about("Become a command, behind a filter that refuses system calls")
                .hide(true)
                .arg(Arg::new("RULE").long("rule").action(ArgAction::Append).required(true))
                .arg(words("CMD").required(true).value_parser(value_parser!(OsString))),
            Command::new("subreaper")
                .about("Start a command line, and report what it leaves behind")
                .hide(true)
                .arg(Arg::new("report").long("report").value_parser(value_parser!(PathBuf)))
                .arg(Arg::new("user").long("user").value_parser(value_parser!(u32)))
                .arg(Arg::new("block").long("block").value_parser(value_parser!(i32)))
                .arg(Arg::new("scratch-host").long("scratch-host").action(ArgAction::SetTrue))
                .arg(
                    Arg::new("through")
                        .long("through")
                        .action(ArgAction::Append)
                        .require_equals(true)
                        .num_args(1)
                        .value_parser(value_parser!(OsString)),
                )
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

fn soak_options() -> [Arg; 3] {
    let number = |name, default: &'static str, help| {
        let option = Arg::new(name).long(name).value_parser(value_parser!(u64)).help(help);
        if default.is_empty() { option } else { option.default_value(default) }
    };
    [
        number("runs", "2000", "How many runs of each step"),
        number("at-once", "16", "How many at a time"),
        number("seed", "", "For the same victims and moments again [default: another each time]"),
    ]
}

fn soak(args: &ArgMatches) -> Result<ExitCode> {
    let steps = match args.get_one::<String>("STEP") {
        Some(word) => vec![lab::step_named(word)?],
        None => lab::steps()?,
    };
    let number = |name| args.get_one::<u64>(name).copied();
    let seed = number("seed").unwrap_or_else(|| fastrand::u64(..));
    let runs = number("runs").unwrap_or_default();
    print(&format!("{runs} runs of each step; the seed is {seed}\n"))?;
    let mut clean = true;
    for step in steps {
        let program = lab::build(&format!("step-{step}"), &step)?;
        let start = std::time::Instant::now();
        // A process of its own: it moves into a user namespace, with limits, for good.
        let mut soaking = process::Command::new("/proc/self/exe");
        soaking.arg("soaking").arg("--program").arg(program).args(["--seed", &seed.to_string()]);
        soaking.args(["--runs", &runs.to_string()]);
        soaking.args(["--at-once", &number("at-once").unwrap_or(1).to_string()]);
        let output = soaking.stderr(process::Stdio::inherit()).output().context("start a soak")?;
        let verdict = if output.status.success() { "nothing is left" } else { "NOT CLEAN" };
        clean &= output.status.success();
        let said = String::from_utf8_lossy(&output.stdout);
        let seconds = start.elapsed().as_secs_f32();
        print(&format!("{step}: {verdict}, {seconds:.1} s; {said}"))?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn doctor(json: bool) -> Result<ExitCode> {
    let report = lab::doctor::examine();
    match json {
        true => print(&format!("{:#}\n", report.json()))?,
        false => print(&report.text())?,
    }
    Ok(if report.all_steps() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
