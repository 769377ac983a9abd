//! Used by `run` and `init` to block and read signals, and to close the files that
//! they share with the command.

use std::fs::{self, File};
use std::process;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout};

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

/// Returns every signal that has a name (1 to 31), except the three with which a
/// terminal stops processes, for example on Ctrl-Z. They still stop `run`, as your
/// shell expects, and the command gets them from the terminal. (It also gets
/// Ctrl-C's SIGINT from the terminal, and then again from us.)
fn signals_to_read() -> SigSet {
    let stops = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];
    Signal::iterator().filter(|signal| !stops.contains(signal)).collect()
}

/// Waits for the next signal and reads it, so that it's no longer pending. Each call
/// can create a new signalfd, because signals stay pending in the process, not in it.
pub fn next_signal() -> Result<Signal> {
    let flags = SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals_to_read(), flags).context("signalfd")?;
    loop {
        let received = signals.read_signal().context("read(signalfd)")?;
        // If standard error was a pipe that no process read, our messages caused a
        // SIGPIPE. Rust ignores SIGPIPE, but a blocked signal stays pending even so.
        // Its sender's PID is our own. Skip it.
        if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
            return Signal::try_from(info.ssi_signo as i32).context("read(signalfd)");
        }
    }
}
// ANCHOR_END: signals

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
