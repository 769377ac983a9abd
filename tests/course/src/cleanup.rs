//! Runs a command that starts other people's programs so that nothing is left when it ends, in whatever way.

use std::env;
use std::io::stdin;
use std::process::{self, Command, ExitCode};

use harness::{Context, Error, Result, ScratchDir, procfs, shell_status};
use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpgrp, getppid, tcgetpgrp};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// In the environment of the process that works: the PID of the one that cleans up after it.
const CLEANED_UP_BY: &str = "COURSE_CLEANED_UP_BY";

/// Works in a process of its own, with a directory for its temporary files, and waits for it. When the work is
/// done, or a signal such as Ctrl-C ends the command, everything that the work started is killed, and the
/// directory goes.
///
/// # Errors
/// The directory or the process can't be created. The work prints its own errors.
pub fn with_cleanup(work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if env::var(CLEANED_UP_BY).is_ok_and(|pid| pid == getppid().to_string()) {
        // If the other process is killed and can't clean up, we go, and the supervisors see that.
        set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
        return work();
    }
    let directory = ScratchDir::new("course")?;
    set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGCHLD];
    let mut signals = Signals::new(signals).context("sigaction")?;
    let settings = tcgetattr(stdin());
    let mut worker = Command::new("/proc/self/exe");
    worker.args(env::args_os().skip(1));
    worker.env("TMPDIR", directory.path()).env(CLEANED_UP_BY, process::id().to_string());
    let mut worker = worker.spawn().context("start /proc/self/exe")?;
    let ended = signals.forever().find_map(|signal| match signal {
        SIGCHLD => worker.try_wait().map(|status| status.map(shell_status)).transpose(),
        signal => Some(Ok(128 + signal)),
    });
    let status = ended.unwrap_or(Ok(1)).context("wait for the work")?;
    kill_descendants()?;
    // A worker that was killed can't. In the background, we would be stopped for it (SIGTTOU).
    if let (Ok(settings), true) = (settings, tcgetpgrp(stdin()) == Ok(getpgrp())) {
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &settings);
    }
    drop(directory);
    if status == 128 + Signal::SIGKILL as i32 {
        return Err(Error::new("the program under test killed the process that looked at it"));
    }
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// Kills everything below this process, and waits until nothing is left. What one of them starts in its last
/// moment becomes our child, and comes next.
fn kill_descendants() -> Result<()> {
    loop {
        for process in procfs::own_descendants()? {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        match waitid(Id::All, WaitPidFlag::WEXITED) {
            Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno).context("waitid"),
        }
    }
}
