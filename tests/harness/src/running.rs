//! A program that runs under a supervisor: how it's waited for, and how it's ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind::{ConnectionReset, TimedOut, WouldBlock};
use std::io::{BufRead, BufReader};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::exit::Exit;
use crate::poll::wait_readable;
use crate::process_tree::ProcessTree;
use crate::procfs;
use crate::scratch::sweep;

/// How long the helper may take to start, to report what's left after the program, and to exit. It gives orphans
/// ten seconds itself.
const GRACE: Duration = Duration::from_secs(120);

/// How much later than the helper's our own deadline is. The program may have stopped the helper.
const MARGIN: Duration = Duration::from_secs(2);

/// How often we look whether the program has stopped the helper.
const GLANCE: Duration = Duration::from_millis(200);

/// Sends a signal to a process.
///
/// # Errors
/// The process is gone, or isn't ours.
pub fn send_signal(pid: i32, signal: Signal) -> Result {
    kill(Pid::from_raw(pid), signal).context(format!("kill({signal})"))
}

/// A program that runs under a supervisor.
pub struct Running {
    pub(crate) helper: Child,
    pub(crate) control: RefCell<Option<Reports>>,
    pub(crate) pid: i32,
    pub(crate) limit: Option<Duration>,
    pub(crate) answer_timeout: Duration,
}

impl Running {
    /// Returns the PID of the process that was started, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads the tree below that process.
    ///
    /// # Errors
    /// The process is gone.
    pub fn tree(&self) -> Result<ProcessTree> {
        ProcessTree::of(self.pid)
    }

    /// Looks at the tree until it is as wanted. The kernel has no event for a process that is reaped or stopped below
    /// our children.
    ///
    /// # Errors
    /// It isn't in the time of an answer; the message has the tree.
    pub fn wait_for_tree(&self, wanted: impl Fn(&ProcessTree) -> bool) -> Result<ProcessTree> {
        let deadline = Instant::now() + self.answer_timeout;
        loop {
            let tree = self.tree().map_err(|error| self.explain(error))?;
            if wanted(&tree) {
                return Ok(tree);
            }
            if Instant::now() > deadline {
                let error = format!("the tree is still like this:\n{}", tree.text());
                return Err(self.explain(Error::new(error)));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Returns what ends the program and everything it started.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + 'static {
        let control = self.control.borrow();
        let control = control.as_ref().and_then(|control| control.stream().try_clone().ok());
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
    pub fn wait(mut self) -> Result<Exit> {
        self.wait_at_most(self.limit)
    }

    /// Does the same, but kills everything when `timeout` has passed.
    ///
    /// # Errors
    /// As for [`Running::wait`].
    pub fn wait_with_timeout(mut self, timeout: Duration) -> Result<Exit> {
        self.wait_at_most(Some(timeout))
    }

    /// Does the same, but kills everything when the time of an answer has passed.
    pub(crate) fn wait_for_answer(mut self) -> Result<Exit> {
        self.wait_at_most(Some(self.answer_timeout))
    }

    /// Says why the program gives no answer, if the helper killed it for its number of processes.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let mut control = self.control.borrow_mut();
        let limit = control.as_mut().and_then(Reports::process_limit);
        limit.map_or(error, |limit| Error::ProcessLimit { limit })
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
    fn wait_at_most(&mut self, limit: Option<Duration>) -> Result<Exit> {
        let mut control = self.control.take().ok_or_else(|| Error::new("there is no helper"))?;
        let (mut exit, mut told, mut over) = (Exit::default(), None, false);
        let late = limit.map(|limit| Instant::now() + limit);
        control.deadline = late.map(|late| late + GLANCE);
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
                Ok(None) => {
                    // It reports the timeout itself, unless it's stopped.
                    let may_report = match (told, late) {
                        (Some(at), _) => Instant::now() < at + GRACE,
                        (None, Some(late)) => !over && Instant::now() < late + MARGIN,
                        (None, None) => false,
                    };
                    if !may_report || self.is_stopped() {
                        if told.is_some() {
                            break Err(Error::new("the helper doesn't answer, so it was killed"));
                        }
                        told = Some(Instant::now());
                        let _ = control.stream().shutdown(Shutdown::Write);
                        self.continue_helper();
                        exit.timed_out = exit.timed_out.or(limit);
                    }
                    control.deadline = Some(Instant::now() + GLANCE);
                }
                Err(error) => break Err(error),
            }
        };
        if ended.is_err() || !self.helper_exits(&mut control) {
            self.kill_all();
        }
        if ended.is_err() || exit.timed_out.is_some() || !exit.leaked_processes.is_empty() {
            // The killed processes couldn't remove their temporary directories.
            sweep();
        }
        ended.map(|()| exit)
    }

    /// Waits until the helper connects. It goes on if another program has stopped it before that.
    pub(crate) fn connection(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        let begin = Instant::now();
        while wait_readable([listener.as_fd()], Some(Instant::now() + GLANCE))? == [false] {
            // Looked at first, because it may connect, and exit, at this moment.
            let is_dead = self.state().is_none_or(|state| state == 'Z');
            let connects = wait_readable([listener.as_fd()], Some(Instant::now()))? == [true];
            if !connects && (is_dead || begin.elapsed() > GRACE) {
                return Err(Error::new("the helper doesn't answer"));
            }
            self.continue_helper();
        }
        Ok(listener.accept().context("accept")?.0)
    }

    /// Waits for what the helper says first. It goes on if the program has stopped it before that.
    pub(crate) fn first_line(&self, control: &mut Reports) -> Result<Option<String>> {
        let begin = Instant::now();
        loop {
            control.deadline = Some(Instant::now() + GLANCE);
            match control.next_line() {
                Ok(None) if begin.elapsed() < GRACE => self.continue_helper(),
                line => return line,
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// Returns the helper's state, as /proc names it.
    fn state(&self) -> Option<char> {
        procfs::Stat::of(self.helper.id().cast_signed()).map(|helper| helper.state)
    }

    /// Continues the helper, and its children: in vfork(2), it waits until its child starts a program.
    fn continue_helper(&self) {
        let pid = self.helper.id().cast_signed();
        let below = procfs::search_below(pid).unwrap_or_default();
        below.iter().for_each(|process| process.signal(Signal::SIGCONT));
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }

    /// Waits for the helper, but not for ever: it has exited when its socket closes. Returns whether it has.
    fn helper_exits(&mut self, control: &mut Reports) -> bool {
        let begin = Instant::now();
        loop {
            control.deadline = Some(Instant::now() + GLANCE);
            match control.next_line() {
                Ok(Some(_)) => {}
                Ok(None) if begin.elapsed() < GRACE => self.continue_helper(),
                Ok(None) => return false,
                Err(_) => return self.helper.wait().is_ok(),
            }
        }
    }

    /// Kills the helper and everything below it, which the helper can't do.
    fn kill_all(&mut self) {
        if let Ok(None) = self.helper.try_wait() {
            let pid = self.helper.id().cast_signed();
            // A stopped helper reaps no process, so the PIDs below it can't be reused.
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            let below = procfs::search_below(pid).unwrap_or_default();
            below.iter().for_each(|process| process.signal(Signal::SIGKILL));
            let _ = self.helper.kill();
            let _ = self.helper.wait();
        }
    }
}

/// The lines that the helper sends.
pub(crate) struct Reports {
    control: BufReader<UnixStream>,
    read_ahead: VecDeque<String>,
    /// The beginning of a line whose end hasn't come yet.
    begun: Vec<u8>,
    pub(crate) deadline: Option<Instant>,
}

impl Reports {
    pub(crate) fn new(control: UnixStream) -> Self {
        let (read_ahead, begun) = (VecDeque::new(), Vec::new());
        Reports { control: BufReader::new(control), read_ahead, begun, deadline: None }
    }

    fn stream(&self) -> &UnixStream {
        self.control.get_ref()
    }

    /// Returns the limit on processes, if a line that has come says that the program exceeded it.
    fn process_limit(&mut self) -> Option<u32> {
        self.deadline = Some(Instant::now() + Duration::from_millis(1));
        while let Ok(Some(line)) = self.read_line() {
            self.read_ahead.push_back(line);
        }
        let limit = self.read_ahead.iter().find_map(|line| line.strip_prefix("limit "));
        limit.and_then(|limit| limit.parse().ok())
    }

    /// Returns the next line, or nothing if the whole line doesn't come before the deadline.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>> {
        match self.read_ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read_line(),
        }
    }

    fn read_line(&mut self) -> Result<Option<String>> {
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        self.stream().set_read_timeout(left).context("setsockopt")?;
        match self.control.read_until(b'\n', &mut self.begun) {
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => Ok(None),
            Err(error) if error.kind() != ConnectionReset => {
                Err(error).context("read from the helper")
            }
            Ok(_) if self.begun.pop_if(|byte| *byte == b'\n').is_some() => {
                let line = mem::take(&mut self.begun);
                Ok(Some(String::from_utf8_lossy(&line).into_owned()))
            }
            _ => Err(Error::new("the program killed its supervisor")),
        }
    }
}

impl Drop for Running {
    /// Leaves nothing running, even after an error. The helper kills everything when its socket closes; if it
    /// can't, because it was killed or stopped, we do.
    fn drop(&mut self) {
        self.stopper()();
        let _ = self.wait_at_most(Some(Duration::ZERO));
        self.kill_all();
    }
}
