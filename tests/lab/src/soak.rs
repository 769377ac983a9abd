//! `lab soak`: many runs of a step, many at a time, some of them killed at random moments; then a count of
//! what is left.
//!
//! The runs are children of a process that adopts what they leave behind, in a user namespace of its
//! own. There the limits on namespaces are that process's to set, and the kernel counts against them
//! every namespace made below: "at most N, and one more can be made" says how many there are.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level::pipe;

use crate::ability::attempts::user_namespace;
use crate::contract::shell_status;
use crate::session::patience;
use crate::subreaper::{await_signal, descendants, describe};

/// How long the kernel may take to end what has been killed, and to give back its namespaces. It takes
/// milliseconds; this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time from a run's start to its killing, in microseconds: more than a run takes to get to
/// its command, less than makes most kills come after.
const LATEST: u64 = 24_000;

/// The kinds of namespace that the steps make, as the limits in /proc/sys/user call them; the flag of
/// unshare(2); and how many the soak itself is in, of those that were made in its user namespace.
const KINDS: [(&str, CloneFlags); 4] = [
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("user", CloneFlags::CLONE_NEWUSER),
    ("time", CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME)),
];

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The step's program.
    pub program: PathBuf,
    /// How many runs.
    pub runs: u32,
    /// How many at a time.
    pub at_once: u32,
    /// The seed of all that is random: the same seed gives the same victims, ways and moments. What the
    /// processes have come to in that moment, the machine decides.
    pub seed: u64,
}

/// Whom to kill, when the time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Run,
    Init,
    Both,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Runs that were killed: `run`, `init`, both, in this order.
    pub killed: [u32; 3],
    /// What is not as before, one line each.
    pub left: Vec<String>,
    /// Runs whose exit status is none that they may have.
    pub odd: Vec<String>,
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        let [run, init, both] = self.killed;
        write!(formatter, "killed: run {run}, init {init}, both {both}")?;
        for line in self.odd.iter().chain(&self.left) {
            write!(formatter, "\n{line}")?;
        }
        Ok(())
    }
}

/// Carries out the plan. The calling process must have one thread only; it ends up in another user
/// namespace, and its limits on namespaces at 1.
///
/// # Errors
/// The soak itself was refused something: a user namespace, a process.
pub fn soak(plan: &Plan) -> Result<Outcome> {
    user_namespace(CloneFlags::empty())?;
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let (child_died, wake) = UnixStream::pair().context("make a socket pair")?;
    pipe::register(SIGCHLD, wake).context("install a handler")?;
    let directory = tempfile::Builder::new().prefix("soak-").tempdir().context("a directory")?;
    let before = Surroundings::look()?;
    let outcome = Mutex::new(Outcome::default());
    let next = AtomicU32::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= plan.runs {
                return anyhow::Ok(());
            }
            one(plan, index, directory.path(), &outcome)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic in a worker"))
    })?;
    let mut outcome = outcome.into_inner().expect("no panic in a worker");
    outcome.left = adopted(&child_died)?;
    outcome.left.extend(before.differ(&Surroundings::look()?));
    let files = fs::read_dir(directory.path()).context("read the directory")?;
    outcome.left.extend(files.map(|file| format!("file {:?}", file.map(|file| file.file_name()))));
    for (kind, flag) in KINDS {
        outcome.left.extend(namespaces(kind, flag)?);
    }
    Ok(outcome)
}

/// One run, to its end.
fn one(
    plan: &Plan,
    index: u32,
    directory: &std::path::Path,
    outcome: &Mutex<Outcome>,
) -> Result<()> {
    let mut random =
        Rng::with_seed(plan.seed ^ u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let name = plan.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let first = name.starts_with("01");
    let victim = (index.is_multiple_of(3)).then(|| match random.u32(0..3) {
        0 => Victim::Run,
        1 => Victim::Init,
        _ => Victim::Both,
    });
    let moment = Duration::from_micros(random.u64(0..LATEST));
    // Half of the runs go without CAP_SYS_ADMIN, as those of people who are not root.
    let mut command = match random.bool() {
        true => Command::new(&plan.program),
        false => {
            let mut without = Command::new("setpriv");
            without.args(["--bounding-set", "-sys_admin"]).arg(&plan.program);
            without
        }
    };
    match (first, victim) {
        // Step 01 promises nothing about what it leaves when it is killed: this ends by itself.
        (true, _) => command.args([if random.bool() { "command" } else { "exec" }, "true"]),
        // This does not: what is left of it would be found.
        (_, Some(_)) => command.args(["run", "sleep", "1000"]),
        (_, None) => command.args(["run", "true"]),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir(directory).env("TMPDIR", directory);
    let mut child = command.spawn().context("start a run")?;
    let killed = match victim {
        None => None,
        Some(victim) => {
            // Not for an event: the moment is what is random.
            thread::sleep(moment);
            Some(strike(&mut child, if first { Victim::Run } else { victim })?)
        }
    };
    let status = shell_status(child.wait().context("wait for a run")?);
    let mut outcome = outcome.lock().expect("no panic in a worker");
    let may: &[i32] = match killed {
        None => &[0],
        Some(Victim::Run | Victim::Both) if first => &[0, 137],
        // 125: `init` saw its parent go, or `run` was told that `init` went.
        Some(_) => &[137],
    };
    if !may.contains(&status) {
        outcome.odd.push(format!("run {index}, {killed:?} killed: exit status {status}"));
    }
    if let Some(killed) = killed {
        outcome.killed[killed as usize] += 1;
    }
    Ok(())
}

/// Kills, and says whom in truth: where there is no `init` yet, or no more, it is `run`.
fn strike(run: &mut Child, victim: Victim) -> Result<Victim> {
    let pid = i32::try_from(run.id())?;
    let init = || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse::<i32>().ok()
    };
    let mut struck = Victim::Run;
    if victim != Victim::Run
        && let Some(found) = init()
        && let Some(number) = rustix::process::Pid::from_raw(found)
        && let Ok(held) = pidfd_open(number, PidfdFlags::empty())
        // It still was the child when we held it: then it is `init`, and no stranger with its number.
        && init() == Some(found)
        && pidfd_send_signal(held, rustix::process::Signal::KILL).is_ok()
    {
        struck = if victim == Victim::Both { Victim::Both } else { Victim::Init };
    }
    if struck != Victim::Init {
        // Not waited for yet: the number is still its own.
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("kill a run")?;
    }
    Ok(struck)
}

/// Waits for all that the runs have left to us: their orphans, which are dying. What is still there when
/// patience ends is reported, and killed. `child_died` has something to read after each SIGCHLD.
fn adopted(child_died: &UnixStream) -> Result<Vec<String>> {
    let mut deadline = Instant::now() + PATIENCE.min(patience());
    let mut left = Vec::new();
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => continue,
            Err(Errno::ECHILD) => return Ok(left),
            Err(errno) => return Err(errno).context("waitid"),
        }
        if deadline <= Instant::now() {
            for process in descendants()? {
                left.push(format!("process {}", describe(&process)));
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            deadline = Instant::now() + PATIENCE.min(patience());
        }
        await_signal(child_died, Some(deadline))?;
    }
}

/// Whether a namespace of that kind is left: with a limit of 1, one can be made if there is none. The
/// kernel gives namespaces back a little after the last process in them has ended.
fn namespaces(kind: &str, flag: CloneFlags) -> Result<Option<String>> {
    let file = format!("/proc/sys/user/max_{kind}_namespaces");
    if !fs::exists(&file)? {
        // A kernel without that kind.
        return Ok(None);
    }
    fs::write(&file, "1").with_context(|| format!("write {file}"))?;
    let deadline = Instant::now() + PATIENCE.min(patience());
    let flag = flag.bits().to_string();
    loop {
        let probe =
            Command::new("/proc/self/exe").args(["unshare", &flag]).stderr(Stdio::null()).status();
        if probe.context("start a probe")?.success() {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("namespaces of kind {kind}: there are some still")));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a run could change around it.
struct Surroundings {
    mounts: String,
    files: BTreeSet<String>,
}

impl Surroundings {
    fn look() -> Result<Self> {
        let files = fs::read_dir("/proc/self/fd").context("read /proc/self/fd")?;
        let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        Ok(Surroundings {
            mounts: fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?,
            // The directory that was read to get them is one of them, and has no other name.
            files: links
                .map(|link| link.display().to_string())
                .filter(|link| !link.starts_with("/proc/"))
                .collect(),
        })
    }

    fn differ(&self, after: &Self) -> Vec<String> {
        let mounts = crate::diff::lines(&self.mounts, &after.mounts);
        let files = after.files.symmetric_difference(&self.files);
        let mounts = mounts.into_iter().map(|line| format!("mount {line}"));
        mounts.chain(files.map(|file| format!("open file {file}"))).collect()
    }
}
