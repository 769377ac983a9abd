//! System calls of a process under ptrace(2), and the memory that their arguments point to.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::procfs::Stat;

/// The longest string or list that is read from a process's memory, in bytes and in words.
const LONGEST: usize = 4096;

/// A system call as the kernel gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number, one of `libc::SYS_…`.
    pub number: i64,
    /// Its arguments: numbers, or addresses in the caller's memory.
    pub args: [u64; 6],
}

impl SystemCall {
    /// Whether the caller asks for a signal at its parent's death.
    pub fn asks_for_parent_death(&self) -> bool {
        let option = u64::from(libc::PR_SET_PDEATHSIG.cast_unsigned());
        self.number == libc::SYS_prctl && self.args[0] == option
    }
}

/// Reads the call that a process is in, and what it returned if it did.
#[cfg(target_arch = "x86_64")]
pub(crate) fn registers(pid: Pid) -> Result<(SystemCall, i64)> {
    let regs = ptrace::getregs(pid).context("ptrace(PTRACE_GETREGS)")?;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Ok((SystemCall { number: regs.orig_rax.cast_signed(), args }, regs.rax.cast_signed()))
}

/// Reads the call that a process is in, and what it returned if it did.
#[cfg(target_arch = "aarch64")]
pub(crate) fn registers(pid: Pid) -> Result<(SystemCall, i64)> {
    let regs = ptrace::getregs(pid).context("ptrace(PTRACE_GETREGSET)")?.regs;
    let args = [regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]];
    Ok((SystemCall { number: regs[8].cast_signed(), args }, regs[0].cast_signed()))
}

/// Says that we don't know this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn registers(_: Pid) -> Result<(SystemCall, i64)> {
    Err(crate::error::Error::new("slow motion knows the registers of x86-64 and aarch64 only"))
}

/// Waits until a process stops or dies. With WNOHANG, it may do neither. A dead process stays a zombie, and its parent
/// learns of the death only after [`reap`] (ptrace(2)).
pub(crate) fn wait(pid: Pid, flags: WaitPidFlag) -> Result<WaitStatus> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(pid), flags | look | WaitPidFlag::__WALL) {
            Err(Errno::EINTR) => continue,
            // nix has no name for a real-time signal. Without one we can't deliver it.
            Err(Errno::EINVAL) if is_zombie(pid) => {
                return Ok(WaitStatus::Signaled(pid, Signal::SIGKILL, false));
            }
            Err(Errno::EINVAL) => {}
            result => match result.context("waitid")? {
                WaitStatus::StillAlive => return Ok(WaitStatus::StillAlive),
                dead @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(dead),
                _ => {}
            },
        }
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            Err(Errno::EINVAL) => {
                return Ok(WaitStatus::PtraceEvent(pid, Signal::SIGTRAP, libc::PTRACE_EVENT_STOP));
            }
            result => return result.context("waitpid"),
        }
    }
}

fn is_zombie(pid: Pid) -> bool {
    Stat::of(pid.as_raw()).is_none_or(|stat| stat.state == 'Z')
}

/// Lets the parent of a dead process learn of the death.
pub(crate) fn reap(pid: Pid) {
    while waitpid(pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
}

/// Whether a call can last until another process does something.
pub(crate) fn may_sleep(call: SystemCall) -> bool {
    #[cfg(target_arch = "x86_64")]
    let old = [libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pause];
    #[cfg(not(target_arch = "x86_64"))]
    let old: [i64; 0] = [];
    let new = [
        // PID 1 exits after every other process in its PID namespace.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_wait4,
        libc::SYS_waitid,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_openat,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_epoll_pwait,
        libc::SYS_futex,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_rt_sigsuspend,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_connect,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_flock,
        libc::SYS_fcntl,
    ];
    let no_hang = libc::WNOHANG as u64;
    match call.number {
        libc::SYS_wait4 if call.args[2] & no_hang != 0 => return false,
        libc::SYS_waitid if call.args[3] & no_hang != 0 => return false,
        _ => {}
    }
    new.contains(&call.number) || old.contains(&call.number)
}

/// Whether a process is on a processor, or would be if one were free.
pub(crate) fn is_running(pid: Pid) -> bool {
    // The kernel waits until it's off, and then says where it sleeps.
    fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("running"))
}

/// Returns what a process's file descriptor is open on: a path, or for example `pipe:[4711]`.
pub fn file(pid: Pid, descriptor: u64) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether a read from a process's file descriptor returns at once, with `EAGAIN` if there's nothing.
pub fn is_nonblocking(pid: Pid, descriptor: u64) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_NONBLOCK != 0
}

/// Reads `length` bytes from a process's memory.
pub fn bytes(pid: Pid, address: u64, length: usize) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; length.min(LONGEST)];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

/// Reads a number of four bytes.
pub fn int(pid: Pid, address: u64) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes(pid, address, 4)?.try_into().ok()?))
}

/// Reads a number of eight bytes.
pub fn word(pid: Pid, address: u64) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes(pid, address, 8)?.try_into().ok()?))
}

/// Reads a string, up to its null byte.
pub fn string(pid: Pid, address: u64) -> Option<OsString> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 64];
    while bytes.len() < LONGEST {
        let read = memory.read_at(&mut chunk, address + bytes.len() as u64).ok()?;
        let end = chunk[..read].iter().position(|byte| *byte == 0);
        bytes.extend(&chunk[..end.unwrap_or(read)]);
        if end.is_some() || read == 0 {
            break;
        }
    }
    Some(OsString::from_vec(bytes))
}

/// Reads a list of strings that ends with a null pointer, as execve(2) takes it.
pub fn strings(pid: Pid, address: u64) -> Vec<OsString> {
    let words = (0..LONGEST as u64).map_while(|index| word(pid, address + 8 * index));
    words.take_while(|word| *word != 0).map_while(|word| string(pid, word)).collect()
}
