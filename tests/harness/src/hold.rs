//! Holds a process still at a moment that comes too quickly to be caught from outside.

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::{procfs, tracee};

/// A process under ptrace(2) that stands still. It goes on when this is dropped, by the thread that created it.
#[derive(Debug)]
pub struct Held(Pid);

impl Held {
    /// Holds a process wherever it is.
    ///
    /// # Errors
    /// ptrace(2) isn't allowed, or the process exits first.
    pub fn at_once(pid: i32) -> Result<Self> {
        let (held, _) = Held::seize(Pid::from_raw(pid), Options::empty())?;
        Ok(held)
    }

    /// Holds a process after it has created a child, and before the call in which it waits for a signal or for that
    /// child. The child isn't held. The process has to wait for something that `begin` does.
    ///
    /// # Errors
    /// ptrace(2) isn't allowed, or the process exits first.
    pub fn before_it_waits(pid: i32, begin: impl FnOnce()) -> Result<Self> {
        let pid = Pid::from_raw(pid);
        let (held, mut signal) = Held::seize(pid, Options::PTRACE_O_TRACESYSGOOD)?;
        begin();
        while !waits(pid)? || procfs::descendants(pid.as_raw())?.is_empty() {
            ptrace::syscall(pid, signal).context("ptrace(PTRACE_SYSCALL)")?;
            signal = held.wait()?;
        }
        Ok(held)
    }

    /// Stops the process wherever it is. Also returns the signal to deliver when it continues, if any.
    fn seize(pid: Pid, options: Options) -> Result<(Self, Option<Signal>)> {
        ptrace::seize(pid, options).context("ptrace(PTRACE_SEIZE)")?;
        let held = Held(pid);
        ptrace::interrupt(pid).context("ptrace(PTRACE_INTERRUPT)")?;
        let signal = held.wait()?;
        Ok((held, signal))
    }

    /// Waits until the process has stopped. Returns the signal to deliver when it continues, if any.
    fn wait(&self) -> Result<Option<Signal>> {
        match tracee::wait(self.0, WaitPidFlag::empty())? {
            WaitStatus::Stopped(_, signal) => Ok(Some(signal)),
            WaitStatus::PtraceSyscall(_) | WaitStatus::PtraceEvent(..) => Ok(None),
            status => Err(Error::new(format!("it didn't wait: {status:?}"))),
        }
    }
}

/// Whether a process is in a call that lasts until a signal comes or a child dies. A read from a pipe can wait for a
/// child, too, but std does that only until the child has executed its program.
fn waits(pid: Pid) -> Result<bool> {
    let (call, _) = tracee::registers(pid)?;
    let descriptor = call.args[0];
    Ok(match call.number {
        libc::SYS_read => {
            let file = tracee::file(pid, descriptor);
            let signals = file.is_some_and(|file| file.ends_with("[signalfd]"));
            signals && !tracee::is_nonblocking(pid, descriptor)
        }
        libc::SYS_wait4
        | libc::SYS_waitid
        | libc::SYS_ppoll
        | libc::SYS_pselect6
        | libc::SYS_epoll_pwait
        | libc::SYS_rt_sigsuspend
        | libc::SYS_rt_sigtimedwait => tracee::may_sleep(call),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll | libc::SYS_select | libc::SYS_epoll_wait | libc::SYS_pause => true,
        _ => false,
    })
}

impl Drop for Held {
    fn drop(&mut self) {
        // Detaching fails if the process was killed. As the tracer, we have to reap it before its parent can.
        if ptrace::detach(self.0, None).is_err() {
            let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
        }
    }
}
