//! Many runs of a program, many at a time, some killed at a random moment, and a count of what is left.
//!
//! The runs happen in a separate user namespace, below a child subreaper. The limits on namespaces are ours
//! to set there, and the kernel counts every namespace created below against them. With a limit of 1, one can
//! be created only if none is left.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::exit::shell_status;
use crate::helper_path::helper_command;
use crate::namespace::{CLONE_NEWTIME, enter_user_namespace};
use crate::process_tree::ProcessTree;
use crate::procfs;
use crate::scratch::ScratchDir;

/// The longest time from a run's start to its killing, in microseconds: more than a run takes to get to its
/// command, and not so long that most kills come after it.
const LATEST: u64 = 24_000;

/// The variable with a run's number, by which we recognize the processes that the run leaves behind.
const RUN: &str = "COURSE_SOAK_RUN";

/// The kinds of namespace, as the limits in /proc/sys/user call them, and the flag of unshare(2).
const KINDS: [(&str, CloneFlags); 4] = [
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("user", CloneFlags::CLONE_NEWUSER),
    ("time", CLONE_NEWTIME),
];

/// The program, its arguments, and the number of runs.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The program.
    pub program: PathBuf,
    /// Argument lists, separated by spaces, of runs that exit by themselves with status 0.
    pub short: Vec<String>,
    /// Arguments of a run that has to be killed. Without them, the short runs are killed.
    pub long: Option<String>,
    /// How many runs.
    pub runs: u32,
    /// How many at a time.
    pub jobs: u32,
    /// The same seed picks the same targets and moments again.
    pub seed: u64,
    /// How long a run may take to exit, and the kernel to clean up. Both take milliseconds, so this is for a busy machine.
    pub patience: Duration,
}

impl Config {
    /// Prepares the helper to do it: in a separate process, because it can't leave its namespace again.
    ///
    /// # Errors
    /// There's no helper.
    pub fn args(&self) -> Vec<OsString> {
        let numbers = [self.runs.into(), self.jobs.into(), self.seed, self.patience.as_secs()];
        let mut args: Vec<OsString> = vec!["soak-one".into(), self.program.clone().into()];
        args.extend(numbers.map(|number| number.to_string().into()));
        args.push(self.long.clone().unwrap_or_default().into());
        args.extend(self.short.iter().map(OsString::from));
        args
    }

    fn parse(args: &[OsString]) -> Option<Self> {
        let [program, numbers @ .., long] = args.get(..6)? else { return None };
        let numbers: Option<Vec<u64>> = numbers.iter().map(|n| n.to_str()?.parse().ok()).collect();
        let [runs, jobs, seed, patience] = numbers?[..] else { return None };
        Some(Config {
            program: program.into(),
            short: args[6..].iter().map(|words| words.to_string_lossy().into_owned()).collect(),
            long: Some(long.to_string_lossy().into_owned()).filter(|words| !words.is_empty()),
            runs: runs.try_into().ok()?,
            jobs: jobs.try_into().ok()?,
            seed,
            patience: Duration::from_secs(patience),
        })
    }
}

/// The helper's exit status if a run's exit status was wrong. If only something is left, it's 1.
pub const WRONG_STATUS: u8 = 3;

/// The helper's side: soaks, prints the outcome, and fails if it isn't clean.
pub(crate) fn main(args: &[OsString]) -> Result<ExitCode> {
    let config = Config::parse(args).ok_or_else(|| Error::new(format!("soak-one: {args:?}")))?;
    let Outcome { killed, left, unexpected } = soak(&config)?;
    let wrong = [&unexpected[..], &left].concat();
    let count = |target| killed.values().filter(|(killed, _)| *killed == target).count();
    let [run, init, both] = [Target::Run, Target::Init, Target::Both].map(count);
    let said = match wrong[..] {
        [] => format!("killed: run {run}, init {init}, both {both}"),
        _ => wrong.join("\n"),
    };
    let _ = writeln!(io::stdout(), "{said}");
    Ok(match (unexpected.is_empty(), left.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::FAILURE,
        (false, _) => WRONG_STATUS.into(),
    })
}

/// Which process to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Run,
    Init,
    Both,
}

#[derive(Debug, Default)]
struct Outcome {
    /// The runs that were killed, by their numbers: which process, and how long after its start.
    killed: BTreeMap<u32, (Target, Duration)>,
    /// Processes, mounts, files, and namespaces that the runs left behind, one line each.
    left: Vec<String>,
    /// Runs with an exit status that they may not have, and the first one that didn't exit.
    unexpected: Vec<String>,
}

impl Outcome {
    /// Says which run it was, and what was done to it.
    fn describe(&self, number: u32) -> String {
        let Some((target, moment)) = self.killed.get(&number) else {
            return format!("run {number}, which wasn't killed,");
        };
        let target = match target {
            Target::Run => "`run`",
            Target::Init => "`init`",
            Target::Both => "`init` and `run`",
        };
        let milliseconds = moment.as_secs_f32() * 1000.0;
        format!("run {number}, after SIGKILL to {target} {milliseconds:.1} ms after its start,")
    }
}

fn soak(config: &Config) -> Result<Outcome> {
    enter_user_namespace(CloneFlags::empty())?;
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let directory = ScratchDir::new("soak")?;
    let before = mounts()?;
    let outcome = Mutex::new(Outcome::default());
    let next = AtomicU32::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= config.runs {
                return Ok::<(), Error>(());
            }
            if !run_once(config, index, directory.path(), &outcome)? {
                // Skip the other runs: the outcome is bad already, and they would probably fail in the same way.
                next.fetch_max(config.runs, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).context("start a thread");
        let workers: Vec<_> = (0..config.jobs).map(start).collect::<Result<_>>()?;
        let failed = || Error::new("a worker failed");
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| failed())?)
    })?;
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.left = reap_orphans(config.patience, &outcome)?;
    let changed = procfs::changed_lines(&before, &mounts()?);
    outcome.left.extend(changed.iter().map(|line| format!("mount {line}")));
    let files = fs::read_dir(directory.path()).context("read the directory")?;
    outcome.left.extend(files.flatten().map(|file| format!("file {}", file.path().display())));
    for (kind, flag) in KINDS {
        outcome.left.extend(namespace_left(kind, flag, config.patience)?);
    }
    Ok(outcome)
}

/// Starts the program once, and kills it if it's the turn of a kill. Returns whether the exit status is allowed.
fn run_once(
    config: &Config,
    index: u32,
    directory: &Path,
    outcome: &Mutex<Outcome>,
) -> Result<bool> {
    let mut random =
        Rng::with_seed(config.seed ^ u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let targets = [Target::Run, Target::Init, Target::Both];
    let target = index.is_multiple_of(3).then(|| targets[random.usize(..3)]);
    let moment = Duration::from_micros(random.u64(0..LATEST));
    // Half of the runs go without CAP_SYS_ADMIN, as those of an ordinary user do.
    let mut command = if random.bool() {
        Command::new(&config.program)
    } else {
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set", "-sys_admin"]).arg(&config.program);
        without
    };
    let short = &config.short[random.usize(0..config.short.len().max(1))];
    let words = target.and(config.long.as_ref()).unwrap_or(short);
    command.args(words.split(' '));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir(directory).env("TMPDIR", directory).env(RUN, (index + 1).to_string());
    let start = Instant::now();
    let mut child = command.spawn().context("start a run")?;
    let kill = |target| {
        // The random moment is the point, so there's no event to wait for.
        thread::sleep(moment);
        let target = if config.long.is_some() { target } else { Target::Run };
        let moment = start.elapsed();
        Ok::<_, Error>((kill_target(&child, target)?, moment))
    };
    let killed = target.map(kill).transpose()?;
    let hung = kill_if_late(&child, config.patience)?;
    let status = shell_status(child.wait().context("wait for a run")?);
    let allowed: &[i32] = match (killed, &config.long) {
        (None, _) => &[0],
        (Some(_), None) => &[0, 137],
        (Some(_), Some(_)) => &[137],
    };
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(killed) = killed {
        outcome.killed.insert(index + 1, killed);
    }
    let described = outcome.describe(index + 1);
    let is_expected = hung.is_none() && allowed.contains(&status);
    let line = match hung {
        // Other runs probably hang for the same reason.
        Some(_) if !outcome.unexpected.is_empty() => None,
        Some(tree) => {
            let seconds = config.patience.as_secs();
            Some(format!("{described} doesn't exit within {seconds} s:\n{tree}"))
        }
        None if is_expected => None,
        None => {
            let wanted = allowed.iter().map(i32::to_string).collect::<Vec<_>>().join(" or ");
            Some(format!("{described} has exit status {status} instead of {wanted}"))
        }
    };
    outcome.unexpected.extend(line);
    Ok(is_expected)
}

/// Waits until a run exits. If it doesn't in time, kills it, and returns the tree that it had.
fn kill_if_late(run: &Child, patience: Duration) -> Result<Option<String>> {
    let run = Pid::from_raw(run.id().cast_signed());
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let watch = move || {
            if is_done.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            // The caller reaps the run later, so its PID can't be another process's.
            let tree = ProcessTree::of(run.as_raw());
            let _ = kill(run, Signal::SIGKILL);
            Some(tree.map_or_else(|error| error.to_string(), |tree| tree.text()))
        };
        let watchdog = thread::Builder::new().spawn_scoped(scope, watch);
        let watchdog = watchdog.context("start a thread")?;
        let exited = waitid(Id::Pid(run), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        drop(done);
        exited.context("waitid")?;
        watchdog.join().map_err(|_| Error::new("a watchdog failed"))
    })
}

/// Kills, and returns what it killed: if there's no `init` yet or any more, that's `run`.
fn kill_target(run: &Child, target: Target) -> Result<Target> {
    let run = Pid::from_raw(run.id().cast_signed());
    let send = |pid, signal| kill(pid, signal).context(format!("kill({signal})"));
    if target == Target::Run {
        send(run, Signal::SIGKILL)?;
        return Ok(Target::Run);
    }
    // A stopped `run` reaps nothing, so the PID that we find below it stays its child's.
    send(run, Signal::SIGSTOP)?;
    let events = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let stopped = matches!(waitid(Id::Pid(run), events), Ok(WaitStatus::Stopped(..)));
    let below = if stopped { procfs::descendants(run.as_raw())? } else { Vec::new() };
    let init = below.first();
    if let Some(init) = init {
        send(Pid::from_raw(init.pid), Signal::SIGKILL)?;
    }
    if target == Target::Both || init.is_none() {
        send(run, Signal::SIGKILL)?;
    }
    send(run, Signal::SIGCONT)?;
    Ok(if init.is_some() { target } else { Target::Run })
}

/// Waits for the dying orphans of the runs. One that doesn't die is reported with its tree, and killed.
fn reap_orphans(patience: Duration, outcome: &Outcome) -> Result<Vec<String>> {
    let deadline = Instant::now() + patience;
    let (mut left, mut known) = (Vec::new(), BTreeSet::new());
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => continue,
            Err(Errno::ECHILD) => return Ok(left),
            Err(errno) => return Err(errno).context("waitid"),
        }
        if Instant::now() > deadline {
            let found = procfs::own_descendants()?;
            for process in &found {
                let is_ours = process.ppid == process::id().cast_signed();
                // Processes below one that is known are in its tree.
                if known.insert(process.pid)
                    && is_ours
                    && let Ok(tree) = ProcessTree::of(process.pid)
                {
                    let run = procfs::variable(process.pid, RUN);
                    let run = run.and_then(|number| number.parse().ok());
                    let run = run.map_or("a run".to_owned(), |number| outcome.describe(number));
                    left.push(format!("{run} leaves this, now ended:\n{}", tree.text()));
                }
            }
            found.iter().for_each(|process| process.signal(Signal::SIGKILL));
        }
        // Poll, because a waitid(2) that blocks has no timeout.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a namespace of that kind is left. The kernel frees it a little after its last process has exited,
/// without an event.
fn namespace_left(kind: &str, flag: CloneFlags, patience: Duration) -> Result<Option<String>> {
    let file = format!("/proc/sys/user/max_{kind}_namespaces");
    if !Path::new(&file).exists() {
        // This kernel doesn't have that kind.
        return Ok(None);
    }
    fs::write(&file, "1").context(format!("write({file})"))?;
    let deadline = Instant::now() + patience;
    loop {
        let mut probe = helper_command()?;
        probe.args(["unshare", &flag.bits().to_string()]).stderr(Stdio::null());
        if probe.status().context("start the helper")?.success() {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("a {kind} namespace")));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn mounts() -> Result<String> {
    fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")
}
