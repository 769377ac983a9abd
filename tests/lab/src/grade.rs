//! The learner's own step, below `work/`: where it starts, how far it is, what comes next.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::contract::{self, Broken, Kept};
use crate::session::somebody_looks_on;
use crate::workspace::{root, steps};
use crate::{Caller, Step, callers, lessons};

/// Something that a step does, and what helps one who builds it.
pub struct Behaviour {
    /// Its name, which is a test's name too.
    pub name: &'static str,
    /// Hints, the broadest first.
    pub hints: &'static [&'static str],
    check: fn(&Step) -> Kept,
}

impl Behaviour {
    /// Whether `step` does it.
    ///
    /// # Errors
    /// It does not; what was expected, and what was seen.
    pub fn kept(&self, step: &Step) -> Kept {
        (self.check)(step)
    }
}

macro_rules! behaviours {
    ($($module:ident::$name:ident: $($hint:literal),+;)*) => {
        &[$(Behaviour { name: stringify!($name), hints: &[$($hint),+], check: $module::$name }),*]
    };
}

/// What is new in step 02.
const STEP_02: &[Behaviour] = behaviours! {
    contract::run_says_who_it_is_and_init_is_pid_1:
        "`run` does not start CMD but itself: /proc/self/exe, with the arguments `init`, `--`, CMD, ARG…",
        "unshare(CLONE_NEWPID) moves the children of the caller, not the caller. Call it before the start.",
        "Without root it is EPERM. Then unshare(CLONE_NEWUSER|CLONE_NEWPID), and write `deny` to \
         /proc/self/setgroups, and `0 UID 1` and `0 GID 1` to /proc/self/uid_map and gid_map.";
    lessons::the_command_is_pid_1:
        "There must be two processes: `run`, and the command. Is `init` still there?",
        "CommandExt::exec takes the process over. It returns only if it failed.";
};

/// What is new in step 03.
const STEP_03: &[Behaviour] = behaviours! {
    lessons::ps_shows_the_container_and_nothing_else:
        "A procfs shows the PID namespace of the process that mounts it. Which of your processes is in the new PID namespace?",
        "In `init`: unshare(CLONE_NEWNS), untie the copies (the next behaviour), and then mount a file system \
         of the type proc on /proc.";
    lessons::the_hosts_proc_is_unharmed:
        "On a host with a shared `/`, what you mount appears on the host too. Untie the copies first.",
        "mount(None::<&str>, \"/\", None::<&str>, MS_REC|MS_PRIVATE, None::<&str>), between unshare and the \
         mount of proc. Without MS_REC, /proc itself stays tied.";
    lessons::proc_is_nosuid_nodev_noexec:
        "Three flags of mount(2): nobody should start a program, open a device, or change user from /proc.";
};

/// What is new in step 04.
const STEP_04: &[Behaviour] = behaviours! {
    lessons::init_stays_and_the_command_is_its_child:
        "Command::spawn and not exec; `init` waits, and ends with the command's status.",
        "The command is to have the signal mask that `run` found. std's Command passes on the mask of the \
         thread that calls it; or let a stage between the two set it right, and exec.";
    lessons::a_signal_to_run_reaches_the_command:
        "The kernel gives PID 1 no signal that it has no handler for, unless it is blocked and waited for.",
        "Block all signals before there is a child, in `run` and in `init`. Then take one after the other \
         with SigSet::wait, and kill(2) the child with it.";
    lessons::a_dead_orphan_is_reaped:
        "One SIGCHLD may stand for many dead children. Wait until there is none, and never for a living one.",
        "waitpid(-1, WNOHANG), in a loop. Mind that it may return the command itself.";
    lessons::a_pipe_that_the_command_has_closed_is_closed:
        "Who reads from a pipe sees its end when the last writer has closed it. `run` and `init` have it open, too.",
        "Once the command is started: dup2 of /dev/null over 0, 1 and 2, and nix::unistd::close for every other \
         number in /proc/self/fd.";
};

/// What is new in step 05.
const STEP_05: &[Behaviour] = behaviours! {
    lessons::the_clock_starts_at_zero:
        "A time namespace: CLONE_NEWTIME, 0x80, for unshare in `run`. It is for the children, as the PID \
         namespace is.",
        "Write `boottime -SECONDS 0` to /proc/self/timens_offsets before the first child is born.";
    lessons::the_hosts_own_is_masked:
        "Nothing in /proc can be deleted, but something can be mounted over it.",
        "MS_BIND of /dev/null over a file; an empty read-only tmpfs over a directory (ENOTDIR tells).";
    lessons::proc_sys_is_read_only:
        "A mount can be read-only, a file cannot. Mount it over itself: MS_BIND.",
        "In a second call MS_BIND|MS_REMOUNT|MS_RDONLY, and the flags that /proc has.";
};

/// What every step from 02 on promises, in the order in which one would build it.
const ALL: &[Behaviour] = behaviours! {
    contract::exit_statuses_are_the_commands_own:
        "`run` waits for `init`, and ends with its status: ExitStatus::code.",
        "Main returns an ExitCode; ExitCode::from takes the status as a u8.";
    contract::what_cannot_be_started_is_126_or_127:
        "exec came back: 127 if the error is ENOENT, else 126; and one line that says so on standard error.",
        "The line: `NN-name: exec CMD: No such file or directory (ENOENT)`. nix::errno::Errno has the words.";
    contract::a_wrong_command_line_is_2:
        "clap ends with 2 by itself. Is CMD required for `init`?",
        "The help of `init` says: Do not call it outside.";
    contract::arguments_arrive_byte_for_byte:
        "Everything after CMD belongs to CMD: Arg::trailing_var_arg.",
        "OsString and not String; and a `--` in front of CMD when `run` starts `init`.";
    contract::ti_gives_the_command_our_standard_input:
        "Stdio::inherit with --ti; without it, /dev/null.",
        "-ti is two short options in one word: -t and -i. Let them be two names of one option, \
         which may be given twice.";
    contract::with_no_subcommand_it_is_a_shell:
        "No subcommand: run --ti /bin/sh. No CMD: /bin/sh.";
    contract::the_command_finds_its_surroundings_as_they_were:
        "Environment, directory, umask, open files, signals. What does the Rust runtime do to SIGPIPE?",
        "CommandExt::exec resets SIGPIPE; execv of nix does not.";
    contract::closed_standard_streams_are_no_reason_to_stop:
        "println! and eprintln! panic if they cannot write. Use write_all, and ignore its result.";
    contract::init_outside_is_refused:
        "`init` looks at its own PID before it does anything else. If that is not 1: a line, and status 125. \
         The line: `NN-name: init: this is PID N, not PID 1`.",
        "PID 1 of somebody else's namespace is not enough. Is the parent (PPid in /proc/self/status) one whose \
         children are born in our PID namespace (ns/pid_for_children)? \
         If not: `NN-name: init: the parent is not `run``.";
    contract::when_run_is_killed_the_container_dies:
        "prctl(PR_SET_PDEATHSIG), and a signal that PID 1 cannot ignore.",
        "SIGKILL, in `init`, before exec: it survives exec.";
    contract::when_pid_1_is_killed_run_says_by_which_signal:
        "A signal leaves no exit status: ExitStatusExt::signal. Shells say 128 + its number.";
    contract::ctrl_c_leaves_nothing:
        "Ctrl-C signals all processes of the terminal's foreground group. PID 1 does not hear it; `run` does.";
    contract::a_hundred_runs_leave_nothing:
        "What is mounted must be mounted in a mount namespace of one's own, and be private.";
    contract::two_hundred_runs_with_victims_leave_nothing:
        "`run` may be killed before `init` has asked to die with it. How can `init` tell, once it has asked?";
    contract::where_unshare_is_refused_it_says_so:
        "One line with the call and the errno, `NN-name: unshare(CLONE_NEWPID): … (ENOSPC)`, then `hint: …` \
         that names `just doctor`; status 125.";
};

/// What is new in the step of this name, in the order in which one would build it.
pub fn lessons(step: &str) -> &'static [Behaviour] {
    match &step[..2] {
        "02" => STEP_02,
        "03" => STEP_03,
        "04" => STEP_04,
        "05" => STEP_05,
        _ => &[],
    }
}

/// What the step of this name does, in the order in which one would build it.
pub fn behaviours(step: &str) -> Vec<&'static Behaviour> {
    let mut all: Vec<_> = lessons(step).iter().collect();
    if step > "02" {
        if step >= "03" {
            all.push(&STEP_02[0]);
        }
        all.extend(ALL);
    }
    all
}

/// How one behaviour came out.
pub struct Grade {
    /// Which.
    pub behaviour: &'static Behaviour,
    /// What was expected and seen, where it failed.
    pub broken: Option<Broken>,
}

/// Grades a program as the step of the name, each behaviour as each caller that this machine can have, when
/// it is asked for. The program is told that its name is the step's.
///
/// # Errors
/// This machine can have no caller.
pub fn grade(step: &str, program: &Path) -> Result<impl Iterator<Item = Grade>> {
    somebody_looks_on();
    let steps: Vec<_> = callers(program).into_iter().map(|caller| caller.named(step)).collect();
    if steps.is_empty() {
        bail!("no step can run on this machine: `just doctor` says why");
    }
    Ok(behaviours(step).into_iter().map(move |behaviour| {
        let broken = steps.iter().find_map(|step| {
            let mut broken = seen(behaviour, step).err()?;
            if steps.len() > 1 && step.caller() == Caller::Rootless {
                broken.tried += " (as an ordinary user)";
            }
            Some(broken)
        });
        Grade { behaviour, broken }
    }))
}

fn seen(behaviour: &Behaviour, step: &Step) -> Kept {
    // A program that does not answer makes the lab panic, as it should in a test.
    let outcome = catch_unwind(AssertUnwindSafe(|| (behaviour.check)(step)));
    outcome.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or(panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(Broken {
            tried: behaviour.name.replace('_', " "),
            expected: "an answer".into(),
            seen: words.unwrap_or_default(),
        })
    })
}

/// The grades for a script: `{"step", "passed", "total", "behaviours": [{"name", "passed", "tried",
/// "expected", "seen"}]}`; the last two with their first lines alone.
pub fn report(step: &str, grades: &[Grade]) -> Value {
    let passed = grades.iter().filter(|grade| grade.broken.is_none()).count();
    let behaviours: Vec<_> = grades
        .iter()
        .map(|grade| match &grade.broken {
            None => json!({ "name": grade.behaviour.name, "passed": true }),
            Some(broken) => json!({
                "name": grade.behaviour.name,
                "passed": false,
                "tried": broken.tried,
                "expected": cut(&broken.expected),
                "seen": cut(&broken.seen),
            }),
        })
        .collect();
    json!({ "step": step, "passed": passed, "total": grades.len(), "behaviours": behaviours })
}

/// The first lines of what was expected or seen.
pub fn cut(text: &str) -> String {
    const MOST: usize = 8;
    let line = |line: &str| match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    let mut lines: Vec<_> = text.trim_end().lines().take(MOST).map(line).collect();
    if text.trim_end().lines().count() > MOST {
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

/// `work/02`, for the step `02-init-pid1`.
pub fn place(step: &str) -> PathBuf {
    root().join("work").join(&step[..2])
}

/// Lays out the starter of a step in `directory`: the sources of the step that its `start.patch` names in
/// its first line (`From 02-init-pid1`), with that patch applied, and a manifest of its own.
///
/// # Errors
/// There is no starter, the directory is there already, or it cannot be written.
pub fn start(step: &str, directory: &Path) -> Result<()> {
    to_be_written(step)?;
    let patch = root().join("steps").join(step).join("start.patch");
    let patch = fs::read_to_string(&patch).with_context(|| format!("{step} has no starter"))?;
    let from = patch.lines().next().and_then(|line| line.strip_prefix("From "));
    let from = from.context("the patch begins with `From STEP`")?;
    if directory.exists() {
        bail!("{} is there already; --again moves it aside first", short(directory));
    }
    let sources = directory.join("src");
    fs::create_dir_all(&sources).with_context(|| format!("make {}", short(&sources)))?;
    for entry in fs::read_dir(root().join("steps").join(from).join("src"))? {
        let path = entry?.path();
        fs::copy(&path, sources.join(path.file_name().context("a name")?))?;
    }
    crate::breaks::apply(&patch, directory, &[]).context("start.patch")?;
    for entry in fs::read_dir(&sources)? {
        // Where the book cuts is no concern of the learner's.
        let path = entry?.path();
        let text = fs::read_to_string(&path).context("read a source")?;
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("// ANCHOR"));
        fs::write(&path, lines.collect::<String>()).context("write a source")?;
    }
    fs::write(directory.join("Cargo.toml"), manifest(step)?)?;
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock"))?;
    Ok(())
}

/// A package like the step's, but in no workspace.
fn manifest(step: &str) -> Result<String> {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).context("read Cargo.toml")?;
    let line = |name: &str| {
        let found = workspace.lines().find(|line| line.starts_with(&format!("{name} = ")));
        found.with_context(|| format!("Cargo.toml has no {name}"))
    };
    Ok(format!(
        "[package]\nname = \"step-{step}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [[bin]]\nname = \"{step}\"\npath = \"src/main.rs\"\n\n\
         [dependencies]\n{}\n{}\n\n[lints.rust]\nunsafe_code = \"forbid\"\n\n[workspace]\n",
        line("clap")?,
        line("nix")?,
    ))
}

/// Builds what is in `directory`. Cargo's own words go to standard error.
///
/// # Errors
/// There is nothing, or it does not compile.
pub fn build(step: &str, directory: &Path) -> Result<PathBuf> {
    begun(step, directory)?;
    let target = root().join("target/work");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--manifest-path"])
        .arg(directory.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("{} does not compile", short(directory));
    }
    Ok(target.join("debug").join(step))
}

fn to_be_written(step: &str) -> Result<()> {
    if behaviours(step).is_empty() {
        bail!("step {} is not there to be written; begin with `just start 02`", &step[..2]);
    }
    Ok(())
}

/// Whether there is anything.
///
/// # Errors
/// There is not.
pub fn begun(step: &str, directory: &Path) -> Result<()> {
    to_be_written(step)?;
    if !directory.exists() {
        bail!("{} is not there; `just start {}` makes it", short(directory), &step[..2]);
    }
    Ok(())
}

/// How far a step of the learner's is.
pub struct Progress {
    /// The step's name.
    pub step: String,
    /// How many of how many behaviours passed when `just check` saw it last.
    pub checked: Option<(u64, u64)>,
}

/// How far each step of the learner's is.
///
/// # Errors
/// `steps/` cannot be read.
pub fn progress() -> Result<Vec<Progress>> {
    let steps = steps()?.into_iter().filter(|step| !behaviours(step).is_empty());
    Ok(steps
        .map(|step| {
            let seen = fs::read_to_string(place(&step).join("checked.json")).ok();
            let seen = seen.and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let seen =
                seen.and_then(|seen| Some((seen["passed"].as_u64()?, seen["total"].as_u64()?)));
            Progress { step, checked: seen }
        })
        .collect())
}

/// The path as a learner in the course's directory would write it.
pub fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
