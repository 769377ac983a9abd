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
    // If this fails, it fails now. After the spawn we can't show an error any more.
    SignalFd::new(&named).context("signalfd")?;
    named.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("sigprocmask")
}

/// A signal that we took.
pub struct Received {
    pub signal: Signal,
    /// The terminal sent it, so our child got it as well.
    pub from_terminal: bool,
}

/// The signals that arrive after our child was created.
pub struct Signals {
    /// The terminal couldn't send these to the child, because they came earlier.
    early: u64,
}

impl Signals {
    pub fn since_spawn() -> Signals {
        Signals { early: status_mask("ShdPnd") }
    }

    /// Waits for the next signal and takes it.
    pub fn next(&mut self) -> Result<Received> {
        let named: SigSet = Signal::iterator().collect();
        let signals = SignalFd::with_flags(&named, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
        loop {
            let received = signals.read_signal().context("read(signalfd)")?;
            // If our standard error is a closed pipe, writing to it makes the kernel
            // send us SIGPIPE in our own name. The command doesn't need to know.
            if let Some(info) = received.filter(|info| info.ssi_pid != process::id()) {
                let signal = Signal::try_from(info.ssi_signo as i32).context("read(signalfd)")?;
                let early = self.early & bit(signal) != 0;
                self.early &= !bit(signal);
                let from_terminal = !early && is_from_terminal(signal, info.ssi_code);
                return Ok(Received { signal, from_terminal });
            }
        }
    }
}

/// A terminal's signals come from the kernel and go to every process in a
/// process group, ours and the command's. One exception: if the terminal hangs
/// up, SIGHUP goes to the session leader, and not to its group.
fn is_from_terminal(signal: Signal, code: i32) -> bool {
    const SI_KERNEL: i32 = 0x80;
    let hangup = signal == Signal::SIGHUP && getsid(None) == Ok(getpid());
    code == SI_KERNEL && !hangup
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
