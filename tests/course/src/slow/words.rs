//! System calls, their arguments, and their results, in words.

use std::ffi::OsStr;

use harness::tracee::{self, SystemCall};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::pids::{Caller, Pids};

/// Names flags, in the order in which they're written.
macro_rules! names {
    ($($name:ident)*) => { [$((libc::$name as u64, stringify!($name))),*] };
}
pub(super) use names;

/// A call in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The call as in the manual: `unshare(CLONE_NEWPID)`.
    pub call: String,
    /// One sentence on what it will do.
    pub sentence: String,
    /// Whether the same process makes many calls like this one, which are a frame only if they fail.
    pub is_repetition: bool,
}

impl Described {
    pub(super) fn new(call: impl Into<String>, sentence: impl Into<String>) -> Self {
        Described { call: call.into(), sentence: sentence.into(), is_repetition: false }
    }
}

/// Writes a string as in C.
pub(super) fn quoted(text: &OsStr) -> String {
    format!("{:?}", text.to_string_lossy())
}

/// Reads a string from a process's memory, and writes it as in C.
pub(super) fn quoted_string(pid: Pid, address: u64) -> String {
    if address == 0 {
        return "NULL".to_owned();
    }
    quoted(&tracee::string(pid, address).unwrap_or_default())
}

/// Writes the flags that are set, or `empty`.
pub(super) fn flags(bits: u64, names: &[(u64, &str)], empty: &str) -> String {
    let set: Vec<_> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { empty.to_owned() } else { set.join("|") }
}

/// Returns a signal's name, or its number if it has none.
pub(super) fn signal_name(number: u64) -> String {
    let signal = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    signal.map_or_else(|| number.to_string(), |signal| signal.to_string())
}

/// Whether a call returned one of the kernel's own codes for a call that it restarts.
pub(super) fn is_restarted(value: i64) -> bool {
    (512..=516).contains(&-value)
}

/// Says what a call returned: a value, or an error.
pub(super) fn result(caller: &Caller, call: SystemCall, value: i64, pids: &mut Pids) -> String {
    if is_restarted(value) {
        return "A signal interrupted it. If the signal has no effect, the kernel restarts it."
            .to_owned();
    }
    if let Ok(number @ 1..=4095) = i32::try_from(-value) {
        let errno = Errno::from_raw(number);
        return format!("= -1 {errno:?} ({})", errno.desc());
    }
    let pid = |pids: &mut Pids, pid: i32| pids.seen_by(caller, pid);
    let [_, second, third, fourth, ..] = call.args;
    match call.number {
        libc::SYS_wait4 if value == 0 && call.args[0] as i32 > 0 => {
            "= 0: the child hasn't died".to_owned()
        }
        libc::SYS_wait4 if value == 0 => "= 0: no child has died".to_owned(),
        libc::SYS_wait4 => {
            let child = pid(pids, value as i32);
            let status = tracee::int(caller.pid, second).map(status).unwrap_or_default();
            format!("= {child}{status}")
        }
        libc::SYS_waitid => match tracee::int(caller.pid, third + 16).filter(|_| third != 0) {
            None => "= 0".to_owned(),
            Some(0) => "= 0: there's none".to_owned(),
            Some(child) => {
                // A stopped process isn't reaped: its code is CLD_STOPPED.
                let is_dead = tracee::int(caller.pid, third + 8)
                    .is_some_and(|code| (libc::CLD_EXITED..=libc::CLD_DUMPED).contains(&code));
                let is_kept = fourth & u64::from(libc::WNOWAIT.cast_unsigned()) != 0;
                let more = if is_dead && !is_kept { REAPED } else { "" };
                format!("= 0: process {}{more}", pid(pids, child))
            }
        },
        libc::SYS_read => {
            let field = |offset| tracee::int(caller.pid, second + offset).unwrap_or(0);
            let (signal, code, sender) = (field(0), field(8), field(12));
            let signal = signal_name(u64::from(signal.cast_unsigned()));
            // A code of 0 is SI_USER: kill(2). A sender of 0 has no PID in the reader's PID namespace.
            let whose = match (code, sender) {
                (0, _)
                    if sender.cast_unsigned() == std::process::id() && caller.inside.is_none() =>
                {
                    "from you".to_owned()
                }
                (0, 0) => "from outside".to_owned(),
                (0, sender) => format!("from process {}", pid(pids, sender)),
                (1..=6, sender) if signal == "SIGCHLD" => {
                    format!("about process {}", pid(pids, sender))
                }
                _ => "from the kernel".to_owned(),
            };
            format!("= {value} bytes: {signal}, {whose}")
        }
        // The length depends on the ID or the uptime that is written.
        libc::SYS_write if pids.0.is_some() && value != 4 => "= LENGTH".to_owned(),
        libc::SYS_clone | libc::SYS_clone3 => created(pids, caller, value),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork | libc::SYS_vfork => created(pids, caller, value),
        _ => format!("= {value}"),
    }
}

fn created(pids: &mut Pids, caller: &Caller, value: i64) -> String {
    format!("= {}, the child's PID", pids.seen_by(caller, value as i32))
}

const REAPED: &str = ". The call has reaped it.";

/// Says how a process died, from the status that wait4(2) gives.
fn status(status: i32) -> String {
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, code) => format!(", which exited with status {code}{REAPED}"),
        (0x7f, signal) => {
            format!(", which {} stopped", signal_name(u64::from(signal.cast_unsigned())))
        }
        (signal, _) => {
            let signal = signal_name(u64::from(signal.cast_unsigned()));
            format!(", which {signal} killed{REAPED}")
        }
    }
}
