//! Run by both, by `run` on the host and by `init` inside: what the two
//! have in common while the command runs.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout};

use crate::{Failure, failed};

// ANCHOR: signals
/// Block all signals: none does to us what it does by default, and none is
/// lost. A blocked signal waits until somebody asks for it. Returns what was
/// blocked before.
///
/// All that nix has a name for, that is. Real-time signals have none, so that
/// they could not be sent on: they stay as they are, and end `run`.
pub fn block_signals() -> Result<SigSet, Failure> {
    let named: SigSet = Signal::iterator().collect();
    named.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed("sigprocmask"))
}

/// Sleep until there is a signal, and take it.
pub fn next_signal() -> Result<Signal, Failure> {
    Signal::iterator().collect::<SigSet>().wait().map_err(failed("sigwait"))
}
// ANCHOR_END: signals

// ANCHOR: files
/// Close every file that we have in common with the command. Whoever reads from
/// its pipe sees the end when the last writer has closed it: not after us.
pub fn let_go_of_files() -> Result<(), Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(failed("open(/dev/null)"))?;
    dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)).map_err(failed("dup2"))?;
    drop(null);
    let names = fs::read_dir("/proc/self/fd").map_err(failed("open(/proc/self/fd)"))?;
    let files = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for file in files.collect::<Vec<_>>().into_iter().filter(|file| *file > 2) {
        // One of them was the directory that we read: it is closed already.
        let _ = close(file);
    }
    Ok(())
}
// ANCHOR_END: files

/// The exit status that tells how the command ended. A signal leaves none.
/// Shells make one up: 128 + its number.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|n| 128 + n));
    ExitCode::from(code.unwrap_or(125) as u8)
}
