//! Used by `run` and `init`: signals, one at a time, and what the two hold open
//! while they wait.

use std::fs::{self, File};
use std::process;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout};

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

/// Waits for the next signal and reads it.
pub fn next_signal() -> Result<Signal> {
    let named: SigSet = Signal::iterator().collect();
    let signals = SignalFd::with_flags(&named, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    loop {
        let received = signals.read_signal().context("read(signalfd)")?;
        // If our standard error is a closed pipe, writing to it makes the kernel
        // send us SIGPIPE in our own name. The command doesn't need to know.
        if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
            return Signal::try_from(info.ssi_signo as i32).context("read(signalfd)");
        }
    }
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
