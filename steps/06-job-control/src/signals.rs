//! Used by `run` and `init`: signals, one at a time, and what the two hold open
//! while they wait.

use std::fs::{self, File};
use std::process;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, close, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getsid};

use crate::error::{Context, Result};

// ANCHOR: signals
/// Blocks every signal that has a name, and returns the old signal mask. A
/// blocked signal has no effect on us, but isn't lost: it stays pending until we
/// read it.
pub fn block_signals() -> Result<SigSet> {
    let named: SigSet = Signal::iterator().collect();
    // If this fails, it fails now. After the spawn we can't show an error any more.
    SignalFd::new(&named).context("signalfd")?;
    named.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("sigprocmask")
}
// ANCHOR_END: signals

// ANCHOR: next_signal
/// A signal that we read.
pub struct Received {
    pub signal: Signal,
    /// The terminal sent it, so our child got it as well.
    pub from_terminal: bool,
}

/// Waits for the next signal and reads it.
pub fn next_signal() -> Result<Received> {
    let named: SigSet = Signal::iterator().collect();
    let signals = SignalFd::with_flags(&named, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    loop {
        let received = signals.read_signal().context("read(signalfd)")?;
        // If our standard error is a closed pipe, writing to it makes the kernel
        // send us SIGPIPE in our own name. The command doesn't need to know.
        if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
            let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
            let from_terminal = is_from_terminal(signal, info.ssi_code);
            return Ok(Received { signal, from_terminal });
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
// ANCHOR_END: next_signal

// ANCHOR: release
/// Forwards what came before the child existed, and then lets the child go on.
/// From now on, the child gets the terminal's signals by itself.
pub fn release(child: Pid) -> Result<()> {
    let mut early: SigSet = Signal::iterator().collect();
    // If the child died already, `next_signal` has to see that.
    early.remove(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&early, flags).context("signalfd")?;
    while let Some(info) = signals.read_signal().context("read(signalfd)")? {
        let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
        let _ = kill(child, signal);
    }
    let _ = kill(child, Signal::SIGCHLD);
    Ok(())
}

/// Run by the child, which has no children: its only SIGCHLD comes from `release`.
pub fn wait_for_release() -> Result<()> {
    let released: SigSet = [Signal::SIGCHLD].into_iter().collect();
    released.wait().map(drop).context("sigwait")
}
// ANCHOR_END: release

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
