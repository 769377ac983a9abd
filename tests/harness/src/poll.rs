//! Waits for files with poll(2).

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, Result};

/// Waits until one of the files has something to read or is closed, or until the deadline. Returns for each file
/// whether it has or is. A signal doesn't end the wait.
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
