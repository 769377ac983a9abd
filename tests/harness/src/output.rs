//! The output of a program, read while the program runs, and limited to [`OUTPUT_LIMIT`] bytes.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, OUTPUT_LIMIT, Result};

/// How long the rest of the output may take after everything has exited.
const FINISH: Duration = Duration::from_secs(30);

/// A stream of a program's output, read by a separate thread.
pub(crate) struct Output {
    chunks: Receiver<Vec<u8>>,
    unread: RefCell<Vec<u8>>,
    over: Arc<AtomicBool>,
}

impl Output {
    /// Starts to read `source`. If it has more than [`OUTPUT_LIMIT`] bytes, `stop` is called, and the rest is
    /// discarded.
    pub(crate) fn capture(
        mut source: impl Read + Send + 'static,
        stop: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let (sender, chunks) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let read_all = move || {
            let (mut total, mut stop) = (0, Some(stop));
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = source.read(&mut buffer) {
                total += read;
                if total <= OUTPUT_LIMIT {
                    let _ = sender.send(buffer[..read].to_vec());
                } else if let Some(stop) = stop.take() {
                    is_over.store(true, Ordering::Relaxed);
                    stop();
                }
            }
        };
        thread::Builder::new().spawn(read_all).context("start a thread")?;
        Ok(Output { chunks, unread: RefCell::default(), over })
    }

    /// Waits for the next `end`, and returns the text up to it and with it.
    pub(crate) fn read_until(&self, end: &str, wanted: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut unread = self.unread.borrow_mut();
        let mut seen = 0;
        loop {
            let found =
                unread[seen..].windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text: Vec<u8> = unread.drain(..seen + at + end.len()).collect();
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            seen = unread.len().saturating_sub(end.len() - 1);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => unread.extend(chunk),
                Err(_) if self.over.load(Ordering::Relaxed) => {
                    return Err(Error::OutputLimit);
                }
                Err(reason) => {
                    let printed = String::from_utf8_lossy(&unread).into_owned();
                    let wanted = wanted.to_owned();
                    return Err(match reason {
                        RecvTimeoutError::Timeout => Error::Timeout { wanted, limit, printed },
                        RecvTimeoutError::Disconnected => Error::OutputEnded { wanted, printed },
                    });
                }
            }
        }
    }

    /// Returns the text up to the end of the stream, but waits at most for `limit`.
    pub(crate) fn read_within(&self, limit: Duration) -> String {
        self.read_to_end(limit);
        String::from_utf8_lossy(&self.unread.borrow()).into_owned()
    }

    /// Reads to the end of the stream, which comes when every process has closed its write end. This wait has a limit,
    /// in case a process couldn't be killed.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        if !self.read_to_end(FINISH) {
            return Err(Error::new("a process outlives the program, with its output open"));
        }
        if self.over.load(Ordering::Relaxed) {
            return Err(Error::OutputLimit);
        }
        Ok(self.unread.into_inner())
    }

    /// Collects what is left of the stream. Returns whether its end came within `limit`.
    fn read_to_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.unread.borrow_mut().extend(chunk),
                Err(reason) => return reason == RecvTimeoutError::Disconnected,
            }
        }
    }
}
