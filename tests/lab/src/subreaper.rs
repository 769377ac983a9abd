//! `lab subreaper`: starts a command line, adopts whatever outlives it, and reports what was left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use procfs::process::{Process, all_processes};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::low_level::pipe;

use crate::ability::attempts::user_namespace;

/// How long what the command started may go on after the command's own end, at most. It is killed by the
/// kernel, and so is gone in milliseconds; this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to start, and where.
pub struct Orders {
    /// The file that gets the report.
    pub report: PathBuf,
    /// The uid and gid of the command, if it is to have others than the subreaper.
    pub user: Option<u32>,
    /// Whether to leave the host's mounts first, for private ones.
    pub apart: bool,
    /// Whether to make a scratch host first.
    pub scratch_host: bool,
    /// How long all may take. What still runs then is killed, and reported as left.
    pub within: Option<Duration>,
    /// The number of a signal that the command is to have blocked.
    pub block: Option<i32>,
    /// The terminal to start the command on.
    pub terminal: Option<PathBuf>,
    /// A command line that makes a place for the command, and starts it there: its words are the first of
    /// what is run.
    pub through: Vec<OsString>,
    /// The program to run; the first word of `line` is the name that it is told.
    pub program: OsString,
    /// The command line.
    pub line: Vec<OsString>,
}

/// Carries out the orders. Lines in the report: `status` and the command's wait status; `left`, for
/// each process that was still there at the end; `mount`, for each line of difference in the mount table.
///
/// # Errors
/// What was refused, and the kernel's reason. The command may not have run.
pub fn watch(orders: &Orders) -> Result<()> {
    // With a handler, a signal is back to its default in the program that we start, even if we were
    // ourselves started with that signal ignored.
    let (woken, wake) = UnixStream::pair().context("make a socket pair")?;
    for signal in [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTSTP] {
        pipe::register(signal, wake.try_clone()?).context("install a handler")?;
    }
    let (mut told_to_end, end) = UnixStream::pair().context("make a socket pair")?;
    told_to_end.set_nonblocking(true)?;
    pipe::register(SIGTERM, end).context("install a handler")?;
    pipe::register(SIGTERM, wake).context("install a handler")?;

    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    if orders.apart {
        leave_the_hosts_mounts()?;
    }
    if orders.scratch_host {
        scratch_host()?;
    }
    if let Some(path) = &orders.terminal {
        // The first terminal that a session leader opens becomes its controlling terminal.
        setsid().context("setsid")?;
        let terminal = File::options().read(true).write(true).open(path);
        let terminal = terminal.with_context(|| format!("open {}", path.display()))?;
        dup2_stdin(terminal.as_fd())?;
        dup2_stdout(terminal.as_fd())?;
        dup2_stderr(terminal.as_fd())?;
    }
    // Opened once, and read twice: it can still be read when the run has broken /proc.
    let table = File::open("/proc/self/mountinfo").context("open /proc/self/mountinfo")?;
    let before = mounts(&table)?;
    let mut command = match orders.through.split_first() {
        None => Command::new(&orders.program),
        Some((first, more)) => {
            let mut through = Command::new(first);
            through.args(more).arg(&orders.program);
            through
        }
    };
    if orders.through.is_empty() {
        command.arg0(&orders.line[0]);
    }
    command.args(&orders.line[1..]).env_remove("LAB_PROGRAM");
    if let Some(uid) = orders.user {
        command.uid(uid).gid(uid);
    }
    // A new process has the signal mask of the thread that starts it.
    let mut blocked = SigSet::empty();
    if let Some(signal) = orders.block {
        blocked.add(Signal::try_from(signal).context("a signal's number")?);
    }
    blocked.thread_block().context("block a signal")?;
    let child = command.spawn().with_context(|| format!("start {}", orders.program.display()))?;
    blocked.thread_unblock().context("unblock a signal")?;
    let child = Pid::from_raw(i32::try_from(child.id())?);

    let mut report = String::new();
    let mut deadline = orders.within.map(|within| Instant::now() + within);
    let patience = orders.within.map_or(PATIENCE, |within| PATIENCE.min(within / 4));
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => {
                if status.pid() == Some(child) {
                    report += &format!("status {}\n", raw(status).into_raw());
                    deadline = Some(Instant::now() + patience);
                }
                continue;
            }
            Err(Errno::ECHILD) => break,
            Err(errno) => return Err(errno).context("waitid"),
        }
        let wanted = told_to_end.read(&mut [0]).is_err();
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if late || !wanted {
            for process in descendants()? {
                report += &format!("left {}\n", describe(&process));
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            deadline = Some(Instant::now() + patience);
        }
        await_signal(&woken, deadline)?;
    }
    for line in crate::diff::lines(&before, &mounts(&table)?) {
        report += &format!("mount {line}\n");
    }
    fs::write(&orders.report, report).context("write the report")
}

/// Waits for the next signal that writes to the other end of `woken`, or for the deadline.
///
/// # Errors
/// The socket cannot be read.
pub(crate) fn await_signal(mut woken: &UnixStream, deadline: Option<Instant>) -> Result<()> {
    woken.set_read_timeout(deadline.map(|deadline| {
        deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }))?;
    match woken.read(&mut [0; 64]) {
        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Err(error).context("wait for a signal")
        }
        _ => Ok(()),
    }
}

/// The status that `std` would have for it, had it waited.
fn raw(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(_, code) => ExitStatus::from_raw(code << 8),
        WaitStatus::Signaled(_, signal, _) => ExitStatus::from_raw(signal as i32),
        other => unreachable!("WEXITED reports ends only, not {other:?}"),
    }
}

/// Goes to a mount namespace that is cut off from the host's, with the calling process and all that it starts
/// from then on, so that a program that is not finished cannot change the host's mounts. Who has no
/// CAP_SYS_ADMIN could not change them anyway, and stays.
///
/// # Errors
/// The kernel refused, for another reason than that.
pub fn leave_the_hosts_mounts() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => return Ok(()),
        outcome => outcome.context("unshare(CLONE_NEWNS)")?,
    }
    propagate(MsFlags::MS_PRIVATE)
}

/// A mount namespace of our own, cut off from the host's, whose `/` is shared with whatever mount
/// namespaces are made from it: what a host with systemd looks like. Without CAP_SYS_ADMIN, in a user
/// namespace.
fn scratch_host() -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => user_namespace(CloneFlags::CLONE_NEWNS)?,
        outcome => outcome.context("unshare(CLONE_NEWNS)")?,
    }
    propagate(MsFlags::MS_PRIVATE)?;
    propagate(MsFlags::MS_SHARED)
}

/// Changes the propagation of all mounts.
fn propagate(propagation: MsFlags) -> Result<()> {
    let flags = MsFlags::MS_REC | propagation;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .with_context(|| format!("mount(/, {flags:?})"))
}

fn mounts(mut table: &File) -> Result<String> {
    table.rewind()?;
    io::read_to_string(table).context("read /proc/self/mountinfo")
}

pub(crate) fn descendants() -> Result<Vec<Process>> {
    let all = all_processes().context("read /proc")?;
    let all: Vec<_> = all.filter_map(|process| process.ok()).collect();
    let mut found = vec![i32::try_from(std::process::id())?];
    let mut processes = Vec::new();
    let parents: Vec<_> =
        all.iter().map(|process| process.stat().map(|stat| stat.ppid).unwrap_or(0)).collect();
    loop {
        let before = found.len();
        for (process, parent) in all.iter().zip(&parents) {
            if found.contains(parent) && !found.contains(&process.pid) {
                found.push(process.pid);
                processes.extend(Process::new(process.pid));
            }
        }
        if found.len() == before {
            return Ok(processes);
        }
    }
}

pub(crate) fn describe(process: &Process) -> String {
    let state = process.stat().map(|stat| stat.state).unwrap_or('?');
    let words = process.cmdline().unwrap_or_default().join(" ");
    format!("{} {state} {words}", process.pid)
}
