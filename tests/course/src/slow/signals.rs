//! Signals: calls that send, block and read them, and what their delivery does.

use harness::procfs::has_signal;
use harness::tracee;
use nix::libc;
use nix::sys::signal::Signal;

use super::pids::{Caller, Pids};
use super::words::{Described, signal_name};

/// Describes a call to kill(2).
pub(super) fn kill(caller: &Caller, target: i32, signal: u64, pids: &mut Pids) -> Described {
    let (who, signal) = (&caller.name, signal_name(signal));
    let number = match target {
        1.. => pids.seen_by(caller, target),
        _ => target.to_string(),
    };
    let whom = match target {
        1.. => format!("process {number}"),
        0 => "every process in its own process group".to_owned(),
        -1 => "every process that it can see".to_owned(),
        _ => format!("every process in the process group {}", -i64::from(target)),
    };
    Described::new(format!("kill({number}, {signal})"), format!("{who} sends {signal} to {whom}."))
}

/// The signals that have a name, as a mask. Whenever glibc creates a process, it blocks every signal there is, and
/// those calls are its own.
const NAMED: u64 = (1 << 31) - 1;
/// SIGKILL and SIGSTOP, which the kernel leaves out of every mask.
const UNBLOCKABLE: u64 = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// Describes a call that changes the signal mask. Returns `None` if glibc makes the call for itself.
pub(super) fn sigprocmask(caller: &Caller, how: u64, set: u64) -> Option<Described> {
    let mask = (set != 0).then(|| tracee::word(caller.pid, set))??;
    let (how, verb, effect) = match how as i32 {
        libc::SIG_BLOCK => {
            ("SIG_BLOCK", "blocks", "A blocked signal remains pending until it's read.")
        }
        libc::SIG_UNBLOCK => {
            ("SIG_UNBLOCK", "unblocks", "If a signal is pending, it takes effect now.")
        }
        _ => return None,
    };
    let names: Vec<_> =
        (1..=31).filter(|number| mask >> (number - 1) & 1 != 0).map(signal_name).collect();
    let (set, what) = match &names[..] {
        _ if mask == u64::MAX => return None,
        [] => return None,
        few @ ([_] | [_, _] | [_, _, _]) if mask & !NAMED == 0 => (few.join(", "), few.join(", ")),
        [first, second, ..] if (mask | UNBLOCKABLE) & NAMED == NAMED => {
            (format!("{first}, {second}, ..."), "every signal with a name".to_owned())
        }
        several => {
            let count = (mask & !UNBLOCKABLE).count_ones();
            (format!("{}, ...", several[0]), format!("{count} signals"))
        }
    };
    let set = format!("[{set}]");
    let sentence = format!("{} {verb} {what}. {effect}", caller.name);
    Some(Described::new(format!("rt_sigprocmask({how}, {set})"), sentence))
}

/// Describes a read(2) from a signalfd. Returns `None` if it reads another file.
pub(super) fn read(caller: &Caller, descriptor: u64) -> Option<Described> {
    let is_signalfd = tracee::file(caller.pid, descriptor)? == "anon_inode:[signalfd]";
    let sentence = if tracee::is_nonblocking(caller.pid, descriptor) {
        format!("{} reads the next signal, if one is pending.", caller.name)
    } else {
        format!("{} waits for the next signal, and reads it.", caller.name)
    };
    is_signalfd.then(|| Described::new("read(<signalfd>)", sentence))
}

/// Describes a call that waits for a signal.
pub(super) fn sigwait(caller: &Caller, set: u64) -> Option<Described> {
    let mask = tracee::word(caller.pid, set)?;
    let signals = match mask.count_ones() {
        1 => signal_name(u64::from(mask.trailing_zeros()) + 1),
        _ => "a signal".to_owned(),
    };
    let sentence = format!("{} waits until {signals} is pending, and reads it.", caller.name);
    Some(Described::new(format!("rt_sigtimedwait([{signals}])"), sentence))
}

/// Says what becomes of a signal that we sent. For a SIGCHLD without a handler, no other frame does.
pub(super) fn sent(caller: &Caller, signal: Signal) -> String {
    let is_in = |field: &str| has_signal(caller.pid.as_raw(), field, signal);
    if signal == Signal::SIGCHLD && !is_in("SigCgt") && !is_in("SigBlk") {
        return format!("{} has no handler for it, so the kernel discards it.", caller.name);
    }
    "The signal is on its way.".to_owned()
}

/// Describes a signal that is about to be delivered.
pub(super) fn signal(caller: &Caller, signal: Signal) -> Described {
    let who = &caller.name;
    let is_in = |field: &str| has_signal(caller.pid.as_raw(), field, signal);
    let sentence = match signal {
        Signal::SIGKILL => format!("{who} can't do anything about it."),
        _ if is_in("SigCgt") => format!("{who} has a handler for it, which runs now."),
        _ if is_in("SigIgn") => format!("{who} ignores it, so the kernel discards it."),
        Signal::SIGURG | Signal::SIGWINCH | Signal::SIGCONT => {
            format!("{who} has no handler for it, so the kernel discards it.")
        }
        _ if caller.is_pid_1() => {
            format!("{who} is PID 1 and has no handler for it, so the kernel discards it.")
        }
        Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => {
            format!("The signal stops {who}, but slow motion resumes {who} at once.")
        }
        _ => format!("{who} has no handler for it, so the signal kills {who}."),
    };
    Described::new(signal.as_str(), sentence)
}
