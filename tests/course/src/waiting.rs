//! A line at the terminal for work that takes longer than half a second.

use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::style::is_dumb;

/// The time until the line appears.
const PATIENCE: Duration = Duration::from_millis(500);

/// Works, and shows `line` on standard error if that takes longer than half a second. The line goes when the work
/// is done. Only a terminal gets one.
pub fn show_if_slow<T>(line: &str, work: impl FnOnce() -> T) -> T {
    if !stderr().is_terminal() || is_dumb() {
        return work();
    }
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let show = move || {
            if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = stderr().write_all(format!("\r{line}").as_bytes());
                let _ = is_done.recv();
                let _ = stderr().write_all(b"\r\x1b[K");
            }
        };
        // Without another thread, the work goes on without a line.
        let _ = thread::Builder::new().spawn_scoped(scope, show);
        let result = work();
        drop(done);
        result
    })
}

/// Draws how much is done, for example `███░░░ 3 of 6`.
pub fn bar(done: usize, total: usize) -> String {
    const WIDTH: usize = 20;
    let full = (done * WIDTH).checked_div(total).unwrap_or_default().min(WIDTH);
    format!("{}{} {done} of {total}", "█".repeat(full), "░".repeat(WIDTH - full))
}
