//! Runs a command that starts other people's programs so that nothing is left when it ends, in whatever way.

use std::env;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Termination};

use harness::namespace::{enter_user_namespace, make_mounts_private, map_ids, own_pid_namespace};
use harness::procfs::Stat;
use harness::{
    Caller, Context, Error, Requirement, Result, ScratchDir, exit_code, procfs, shell_status,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_child_subreaper, set_dumpable, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::termios::tcgetattr;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getegid, geteuid, getpgrp, getppid, getsid};
use signal_hook::consts::{
    SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
};
use signal_hook::iterator::Signals;

use crate::keyboard::restore;

/// In the environment of the process that works: the PID of the one that cleans up after it, as it sees it.
const CLEANED_UP_BY: &str = "COURSE_CLEANED_UP_BY";
/// In the environment of the first process in a PID namespace: the user that it becomes, or `root`.
const CONTAINED_AS: &str = "COURSE_CONTAINED_AS";
/// How much the programs under test can write into their temporary directories.
const TMPFS: &str = "mode=0755,size=256m,nr_inodes=65536";
/// How many processes an ordinary user's program can have.
const PROCESSES: u64 = 1000;

/// Works in a separate process, with a directory for its temporary files, and waits for it. When the work is
/// done, or a signal such as Ctrl-C ends the command, everything that the work started is killed, and the
/// directory goes.
///
/// # Errors
/// The directory or the process can't be created. The work prints its own errors.
pub fn with_cleanup<T: Termination>(work: impl FnOnce() -> Result<T>) -> Result<ExitCode> {
    work_and_clean_up(false, work)
}

/// Does the same in a PID namespace and a temporary directory of limited size, if that's possible here. `kill -9 -1`
/// doesn't reach the process that works, because that's PID 1 there.
///
/// # Errors
/// As for [`with_cleanup`].
pub fn contained<T: Termination>(work: impl FnOnce() -> Result<T>) -> Result<ExitCode> {
    work_and_clean_up(true, work)
}

fn work_and_clean_up<T: Termination>(
    is_contained: bool,
    work: impl FnOnce() -> Result<T>,
) -> Result<ExitCode> {
    if env::var(CLEANED_UP_BY).is_ok_and(|pid| pid == getppid().to_string()) {
        // If the other process is killed and can't clean up, we go, and the supervisors see that.
        set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
        if let Ok(user) = env::var(CONTAINED_AS) {
            begin_as_pid_1(&user)?;
        }
        return work().map(T::report);
    }
    let directory = ScratchDir::new("course")?;
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let settings = tcgetattr(stdin());
    let mut worker = Command::new("/proc/self/exe");
    worker.args(env::args_os().skip(1)).env_remove(CONTAINED_AS);
    worker.env("TMPDIR", directory.path()).env(CLEANED_UP_BY, process::id().to_string());
    if is_contained && let Some(user) = new_pid_namespace()? {
        // PID 1's parent is outside, and has no PID inside.
        worker.env(CONTAINED_AS, user).env(CLEANED_UP_BY, "0");
    }
    let end = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGCHLD];
    let stop = [SIGTSTP, SIGTTIN, SIGTTOU];
    let mut signals = Signals::new(end.iter().chain(&stop)).context("sigaction")?;
    let mut worker = worker.spawn().context("start /proc/self/exe")?;
    let ended = signals.forever().find_map(|signal| match signal {
        SIGCHLD => worker.try_wait().map(|status| status.map(shell_status)).transpose(),
        signal if stop.contains(&signal) => {
            stop_with(Pid::from_raw(worker.id().cast_signed()));
            None
        }
        signal => Some(Ok(128 + signal)),
    });
    let status = ended.unwrap_or(Ok(1)).context("wait for the work")?;
    if status == 128 + SIGINT && stderr().is_terminal() {
        // Let the prompt begin on a new line.
        let _ = stderr().write_all(b"\n");
    }
    kill_descendants()?;
    // A worker that was killed can't.
    if let Ok(settings) = settings {
        restore(&settings);
    }
    drop(directory);
    if status == 128 + Signal::SIGKILL as i32 {
        return Err(Error::new("the program under test killed the process that was checking it"));
    }
    Ok(exit_code(status))
}

/// Stops this process and the worker, as Ctrl-Z would, and continues both. PID 1 of a PID namespace ignores Ctrl-Z. In
/// the background, it would try to read from the terminal without end.
fn stop_with(worker: Pid) {
    let (group, session) = (getpgrp().as_raw(), getsid(None));
    // As the kernel does, we ignore the signal if there's no shell that could continue us.
    let has_shell = |process: &Stat| {
        let parent = Stat::of(process.ppid).filter(|parent| parent.pgrp != group);
        parent.is_some_and(|parent| getsid(Some(Pid::from_raw(parent.pid))) == session)
    };
    let processes = procfs::all_processes().unwrap_or_default();
    if processes.iter().any(|process| process.pgrp == group && has_shell(process)) {
        let _ = kill(worker, Signal::SIGSTOP);
        let _ = raise(Signal::SIGSTOP);
        let _ = kill(worker, Signal::SIGCONT);
    }
}

/// Puts the next child into a new PID namespace, if it can mount a /proc there. Returns the user that it should
/// become. A user namespace can't be left, so this tries first in another process.
fn new_pid_namespace() -> Result<Option<String>> {
    if Requirement::Procfs(Caller::Root).check().is_ok() {
        unshare(CloneFlags::CLONE_NEWPID).context("unshare(CLONE_NEWPID)")?;
        return Ok(Some("root".into()));
    }
    if geteuid().is_root() || Requirement::Procfs(Caller::Rootless).check().is_err() {
        return Ok(None);
    }
    let user = format!("{} {}", geteuid(), getegid());
    enter_user_namespace(CloneFlags::CLONE_NEWPID)?;
    Ok(Some(user))
}

/// Mounts what PID 1 needs. An ordinary user is root of a user namespace until then, and itself again in a second
/// one after exec.
fn begin_as_pid_1(user: &str) -> Result<()> {
    own_pid_namespace();
    // From here on, programs of the same user can neither trace this process nor open its files.
    set_dumpable(false).context("prctl(PR_SET_DUMPABLE)")?;
    if user == "itself" {
        return Ok(());
    }
    make_mounts_private()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mount(/proc)")?;
    let directory = env::temp_dir();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("course"), &directory, Some("tmpfs"), flags, Some(TMPFS))
        .context(format!("mount({})", directory.display()))?;
    let Some((uid, gid)) = user.split_once(' ') else { return Ok(()) };
    unshare(CloneFlags::CLONE_NEWUSER).context("unshare(CLONE_NEWUSER)")?;
    map_ids(uid, "0", gid, "0")?;
    // Only here: in a new user namespace, the kernel doesn't count what else the user runs. It never binds root.
    // A lower limit stays, because only root can raise it.
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).context("getrlimit")?;
    let limit = hard.min(PROCESSES);
    setrlimit(Resource::RLIMIT_NPROC, limit, limit).context("setrlimit")?;
    let mut itself = Command::new("/proc/self/exe");
    itself.args(env::args_os().skip(1)).env(CONTAINED_AS, "itself");
    Err(itself.exec()).context("exec /proc/self/exe")
}

/// Kills every process below this one, and waits until none is left. A process that one of them starts in its last
/// moment becomes our child, and is killed in the next round.
fn kill_descendants() -> Result<()> {
    loop {
        procfs::own_descendants()?.iter().for_each(|process| process.signal(Signal::SIGKILL));
        match waitid(Id::All, WaitPidFlag::WEXITED) {
            Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno).context("waitid"),
        }
    }
}
