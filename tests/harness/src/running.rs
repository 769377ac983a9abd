//! A program that runs under a supervisor: how it's waited for, and how it's ended.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::procfs;
use crate::scratch::sweep;
use crate::supervisor::GRACE;

/// How much later than the helper's our own deadline is. The program may have stopped the helper.
const MARGIN: Duration = Duration::from_secs(2);

/// How long after we continued the helper we look whether the program has stopped it again.
const GLANCE: Duration = Duration::from_millis(200);

/// A program that runs under a supervisor.
pub struct Running {
    pub(crate) helper: Child,
    pub(crate) control: Option<Reports>,
    pub(crate) pid: i32,
    pub(crate) limit: Option<Duration>,
}

impl Running {
    /// Returns the PID of the process that was started, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns what ends the program and everything it started.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + 'static {
        let control = self.control.as_ref().and_then(|control| control.stream().try_clone().ok());
        move || {
            if let Some(control) = control {
                let _ = control.shutdown(Shutdown::Write);
            }
        }
    }

    /// Waits until the program and everything it started is gone.
    ///
    /// # Errors
    /// The helper didn't report, for example because the program killed it.
    pub fn wait(self) -> Result<Exit> {
        let limit = self.limit;
        self.wait_at_most(limit)
    }

    /// Does the same, but kills everything when `timeout` has passed.
    ///
    /// # Errors
    /// As for [`Running::wait`].
    pub fn wait_with_timeout(self, timeout: Duration) -> Result<Exit> {
        self.wait_at_most(Some(timeout))
    }

    /// Kills the program and everything it started, and waits for that.
    ///
    /// # Errors
    /// As for [`Running::wait`].
    pub fn end(self) -> Result<Exit> {
        self.stopper()();
        self.wait()
    }

    /// Waits for the report. Every wait in here has a deadline that no line of the report moves for ever: the
    /// program may have stopped the helper, or may keep it busy.
    fn wait_at_most(mut self, limit: Option<Duration>) -> Result<Exit> {
        let mut control = self.control.take().ok_or_else(|| Error::new("there is no helper"))?;
        let (mut exit, mut told, mut over) = (Exit::default(), None, false);
        control.deadline = limit.map(|limit| Instant::now() + limit + MARGIN);
        let ended = loop {
            match control.next_line() {
                Ok(Some(line)) if line == "end" => break Ok(()),
                Ok(Some(line)) => {
                    let is_over = line.starts_with("status ") || line.starts_with("timeout ");
                    if is_over && !over {
                        control.deadline = Some(Instant::now() + GRACE);
                        over = true;
                    }
                    exit.add(&line);
                }
                Ok(None) if told.is_none() => {
                    told = Some(Instant::now());
                    let _ = control.stream().shutdown(Shutdown::Write);
                    let _ = kill(Pid::from_raw(self.helper.id().cast_signed()), Signal::SIGCONT);
                    exit.timed_out = exit.timed_out.or(limit);
                    control.deadline = Some(Instant::now() + GLANCE);
                }
                Ok(None) if told.is_some_and(|at| at.elapsed() < GRACE) && !self.is_stopped() => {
                    control.deadline = Some(Instant::now() + GLANCE);
                }
                Ok(None) => break Err(Error::new("the helper doesn't answer, so it was killed")),
                Err(error) => break Err(error),
            }
        };
        if ended.is_err() || !self.helper_exits(&mut control) {
            self.kill_all();
        }
        if ended.is_err() || exit.timed_out.is_some() || !exit.leaked_processes.is_empty() {
            // What was killed couldn't clean up after itself.
            sweep();
        }
        ended.map(|()| exit)
    }

    fn is_stopped(&self) -> bool {
        procfs::Stat::of(self.helper.id().cast_signed()).is_some_and(|helper| helper.state == 'T')
    }

    /// Waits for the helper, but not for ever: it has exited when its socket closes. Returns whether it has.
    fn helper_exits(&mut self, control: &mut Reports) -> bool {
        control.deadline = Some(Instant::now() + GRACE);
        loop {
            match control.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return self.helper.wait().is_ok(),
            }
        }
    }

    /// Kills the helper and everything below it, which the helper can't do.
    fn kill_all(&mut self) {
        if let Ok(None) = self.helper.try_wait() {
            let pid = self.helper.id().cast_signed();
            // Stopped, the helper reaps nothing, so the PIDs below it stay its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            for process in procfs::descendants(pid).unwrap_or_default() {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            let _ = self.helper.kill();
            let _ = self.helper.wait();
        }
    }
}

/// The lines that the helper sends.
pub(crate) struct Reports {
    control: BufReader<UnixStream>,
    pub(crate) deadline: Option<Instant>,
}

impl Reports {
    pub(crate) fn new(control: UnixStream) -> Self {
        Reports { control: BufReader::new(control), deadline: None }
    }

    fn stream(&self) -> &UnixStream {
        self.control.get_ref()
    }

    /// Returns the next line, or nothing if the whole line doesn't come before the deadline.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>> {
        use std::io::ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
        let mut line = Vec::new();
        loop {
            let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.stream().set_read_timeout(left).context("setsockopt")?;
            match self.control.fill_buf() {
                Ok([]) => return Err(Error::new("the program killed its supervisor")),
                Ok(bytes) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
                    let read = end.map_or(bytes.len(), |end| end + 1);
                    self.control.consume(read);
                    if end.is_some() {
                        return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                    }
                }
                Err(error) if error.kind() == ConnectionReset => {
                    return Err(Error::new("the program killed its supervisor"));
                }
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => return Ok(None),
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return Err(error).context("read from the helper"),
            }
        }
    }
}

impl Drop for Running {
    /// Leaves nothing running, even after an error. The helper kills everything when its socket closes; if it
    /// can't, because it was killed or stopped, we do.
    fn drop(&mut self) {
        if let Some(mut control) = self.control.take() {
            let _ = control.stream().shutdown(Shutdown::Write);
            let _ = kill(Pid::from_raw(self.helper.id().cast_signed()), Signal::SIGCONT);
            control.deadline = Some(Instant::now() + GRACE);
            while let Ok(Some(_)) = control.next_line() {}
        }
        self.kill_all();
    }
}
