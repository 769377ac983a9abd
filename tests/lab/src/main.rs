//! The program behind `just`'s verbs, and the processes that the tests need beside themselves.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use lab::in_a_workplace;
use nix::sched::CloneFlags;
use nix::unistd::{AccessFlags, access};
use serde_json::json;

fn main() -> ExitCode {
    // What would make a test fail is no accident of the program's: one line of it is enough.
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload().downcast_ref::<String>().map(String::as_str);
        let words =
            words.or(panic.payload().downcast_ref::<&str>().copied()).unwrap_or("it failed");
        let _ = writeln!(io::stderr(), "lab: {words}");
    }));
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
        Some(("break", args)) => {
            return in_a_workplace(|| show_break(args).map(|()| ExitCode::SUCCESS));
        }
        Some(("start", args)) => start(args)?,
        Some(("check", args)) => return in_a_workplace(|| check(args)),
        Some(("mine", args)) => return mine(args),
        Some(("hint", args)) => return in_a_workplace(|| hint(args).map(|()| ExitCode::SUCCESS)),
        Some(("solution", args)) => {
            let step = step(args)?;
            let own = lab::grade::place(&step);
            lab::grade::begun(&step, &own)?;
            let own = own.join("src");
            let finished = lab::root().join("steps").join(&step).join("src");
            print(&lab::diff::directories(&own, &finished)?)?;
        }
        Some(("progress", _)) => progress()?,
        Some(("doctor", args)) => return doctor(args.get_flag("json")),
        Some(("memory", _)) => print(&lab::memory::table()?)?,
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
            nix::sched::unshare(CloneFlags::from_bits_retain(flags))?;
        }
        Some(("skips", args)) => {
            let file = args.get_one::<PathBuf>("FILE").context("no file")?;
            print(&lab::skipped(&std::fs::read_to_string(file).context("read the skips")?))?;
        }
        Some(("ahead", args)) => {
            let words: Vec<OsString> = args.get_many("CMD").unwrap_or_default().cloned().collect();
            return ahead(&words);
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
                within: args.get_one("within").copied().map(Duration::from_secs),
                block: args.get_one("block").copied(),
                apart: args.get_flag("apart"),
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

fn named() -> Arg {
    Arg::new("STEP").required(true).help("02, 2 or 02-init-pid1")
}

fn step(args: &ArgMatches) -> Result<String> {
    lab::step_named(args.get_one::<String>("STEP").map_or("", |word| word))
}

fn command_line() -> Command {
    let words = |name| Arg::new(name).num_args(1..).trailing_var_arg(true);
    Command::new("lab")
        // What its users type: their usage lines are to begin with it.
        .bin_name("just")
        .about("The instruments of the course. `just` lists what they are for")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands([
            Command::new("tree")
                .about("Start a step that runs a shell, and show who is whose child")
                .arg(named())
                .arg(words("ARG").value_parser(value_parser!(OsString)).help(
                    "The step's own arguments, ending in a shell [default: those that show its point]",
                )),
            Command::new("diff")
                .about("Show what a step adds to the step before")
                .args([Arg::new("OLD").required(true), Arg::new("NEW").required(true)]),
            Command::new("break")
                .about("Take one lesson out of a step, and show what breaks")
                .arg(named())
                .arg(Arg::new("NAME").help("The break [default: list those that there are]")),
            Command::new("start")
                .about("Begin to write a step yourself, in work/")
                .arg(named())
                .arg(Arg::new("again").long("again").action(ArgAction::SetTrue).help(
                    "Move what is there aside, and begin anew",
                )),
            Command::new("mine")
                .about("Run your step. As root, in a mount namespace of its own")
                .arg(named())
                .arg(
                    Arg::new("line")
                        .value_name("ARG")
                        .help("What the step itself is given")
                        .num_args(0..)
                        .trailing_var_arg(true)
                        .allow_hyphen_values(true)
                        .value_parser(value_parser!(OsString)),
                ),
            Command::new("check")
                .about("Grade the step that you write")
                .arg(named())
                .arg(
                    Arg::new("bin")
                        .long("bin")
                        .value_name("PROGRAM")
                        .value_parser(value_parser!(PathBuf))
                        .help("Grade this program, in whatever language, and build nothing"),
                )
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("For scripts")),
            Command::new("hint").about("Give the next hint for what fails first").arg(named()),
            Command::new("solution")
                .about("Show what is missing from your step to the finished one")
                .arg(named()),
            Command::new("progress").about("Show how far your steps are"),
            Command::new("doctor")
                .about("Say what this machine can do for the course. Exit status 1: not all steps")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("For scripts")),
            Command::new("memory").about("Weigh run and init while they wait, and tini"),
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
            Command::new("ahead")
                .about("Start a command where the clock that counts from boot is years ahead")
                .hide(true)
                .arg(words("CMD").required(true).value_parser(value_parser!(OsString))),
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
                .arg(Arg::new("within").long("within").value_parser(value_parser!(u64)))
                .arg(Arg::new("block").long("block").value_parser(value_parser!(i32)))
                .arg(Arg::new("apart").long("apart").action(ArgAction::SetTrue))
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
    let step = step(args)?;
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

fn start(args: &ArgMatches) -> Result<()> {
    let step = step(args)?;
    let place = lab::grade::place(&step);
    if args.get_flag("again") && place.exists() {
        let aside = (1..)
            .map(|number| place.with_extension(number.to_string()))
            .find(|path| !path.exists())
            .context("no name is free")?;
        std::fs::rename(&place, &aside).context("move it aside")?;
        print(&format!("{} is now {}\n", lab::grade::short(&place), lab::grade::short(&aside)))?;
    }
    lab::grade::start(&step, &place)?;
    let number = &step[..2];
    let place = lab::grade::short(&place);
    print(&format!(
        "{place} is yours. Look for TODO in {place}/src; the chapter is book/src/{step}.md.\n\
         `just mine {number}` runs it, `just check {number}` grades it, `just hint {number}` helps.\n"
    ))
}

fn check(args: &ArgMatches) -> Result<ExitCode> {
    let step = step(args)?;
    let own = lab::grade::place(&step);
    let json = args.get_flag("json");
    let program = match args.get_one::<PathBuf>("bin") {
        Some(program) => executable(program)?,
        None => match lab::grade::build(&step, &own) {
            Err(error) if json => {
                let report = json!({ "step": step, "passed": 0, "error": error.to_string() });
                print(&format!("{report:#}\n"))?;
                return Ok(ExitCode::FAILURE);
            }
            outcome => outcome?,
        },
    };
    silence();
    lab::subreaper::leave_the_hosts_mounts()?;
    let mut grades = Vec::new();
    for grade in lab::grade::grade(&step, &program)? {
        let mark = if grade.broken.is_none() { '✓' } else { '✗' };
        if !json {
            print(&format!("{mark} {}\n", grade.behaviour.name.replace('_', " ")))?;
        }
        grades.push(grade);
    }
    let report = lab::grade::report(&step, &grades);
    if own.exists() && !args.contains_id("bin") {
        std::fs::write(own.join("checked.json"), report.to_string())?;
    }
    if json {
        print(&format!("{report:#}\n"))?;
    } else {
        let first = grades.iter().find_map(|grade| Some((grade, grade.broken.as_ref()?)));
        if let Some((grade, broken)) = first {
            print(&format!(
                "\nThe first that fails: {}\n  tried:    {}\n  expected: {}\n  seen:     {}\n  hint:     {}\n",
                grade.behaviour.name.replace('_', " "),
                broken.tried,
                indented(&broken.expected),
                indented(&broken.seen),
                grade.behaviour.hints[0],
            ))?;
        }
        print(&format!("\n{} of {} behaviours\n", report["passed"], report["total"]))?;
    }
    let all = grades.iter().all(|grade| grade.broken.is_none());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A program that does not answer makes the lab panic; what it says then is in the grade, and is not to be
/// said twice.
fn silence() {
    std::panic::set_hook(Box::new(|_| ()));
}

/// With room on the left.
fn indented(text: &str) -> String {
    match text.trim() {
        "" => "nothing".to_owned(),
        _ => lab::grade::cut(text).replace('\n', "\n            "),
    }
}

/// A program that can be started, by its absolute path.
fn executable(program: &Path) -> Result<PathBuf> {
    let tried = || format!("grade {}", program.display());
    let path = std::fs::canonicalize(program).with_context(tried)?;
    if !path.is_file() || access(&path, AccessFlags::X_OK).is_err() {
        bail!("{}: it is not an executable file", tried());
    }
    Ok(path)
}

/// Runs the learner's own step.
fn mine(args: &ArgMatches) -> Result<ExitCode> {
    let step = step(args)?;
    let program = lab::grade::build(&step, &lab::grade::place(&step))?;
    // What it forgets to keep from the host, this does.
    lab::subreaper::leave_the_hosts_mounts()?;
    let mut command = process::Command::new(&program);
    command.arg0(&step).args(args.get_many::<OsString>("line").unwrap_or_default());
    Err(command.exec()).with_context(|| format!("start {step}"))
}

/// Three years, and nearly a second: unshare(1) sets whole seconds only.
fn ahead(words: &[OsString]) -> Result<ExitCode> {
    let time = CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME);
    lab::attempts::user_namespace(time)?;
    std::fs::write("/proc/self/timens_offsets", "boottime 100000000 999999999")
        .context("write timens_offsets")?;
    let mut child = process::Command::new(&words[0]);
    // To set an ID, std forks. Older kernels refuse vfork here.
    let status = child.args(&words[1..]).gid(0).status().context("start the command")?;
    Ok(ExitCode::from(u8::try_from(lab::contract::shell_status(status))?))
}

fn hint(args: &ArgMatches) -> Result<()> {
    let step = step(args)?;
    let own = lab::grade::place(&step);
    let program = lab::grade::build(&step, &own)?;
    silence();
    lab::subreaper::leave_the_hosts_mounts()?;
    let mut grades = lab::grade::grade(&step, &program)?;
    let Some(grade) = grades.find(|grade| grade.broken.is_some()) else {
        return print("nothing fails: no hint is needed\n");
    };
    // How many hints for this behaviour have been given already.
    let file = own.join("hints.json");
    let given = std::fs::read_to_string(&file).ok();
    let given = given.and_then(|text| text.strip_prefix(grade.behaviour.name)?.trim().parse().ok());
    let next = given.map_or(0, |given: usize| given + 1);
    let hints = grade.behaviour.hints;
    let name = grade.behaviour.name.replace('_', " ");
    match hints.get(next) {
        Some(hint) => {
            std::fs::write(&file, format!("{} {next}", grade.behaviour.name))?;
            print(&format!("{name} ({} of {}): {hint}\n", next + 1, hints.len()))
        }
        None => print(&format!(
            "{name}: there are no more hints; `just solution {}` shows the finished step\n",
            &step[..2]
        )),
    }
}

fn progress() -> Result<()> {
    for lab::grade::Progress { step, checked } in lab::grade::progress()? {
        let line = match checked {
            Some((passed, total)) if passed == total => format!("✓ all of {total} behaviours"),
            Some((passed, total)) => format!("… {passed} of {total} behaviours"),
            None if lab::grade::place(&step).exists() => "… begun".to_owned(),
            None => format!("  not begun: just start {}", &step[..2]),
        };
        print(&format!("{step:24}{line}\n"))?;
    }
    Ok(())
}

fn show_break(args: &ArgMatches) -> Result<()> {
    let step = step(args)?;
    let breaks = lab::breaks::breaks(&step)?;
    let Some(name) = args.get_one::<String>("NAME") else {
        for shown in &breaks {
            print(&format!("{}\n    {}\n", shown.name, shown.question))?;
        }
        let first = breaks.first().map_or("NAME", |shown| &shown.name);
        return print(&format!(
            "\nTake one, and say first what you expect: just break {} {first}\n",
            &step[..2]
        ));
    };
    let names = || breaks.iter().map(|shown| shown.name.as_str()).collect::<Vec<_>>().join(", ");
    let shown = breaks.iter().find(|shown| shown.name == *name);
    let shown =
        shown.with_context(|| format!("{step} has no break {name:?}; it has: {}", names()))?;
    print(&format!("{}\n\n{}\n", shown.question, shown.patch))?;
    let whole = lab::build(&format!("step-{step}"), &step)?;
    print(&format!("As it is:\n\n{}\n", lab::breaks::demonstrate(shown, &whole)))?;
    let copy = lab::breaks::Copy::fresh()?;
    let broken = copy.with(shown, |copy| {
        let program = copy.build(&step)?;
        Ok(lab::breaks::demonstrate(shown, &program))
    })?;
    print(&format!("Broken:\n\n{broken}"))
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
