//! Commands that run a finished step.

use std::ffi::OsString;
use std::io::stdout;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use harness::{
    Context, Environment, Error, Requirement, Result, Supervisor, exit_code, helper_path, pass_on,
};

use crate::print::{print, suggest};
use crate::step::Step;

/// Becomes the step.
///
/// # Errors
/// It doesn't build or start, or the arguments are those of another program.
pub fn run(step: &Step, args: &[OsString]) -> Result<ExitCode> {
    explain(step, args, "run")?;
    let program = step.build()?;
    Err(Command::new(program).arg0(step.bin()).args(args).exec()).context(format!("exec {step}"))
}

/// Corrects what one types out of habit: a command without the subcommand, or an option of Docker.
pub(super) fn explain(step: &Step, args: &[OsString], verb: &str) -> Result {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let mut words = words.iter().map(|word| &**word).peekable();
    let [subcommand, _] = step.subcommands();
    let typed = |words: Vec<&str>| {
        let words = shlex::try_join(words).unwrap_or_default();
        format!("{} {subcommand} {words}", step.recipe(verb))
    };
    let known = |word: &str| step.subcommands().contains(&word) || word == "help";
    if let Some(word) = words.peek().filter(|word| !word.starts_with('-') && !known(word)) {
        let message = format!("{step} has no subcommand {word}; to run {word}: ");
        return Err(Error::new(message + &typed(words.collect())));
    }
    // Docker's options come before the command, with or without our subcommand in front.
    words.next_if_eq(&subcommand);
    let (mut ours, mut dockers) = (Vec::new(), None);
    while let Some(word) = words.next_if(|word| word.starts_with('-') && *word != "--") {
        match word.split('=').next().unwrap_or_default() {
            "--rm" | "-d" | "--detach" | "--init" | "--privileged" => {
                dockers = dockers.or(Some(word));
            }
            "--name" | "-p" | "--publish" | "-v" | "--volume" | "-e" | "--env" | "-w" | "-u"
            | "--user" | "--hostname" | "--net" | "--network" | "--pid" => {
                dockers = dockers.or(Some(word));
                if !word.contains('=') {
                    words.next();
                }
            }
            _ => ours.push(word),
        }
    }
    let Some(option) = dockers else { return Ok(()) };
    ours.extend(words);
    let message = format!("{option} is an option of Docker and not of {step}; without it: ");
    Err(Error::new(message + &typed(ours)))
}

/// Shows a step's system calls.
///
/// # Errors
/// It doesn't build, or strace isn't installed.
pub fn trace(step: &Step, args: &[OsString]) -> Result<ExitCode> {
    if Requirement::Tool("strace").check().is_err() {
        let message = "strace isn't installed; your distribution has a package of that name";
        return Err(Error::new(message));
    }
    explain(step, args, "trace")?;
    let program = step.build()?;
    let options = "--follow-forks --quiet=attach,exit,path-resolution --string-limit=60 --signal=none \
        --trace=execve,clone,clone3,fork,vfork,unshare,mount,prctl,getpid,wait4,waitid,exit_group";
    let [subcommand, _] = step.subcommands();
    let mut words: Vec<OsString> = options.split(' ').map(OsString::from).collect();
    words.push(program.into());
    if args.is_empty() {
        words.extend([subcommand, "/bin/true"].map(OsString::from));
    } else {
        words.extend_from_slice(args);
    }
    let supervisor = Environment::inherited().supervise("strace", words).without_timeout();
    let (calls, to_calls) = std::io::pipe().context("pipe")?;
    let running = supervisor.start(Stdio::inherit(), Stdio::inherit(), to_calls.into())?;
    // If our reader goes (`| head`), strace would wait for a container that it can't end.
    pass_on(calls, stdout())?;
    let exit = running.end()?;
    suggest(step.recipe("slow"))?;
    Ok(exit_code(exit.shell_status()))
}

/// The arguments of `soak`.
#[derive(Args, Debug)]
pub struct Soak {
    /// Step to soak: 02, 2, or 02-init-pid1 [default: every step]
    pub step: Option<Step>,
    /// Run each step this many times
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Run this many at a time
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u32).range(1..=1000))]
    pub jobs: u32,
    /// Repeat the kills of the run with this seed [default: random]
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Runs steps many times, kills some, and counts what is left.
///
/// # Errors
/// A step doesn't build, or can't be started.
pub fn soak(options: &Soak) -> Result<ExitCode> {
    let steps = options.step.clone().map_or_else(Step::all, |step| Ok(vec![step]))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    print(format!("{} runs of each step; the seed is {seed}\n", options.runs))?;
    let mut all_clean = true;
    for step in steps {
        let mut config = step.soak_config();
        config.program = step.build()?;
        (config.runs, config.jobs, config.seed) = (options.runs, options.jobs, seed);
        // A run that hangs never ends, but one on a busy, emulated machine took longer than ten seconds.
        config.patience = Duration::from_secs(60) + Duration::from_millis(100) * options.jobs;
        let start = Instant::now();
        // We are our own helper.
        let environment = Environment::inherited();
        let helper =
            Supervisor::new(&environment, &helper_path()?, "harness-helper", config.args());
        let output = helper.without_timeout().output()?;
        let clean = output.exit.status.success();
        all_clean &= clean;
        let verdict = if clean { "nothing is left" } else { "NOT CLEAN" };
        let said = [output.stdout, output.stderr].concat();
        let (said, seconds) = (String::from_utf8_lossy(&said), start.elapsed().as_secs_f32());
        print(format!("{step}: {verdict}, {seconds:.1} s; {said}"))?;
    }
    Ok(if all_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
