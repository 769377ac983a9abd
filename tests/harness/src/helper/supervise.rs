//! The helper as supervisor: starts a command line, adopts whatever outlives it, and reports what was left.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{
    Pid, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, getppid, setgid, setgroups, setsid, setuid,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::low_level::pipe::register;

use crate::error::{Context, Error, Result};
use crate::namespace::{enter_private_mounts, enter_user_namespace, make_mounts_private};
use crate::poll::wait_readable;
use crate::procfs;

/// How long the program's processes may outlive it. The kernel kills a container in milliseconds, so this is for a busy
/// machine.
const GRACE: Duration = Duration::from_secs(10);

/// The number of processes above which we no longer stop them before we kill them.
const MANY: usize = 100_000;

/// The largest number of leftover processes that are reported.
const SHOWN: usize = 50;

/// How often we count the program's processes. The kernel has no event for a fork.
const COUNT_INTERVAL: Duration = Duration::from_millis(20);

/// The program to start, and the options of this supervisor.
#[derive(Default)]
struct Options {
    control: String,
    user: Option<u32>,
    scratch_host: bool,
    /// Whether every process in this PID namespace descends from PID 1, and PID 1 started us.
    alone: bool,
    timeout: Option<Duration>,
    processes: Option<u32>,
    block: Option<i32>,
    terminal: Option<String>,
    program: OsString,
    name: OsString,
    args: Vec<OsString>,
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Self> {
        let mut options = Options::default();
        let mut args = args.iter();
        for arg in args.by_ref().take_while(|arg| *arg != "--") {
            let unknown = || Error::new(format!("supervise: {}", arg.display()));
            let (name, value) =
                arg.to_str().and_then(|arg| arg.split_once('=')).ok_or_else(unknown)?;
            match name {
                "control" => options.control = value.to_owned(),
                "user" => options.user = value.parse().ok(),
                "alone" => options.alone = getppid() == Pid::from_raw(1),
                "scratch-host" => options.scratch_host = true,
                "timeout" => options.timeout = value.parse().ok().map(Duration::from_millis),
                "processes" => options.processes = value.parse().ok(),
                "block" => options.block = value.parse().ok(),
                "terminal" => options.terminal = Some(value.to_owned()),
                _ => return Err(unknown()),
            }
        }
        let [program, name, args @ ..] = args.as_slice() else {
            return Err(Error::new("supervise: there is nothing to start"));
        };
        let (program, name, args) = (program.clone(), name.clone(), args.to_vec());
        Ok(Options { program, name, args, ..options })
    }
}

/// Runs the program. The report goes to the control socket: `pid` or `error` once it has started, `status`
/// when it has exited, then `process`, `mount`, and `timeout` lines, and `end`.
pub(super) fn supervise(args: &[OsString]) -> Result {
    let options = Options::parse(args)?;
    let address = SocketAddr::from_abstract_name(&options.control);
    let address = address.context("the control socket's name")?;
    let control = UnixStream::connect_addr(&address).context("connect")?;
    if let Err(error) = run(&options, &control) {
        report(&control, format_args!("error {error}"));
    }
    report(&control, "end");
    Ok(())
}

fn report(mut control: &UnixStream, line: impl Display) {
    // An error means that the harness has closed the socket, and then no process needs the report.
    let _ = control.write_all(format!("{line}\n").as_bytes());
}

fn run(options: &Options, control: &UnixStream) -> Result {
    if options.alone && options.processes.is_some() && geteuid().is_root() {
        run_first();
    }
    // A handler keeps us alive, and exec resets it to the default in the program. Both hold even if we were
    // started with the signal ignored.
    let (woken, wake) = UnixStream::pair().context("socketpair")?;
    for signal in [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP] {
        let wake = wake.try_clone().context("dup")?;
        register(signal, wake).context("sigaction")?;
    }
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let (sees_mounts, user) = private_mounts(options)?;
    setsid().context("setsid")?;
    if let Some(path) = &options.terminal {
        // The first terminal that a session leader opens becomes its controlling terminal.
        let terminal = File::options().read(true).write(true).open(path);
        let terminal = terminal.context(format!("open {path}"))?;
        dup2_stdin(terminal.as_fd()).context("dup2")?;
        dup2_stdout(terminal.as_fd()).context("dup2")?;
        dup2_stderr(terminal.as_fd()).context("dup2")?;
    }
    // Open the table now, because the program may mount something over /proc.
    let table = File::open("/proc/self/mountinfo").context("open /proc/self/mountinfo")?;
    let before = mounts(&table)?;
    let directory = env::current_dir().context("getcwd")?;
    procfs::pin()?;
    // Count before the start, because a fork bomb may have hundreds of processes when we run next.
    let limit = options.processes.map(|most| ProcessLimit::new(most, options.alone));
    let child = spawn(options, user, &directory)?;
    report(control, format_args!("pid {}", child.id()));
    adopt(options, limit, control, &woken, child)?;
    if sees_mounts {
        for line in procfs::changed_lines(&before, &mounts(&table)?) {
            report(control, format_args!("mount {line}"));
        }
    }
    Ok(())
}

/// Gives this process a real-time priority, so that the kernel runs it before the program's processes. Beside a fork
/// bomb of 500 processes, it would otherwise get a 500th of the CPU time. Its children keep the normal priority. If
/// there's no chrt(1), which nearly every system has, the priority stays as it is.
fn run_first() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--reset-on-fork", "--fifo", "--pid", "1", &std::process::id().to_string()]);
    let _ = chrt.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Leaves the host's mount namespace, so that the table changes only if the program changes it. Without
/// privileges we can't, and then the program can't change it either. Returns whether we see its changes, and the
/// user that it still has to become.
fn private_mounts(options: &Options) -> Result<(bool, Option<u32>)> {
    let (private, mut user) = (make_mounts_private()?, options.user);
    if !options.scratch_host {
        return Ok((private, user));
    }
    if !private {
        // Root in a container becomes the user now, because the new user namespace has only one.
        if let Some(uid) = user.take() {
            setgroups(&[]).context("setgroups")?;
            setgid(uid.into()).context("setgid")?;
            setuid(uid.into()).context("setuid")?;
            // After setuid, /proc/self belongs to root, and we couldn't map the user.
            set_dumpable(true).context("prctl(PR_SET_DUMPABLE)")?;
        }
        enter_user_namespace(CloneFlags::empty())?;
        enter_private_mounts()?;
    }
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>)
        .context("mount(/, MS_REC|MS_SHARED)")?;
    Ok((true, user))
}

fn spawn(options: &Options, user: Option<u32>, directory: &Path) -> Result<Child> {
    let mut command = Command::new(&options.program);
    command.arg0(&options.name).args(&options.args).current_dir(directory);
    if let Some(uid) = user {
        command.uid(uid).gid(uid);
    }
    if options.terminal.is_none() {
        // `kill 0` must not reach us.
        command.process_group(0);
    }
    // A new process has the signal mask of the thread that creates it.
    let mut mask = SigSet::empty();
    if let Some(signal) = options.block {
        mask.add(Signal::try_from(signal).context("a signal's number")?);
    }
    mask.thread_block().context("sigprocmask")?;
    let limit = getrlimit(Resource::RLIMIT_NPROC).context("getrlimit")?;
    limit_processes(options, limit)?;
    let child = command.spawn().context(format!("start {}", options.program.display()))?;
    // Restore our own limit. Any user may raise the soft limit as far as the hard one.
    setrlimit(Resource::RLIMIT_NPROC, limit.0, limit.1).context("setrlimit")?;
    mask.thread_unblock().context("sigprocmask")?;
    Ok(child)
}

/// Limits how many more processes and threads the program's user can have than now. If a fork bomb is faster than our
/// counting, it reaches this limit before it fills the machine. The kernel doesn't limit root, so we count as well. It
/// counts a user's processes in every PID namespace, but our /proc doesn't list those, so we add the tasks of all
/// users.
fn limit_processes(options: &Options, (soft, hard): (u64, u64)) -> Result {
    let (Some(limit), Some(now)) = (options.processes, procfs::all_tasks()) else { return Ok(()) };
    let soft = soft.min(now + u64::from(2 * limit));
    setrlimit(Resource::RLIMIT_NPROC, soft, hard).context("setrlimit")
}

/// Reaps everything until no child is left. Processes that outlive the program or the timeout are killed and reported.
fn adopt(
    options: &Options,
    mut limit: Option<ProcessLimit>,
    control: &UnixStream,
    woken: &UnixStream,
    mut child: Child,
) -> Result {
    woken.set_nonblocking(true).context("fcntl")?;
    let mut deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let grace = options.timeout.map_or(GRACE, |timeout| GRACE.min(timeout / 4));
    let (mut status, mut exited, mut listening, mut blind) = (None, false, true, false);
    loop {
        let others_run = reap(&mut child, &mut status)?;
        if let Some(status) = status
            && !exited
        {
            exited = true;
            report(control, format_args!("status {}", status.into_raw()));
            deadline = Some(Instant::now() + grace);
        }
        if !others_run {
            return Ok(());
        }
        let count = limit.as_ref().map(|_| Instant::now() + COUNT_INTERVAL);
        let next = deadline.into_iter().chain(count).min();
        let told = wait_for_event(listening.then_some(control), woken, next)?;
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let bomb = limit.take_if(|limit| limit.is_exceeded());
        listening &= !told;
        if told || late || bomb.is_some() {
            if let Some(ProcessLimit { most, .. }) = &bomb {
                report(control, format_args!("limit {most}"));
            } else if let (true, false, Some(timeout)) = (late, exited, options.timeout) {
                report(control, format_args!("timeout {}", timeout.as_millis()));
            }
            if bomb.is_some() && options.alone {
                // One call stops every process except PID 1 and us. A fork bomb would be faster than a list of PIDs.
                let _ = kill(Pid::from_raw(-1), Signal::SIGSTOP);
            }
            let seen = stop_descendants()?;
            // Kill first and report later, because a report waits for its reader.
            let lines: Vec<_> = seen.iter().take(SHOWN).map(procfs::describe).collect();
            seen.iter().for_each(|process| process.signal(Signal::SIGKILL));
            for line in lines {
                report(control, format_args!("process {line}"));
            }
            // If the program mounted something over our /proc, even our child isn't listed.
            if seen.is_empty() && !exited {
                report(control, format_args!("process {} in a /proc that hides it", child.id()));
                let pid = Pid::from_raw(child.id().cast_signed());
                let _ = kill(pid, Signal::SIGKILL).and(killpg(pid, Signal::SIGKILL));
            } else if seen.is_empty() && blind {
                return Ok(());
            }
            blind = seen.is_empty();
            deadline = Some(Instant::now() + grace);
        }
    }
}

/// The limit on the program's processes.
struct ProcessLimit {
    most: u32,
    /// Whether nearly every process in this PID namespace is the program's.
    alone: bool,
    /// How many tasks the whole machine had when we began.
    before: u64,
}

impl ProcessLimit {
    fn new(most: u32, alone: bool) -> Self {
        ProcessLimit { most, alone, before: procfs::all_tasks().unwrap_or(0) }
    }

    /// Whether the program has too many processes. A fork bomb leaves us little CPU time, so the cheapest check comes
    /// first.
    fn is_exceeded(&self) -> bool {
        let most = u64::from(self.most);
        let is_possible = procfs::all_tasks().is_none_or(|now| now > self.before + most);
        is_possible
            && if self.alone {
                procfs::count_processes().is_ok_and(|count| count as u64 > most)
            } else {
                procfs::own_tasks().is_ok_and(|tasks| tasks > most)
            }
    }
}

/// Stops every process below this one, so that they create no more while we kill them, and lists them. Repeats this
/// until no new process appears, which a fork bomb needs several rounds for.
fn stop_descendants() -> Result<Vec<procfs::Stat>> {
    let mut known = BTreeSet::new();
    loop {
        let seen = procfs::own_descendants()?;
        let new: Vec<_> = seen.iter().filter(|process| known.insert(process.pid)).collect();
        if new.is_empty() || known.len() > MANY {
            return Ok(seen);
        }
        new.iter().for_each(|process| process.signal(Signal::SIGSTOP));
    }
}

/// Reaps every dead process, and keeps the child's status. Returns whether others still run.
fn reap(child: &mut Child, status: &mut Option<ExitStatus>) -> Result<bool> {
    let ours = Pid::from_raw(child.id().cast_signed());
    loop {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let dead = match waitid(Id::All, peek) {
            Ok(WaitStatus::StillAlive) => return Ok(true),
            Ok(status) => status.pid(),
            Err(Errno::ECHILD) => return Ok(false),
            // nix has no name for a real-time signal, and returns EINVAL without the PID of the dead process.
            Err(Errno::EINVAL) => None,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("waitid"),
        };
        // std decodes every status, and remembers that of the child.
        if status.is_none() && dead.is_none_or(|dead| dead == ours) {
            *status = child.try_wait().context("waitpid")?;
            if status.is_some() {
                continue;
            }
        }
        let _ = waitid(dead.map_or(Id::All, Id::Pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }
}

/// Waits for a signal, the deadline, or the end of the control socket. Returns whether the control socket was closed.
fn wait_for_event(
    control: Option<&UnixStream>,
    mut woken: &UnixStream,
    deadline: Option<Instant>,
) -> Result<bool> {
    let ended = match control {
        Some(control) => wait_readable([control.as_fd(), woken.as_fd()], deadline)?[0],
        None => wait_readable([woken.as_fd()], deadline).map(|_| false)?,
    };
    while woken.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    Ok(ended)
}

fn mounts(mut table: &File) -> Result<String> {
    table.rewind().context("lseek")?;
    io::read_to_string(table).context("read /proc/self/mountinfo")
}
