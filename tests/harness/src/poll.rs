//! Waits for files with poll(2).

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, Result};

/// Waits until there's something to read from one of the files, or one is closed, or the deadline comes. Returns for
/// each whether it's the one. A signal doesn't end the wait.
///
/// # Errors
/// poll(2) failed.
pub fn wait_readable<const N: usize>(
    files: [BorrowedFd<'_>; N],
    deadline: Option<Instant>,
) -> Result<[bool; N]> {
    let mut events = files.map(|file| PollFd::new(file, PollFlags::POLLIN));
    loop {
        // Rounded up, because poll(2) counts whole milliseconds.
        let left = deadline.map(|deadline| {
            deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1)
        });
        let left = left.map(|left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut events, left.unwrap_or(PollTimeout::NONE)) {
            Err(Errno::EINTR) => {}
            result => {
                result.context("poll")?;
                return Ok(events.map(|event| event.any().unwrap_or(false)));
            }
        }
    }
}
