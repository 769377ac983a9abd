//! Runs a program under ptrace(2), from one system call to the next.
//!
//! At any moment only one process runs: the oldest of those that can. A process that sleeps in a call can't. So
//! the same program gives the same order of events in every run.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::helper_path::helper_command;
use crate::procfs::Stat;
use crate::tracee::{self, SystemCall};

/// How often we look whether a call sleeps or returns.
const INTERVAL: Duration = Duration::from_micros(100);

/// An event of a process. PIDs are those of the calling process's PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is about to make a system call.
    Enter(Pid, SystemCall),
    /// A system call returned a value, or minus an errno.
    Return(Pid, SystemCall, i64),
    /// A system call created a child, the last PID, and returns later.
    Created(Pid, SystemCall, Pid),
    /// A signal is about to be delivered.
    Signal(Pid, Signal),
    /// It exited with this status.
    Exited(Pid, i32),
    /// This signal killed it.
    Killed(Pid, Signal),
    /// Every process sleeps in a call. Only something from outside can wake one.
    AllSleep,
}

/// The state of a process, which is stopped unless it sleeps in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In its own code.
    Ready,
    /// On its way into a call.
    Entering(SystemCall),
    /// In a call that lasts until another process does something.
    Asleep(SystemCall),
    /// In vfork(2), until its child starts a program or exits.
    Vforking(SystemCall),
}

struct Tracee {
    pid: Pid,
    state: State,
    /// The signal to deliver when the process continues.
    signal: Option<Signal>,
}

/// A program under ptrace(2), with every process that it creates. All of them die when this is dropped.
pub struct Stepper {
    first: Pid,
    /// In the order in which they were created.
    tracees: Vec<Tracee>,
    /// Zombies that the last event left. Their parents don't know yet.
    dead: Vec<Pid>,
    idle: bool,
}

impl Stepper {
    /// Starts `name arg…` in its own session, and stops it before its first instruction. With
    /// `user`, its uid and gid are that number. `prepare` can set the standard streams and the environment.
    ///
    /// # Errors
    /// ptrace(2) isn't allowed, or the program can't be started.
    pub fn start(
        program: &Path,
        name: &str,
        args: &[OsString],
        user: Option<u32>,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        // The helper stops itself. Once we are attached to it, it becomes the program.
        let mut helper = helper_command()?;
        let user = user.map_or(String::new(), |user| user.to_string());
        helper.arg("stopped").arg(user).arg(program).arg(name).args(args);
        prepare(&mut helper);
        let child = helper.spawn().context("start the helper")?;
        let first = Pid::from_raw(child.id().cast_signed());
        let tracees = vec![Tracee { pid: first, state: State::Ready, signal: None }];
        let mut stepper = Stepper { first, tracees, dead: Vec::new(), idle: false };
        waitpid(first, Some(WaitPidFlag::WUNTRACED)).context("waitpid")?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, options).context("ptrace(PTRACE_SEIZE)")?;
        kill(first, Signal::SIGCONT).context("kill(SIGCONT)")?;
        wait(first)?;
        loop {
            match stepper.next_event()? {
                Some(Event::Return(_, call, 0)) if call.number == libc::SYS_execve => break,
                Some(_) => {}
                None => return Err(Error::new(format!("{} can't be started", program.display()))),
            }
        }
        Ok(stepper)
    }

    /// Returns the PID of the program itself.
    pub fn pid(&self) -> Pid {
        self.first
    }

    /// Waits until every process that the last event woke has stopped. Then /proc shows the same in every run.
    pub fn settle(&self) {
        let in_call =
            |tracee: &&Tracee| matches!(tracee.state, State::Asleep(_) | State::Vforking(_));
        for tracee in self.tracees.iter().filter(in_call) {
            while !tracee.is_asleep() && matches!(tracee.state_in_proc(), Some('R' | 'D')) {
                sleep(INTERVAL);
            }
        }
    }

    /// Lets the processes go on until something happens. Returns None once every process is gone.
    ///
    /// # Errors
    /// ptrace(2) or waitpid(2) failed.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        self.dead.drain(..).for_each(tracee::reap);
        while !self.tracees.is_empty() {
            let Some(status) = self.next_status()? else {
                if !self.idle {
                    self.idle = true;
                    return Ok(Some(Event::AllSleep));
                }
                // Wait for anything, and leave it in place.
                let any = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
                let _ = waitid(Id::All, any | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD);
                continue;
            };
            self.idle = false;
            if let Some(event) = self.handle(status)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Continues the next process, and returns why it stopped. Returns `None` if every process sleeps.
    fn next_status(&mut self) -> Result<Option<WaitStatus>> {
        // A call that has begun comes first, so that it returns before anything else happens.
        let entering = |tracee: &Tracee| matches!(tracee.state, State::Entering(_));
        let first = self.tracees.iter().position(entering);
        for index in first.into_iter().chain(0..self.tracees.len()) {
            let tracee = &mut self.tracees[index];
            match tracee.state {
                State::Ready => {
                    resume(tracee.pid, tracee.signal.take())?;
                    return wait(tracee.pid).map(Some);
                }
                State::Entering(call) if tracee::may_sleep(call) => {
                    resume(tracee.pid, None)?;
                    tracee.state = State::Asleep(call);
                }
                State::Entering(_) => {
                    resume(tracee.pid, None)?;
                    return wait(tracee.pid).map(Some);
                }
                State::Asleep(_) | State::Vforking(_) => {}
            }
            if let Some(status) = tracee.wait_unless_asleep()? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    fn tracee(&mut self, pid: Pid) -> &mut Tracee {
        let index = self.tracees.iter().position(|tracee| tracee.pid == pid);
        let index = index.unwrap_or_else(|| {
            self.tracees.push(Tracee { pid, state: State::Ready, signal: None });
            self.tracees.len() - 1
        });
        &mut self.tracees[index]
    }

    fn bury(&mut self, pid: Pid) {
        self.tracees.retain(|tracee| tracee.pid != pid);
        self.dead.push(pid);
    }

    fn handle(&mut self, status: WaitStatus) -> Result<Option<Event>> {
        let Some(pid) = status.pid() else { return Ok(None) };
        let tracee = self.tracee(pid);
        match status {
            WaitStatus::PtraceSyscall(_) => {
                let (call, value) = tracee::registers(pid)?;
                let (state, event) = match tracee.state {
                    State::Ready => (State::Entering(call), Event::Enter(pid, call)),
                    // The first argument's register may hold the result by now.
                    State::Entering(call) | State::Asleep(call) | State::Vforking(call) => {
                        (State::Ready, Event::Return(pid, call, value))
                    }
                };
                tracee.state = state;
                Ok(Some(event))
            }
            WaitStatus::PtraceEvent(_, _, kind) => self.handle_ptrace_event(pid, kind),
            WaitStatus::Stopped(_, signal) => {
                tracee.state = State::Ready;
                tracee.signal = Some(signal);
                Ok(Some(Event::Signal(pid, signal)))
            }
            WaitStatus::Exited(_, code) => {
                self.bury(pid);
                Ok(Some(Event::Exited(pid, code)))
            }
            WaitStatus::Signaled(_, signal, _) => {
                self.bury(pid);
                Ok(Some(Event::Killed(pid, signal)))
            }
            _ => Ok(None),
        }
    }

    fn handle_ptrace_event(&mut self, pid: Pid, kind: i32) -> Result<Option<Event>> {
        match (kind, self.tracee(pid).state) {
            (
                libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE,
                State::Entering(call) | State::Asleep(call),
            ) => {
                let child = ptrace::getevent(pid).context("ptrace(PTRACE_GETEVENTMSG)")?;
                let child = Pid::from_raw(i32::try_from(child).unwrap_or(0));
                // ptrace(2) attaches to the child automatically, and stops it before its first instruction.
                self.tracee(child);
                let born = wait(child)?;
                if matches!(born, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                    self.bury(child);
                }
                let tracee = self.tracee(pid);
                tracee.state = State::Entering(call);
                if kind == libc::PTRACE_EVENT_VFORK {
                    resume(pid, None)?;
                    tracee.state = State::Vforking(call);
                }
                Ok(Some(Event::Created(pid, call, child)))
            }
            (libc::PTRACE_EVENT_EXEC, _) => {
                // Take the return first, because in vfork(2) its creator wakes up at this moment, too.
                resume(pid, None)?;
                let status = wait(pid)?;
                self.handle(status)
            }
            // PTRACE_EVENT_STOP: a signal stopped it, or SIGCONT woke it. We can't keep it stopped.
            _ => Ok(None),
        }
    }
}

impl Tracee {
    /// Waits until the process stops, and returns why. Returns `None` if it sleeps.
    fn wait_unless_asleep(&self) -> Result<Option<WaitStatus>> {
        loop {
            match tracee::wait(self.pid, WaitPidFlag::WNOHANG)? {
                WaitStatus::StillAlive => {}
                status => return Ok(Some(status)),
            }
            if self.is_asleep() {
                return Ok(None);
            }
            sleep(INTERVAL);
        }
    }

    /// Whether it sleeps. If not, it's stopped, or on its way to sleep or to a stop.
    fn is_asleep(&self) -> bool {
        // State S also includes a process that still runs. It may be about to sleep, or just have woken up and be on its
        // way to a stop. So look at the state once it's off the processor.
        let is_running = tracee::is_running(self.pid);
        match self.state_in_proc() {
            Some('S') => !is_running,
            Some('D') => matches!(self.state, State::Vforking(_)),
            _ => false,
        }
    }

    fn state_in_proc(&self) -> Option<char> {
        Stat::of(self.pid.as_raw()).map(|stat| stat.state)
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        self.dead.drain(..).for_each(tracee::reap);
        for tracee in &self.tracees {
            let _ = kill(tracee.pid, Signal::SIGKILL);
        }
        let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while !self.tracees.is_empty() {
            match waitpid(None, Some(any)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.tracees.retain(|tracee| tracee.pid != pid);
                }
                // A child that was created in the last moment.
                Ok(status) => drop(status.pid().map(|pid| kill(pid, Signal::SIGKILL))),
                Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(_) => return,
            }
        }
    }
}

fn resume(pid: Pid, signal: Option<Signal>) -> Result {
    match ptrace::syscall(pid, signal) {
        // SIGKILL came, and the process can't be resumed. Its death is the next event.
        Err(Errno::ESRCH) => Ok(()),
        result => result.context("ptrace(PTRACE_SYSCALL)"),
    }
}

fn wait(pid: Pid) -> Result<WaitStatus> {
    tracee::wait(pid, WaitPidFlag::empty())
}
