//! Used by `run` and `init`: signals, one at a time, and what the two hold open
//! while they wait.

use std::fs::{self, File};
use std::process;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getsid};

use crate::error::{Context, Result};

// ANCHOR: signals
/// Blocks every signal that has a name, and returns the old signal mask. A
/// blocked signal has no effect on us, but isn't lost: it stays pending until we
/// read it.
pub fn block_signals() -> Result<SigSet> {
    let named: SigSet = Signal::iterator().collect();
    named.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("sigprocmask")
}

/// The signals that our child didn't get by itself.
pub struct Signals {
    /// Pending since before our child was created.
    early: u64,
}

impl Signals {
    /// Call this after the child was created: what is pending now, it may have missed.
    pub fn since_spawn() -> Signals {
        Signals { early: status_mask("ShdPnd") }
    }

    /// Waits for the next signal and takes it.
    pub fn next(&mut self) -> Result<Signal> {
        let signals =
            SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        loop {
            let received = signals.read_signal().context("read(signalfd)")?;
            // If our standard error is a closed pipe, writing to it makes the kernel
            // send us SIGPIPE in our own name. The command doesn't need to know.
            if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
                let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
                let early = self.early & bit(signal) != 0;
                self.early &= !bit(signal);
                if early || !is_from_terminal(signal, info.ssi_code) {
                    return Ok(signal);
                }
            }
        }
    }
}

/// A terminal signals a whole process group, ours and the command's. Its signals
/// come from the kernel, but so does an alarm's SIGALRM, which is only for us.
fn is_from_terminal(signal: Signal, code: i32) -> bool {
    use Signal::*;
    const SI_KERNEL: i32 = 0x80;
    let from_terminal = match signal {
        SIGINT | SIGQUIT | SIGTSTP | SIGTTIN | SIGTTOU | SIGWINCH => true,
        // If the terminal hangs up, it signals only the session leader.
        SIGHUP | SIGCONT => getsid(None) != Ok(getpid()),
        _ => false,
    };
    from_terminal && code == SI_KERNEL
}

/// A set of signals in /proc/self/status, such as `ShdPnd`: those that are pending.
pub fn status_mask(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

pub fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}
// ANCHOR_END: signals

// ANCHOR: close_inherited_fds
/// Opens /dev/null for `close_inherited_fds`, while an error can still be shown.
pub fn open_null() -> Result<File> {
    File::options().read(true).write(true).open("/dev/null").context("open(/dev/null)")
}

/// Closes every file that we share with the command. A process that reads the
/// command's output doesn't see EOF until the last writer closes it, and that
/// must be the command.
pub fn close_inherited_fds(null: File) -> Result<()> {
    dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)).context("dup2")?;
    drop(null);
    let entries = fs::read_dir("/proc/self/fd").context("open(/proc/self/fd)")?;
    let fds = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for fd in fds.collect::<Vec<_>>().into_iter().filter(|fd| *fd > 2) {
        // One of them belonged to `read_dir` and is closed already.
        let _ = close(fd);
    }
    Ok(())
}
// ANCHOR_END: close_inherited_fds
