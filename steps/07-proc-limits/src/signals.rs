//! Used by `run` and `init` to block and read signals, and to close the files that
//! they share with the command.

use std::fs::{self, File};
use std::process;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, close, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getsid};

use crate::error::{Context, Result};

// ANCHOR: signals
/// Blocks the signals that we want to read, and returns the old signal mask, the set
/// of blocked signals. A blocked signal has no effect on us, but it isn't lost: the
/// kernel keeps it pending until we read it.
pub fn block_signals() -> Result<SigSet> {
    // A signalfd is a file from which we read blocked signals. Check now that we can
    // create one. When `next_signal` creates one, our standard error is already
    // /dev/null, so we can no longer report a failure.
    SignalFd::new(&signals_to_read()).context("signalfd")?;
    signals_to_read().thread_swap_mask(SigmaskHow::SIG_BLOCK).context("sigprocmask")
}

/// Returns every signal that has a name (1 to 31). Among these are SIGKILL and SIGSTOP,
/// which we can't block.
fn signals_to_read() -> SigSet {
    Signal::iterator().collect()
}
// ANCHOR_END: signals

// ANCHOR: next_signal
/// Describes a signal that we read.
pub struct Received {
    pub signal: Signal,
    /// True if the terminal sent the signal. In that case, our child got it, too.
    pub from_terminal: bool,
}

/// Waits for the next signal and reads it, so that it's no longer pending. Each call
/// can create a new signalfd, because signals stay pending in the process, not in it.
pub fn next_signal() -> Result<Received> {
    let flags = SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals_to_read(), flags).context("signalfd")?;
    loop {
        let received = signals.read_signal().context("read(signalfd)")?;
        // If standard error was a pipe that no process read, our messages caused a
        // SIGPIPE. Rust ignores SIGPIPE, but a blocked signal stays pending even so.
        // Its sender's PID is our own. Skip it.
        if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
            let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
            let from_terminal = is_from_terminal(signal, info.ssi_code);
            return Ok(Received { signal, from_terminal });
        }
    }
}

/// Returns true if the terminal sent the signal. A terminal signals a whole process
/// group, and the command is in ours, so it gets the signal, too. The code
/// SI_KERNEL isn't enough to tell, because the SIGALRM of alarm(2) has this code,
/// too, but comes only to us.
fn is_from_terminal(signal: Signal, code: i32) -> bool {
    use Signal::*;
    // This code means that the kernel itself sent the signal (sigaction(2)).
    const SI_KERNEL: i32 = 0x80;
    let from_terminal = match signal {
        SIGINT | SIGQUIT | SIGTSTP | SIGTTIN | SIGTTOU | SIGWINCH => true,
        // When a terminal hangs up, it sends these signals only to the session
        // leader. If that's us, our child didn't get them.
        SIGHUP | SIGCONT => getsid(None) != Ok(getpid()),
        _ => false,
    };
    from_terminal && code == SI_KERNEL
}
// ANCHOR_END: next_signal

// ANCHOR: release
/// Forwards the signals that came before the child existed, and then makes the
/// child continue. The terminal sends its later signals to the child, too.
pub fn release(child: Pid) -> Result<()> {
    let mut early = signals_to_read();
    // Leave SIGCHLD pending for `next_signal`, in case the child is already dead.
    early.remove(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&early, flags).context("signalfd")?;
    while let Some(info) = signals.read_signal().context("read(signalfd)")? {
        let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
        let _ = kill(child, signal);
    }
    // `wait_for_release` in the child waits for this signal.
    let _ = kill(child, Signal::SIGCHLD);
    Ok(())
}

/// Waits for the SIGCHLD that our parent sends in `release`. The signal can't be
/// about a child of ours, because we haven't created one yet.
pub fn wait_for_release() -> Result<()> {
    let released: SigSet = [Signal::SIGCHLD].into_iter().collect();
    released.wait().map(drop).context("sigwait")
}
// ANCHOR_END: release

// ANCHOR: close_inherited_fds
/// Opens /dev/null for `close_inherited_fds`. We call this before the spawn, while
/// we can still report an error.
pub fn open_null() -> Result<File> {
    File::options().read(true).write(true).open("/dev/null").context("open(/dev/null)")
}

/// Closes every file that we share with the command. If the command's output is a
/// pipe, its reader sees EOF only when the last writer closes the pipe. The command
/// may close its output long before it exits, so we mustn't keep the pipe open.
pub fn close_inherited_fds(null: File) -> Result<()> {
    // dup2 makes the file descriptors 0, 1, and 2 refer to /dev/null. If we closed
    // them instead, the next files that we open would get these numbers, and our
    // messages could end up in one of those files.
    dup2_stdin(&null).context("dup2")?;
    dup2_stdout(&null).context("dup2")?;
    dup2_stderr(&null).context("dup2")?;
    drop(null);
    let entries = fs::read_dir("/proc/self/fd").context("open(/proc/self/fd)")?;
    let fds = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for fd in fds.collect::<Vec<_>>().into_iter().filter(|fd| *fd > 2) {
        // The list includes `read_dir`'s own descriptor. Closing that again fails.
        let _ = close(fd);
    }
    Ok(())
}
// ANCHOR_END: close_inherited_fds
