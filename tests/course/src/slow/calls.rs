//! The system calls of the lessons: how a reader would write them, and what each is about to do.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use harness::procfs::has_signal;
use harness::tracee::{self, SystemCall};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::pids::{Caller, Pids};
use super::words::{flags, quoted, quoted_string, signal_name};

/// Names flags, in the order in which they're written.
macro_rules! names {
    ($($name:ident)*) => { [$((libc::$name as u64, stringify!($name))),*] };
}

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

/// Describes a call that a process is about to make. None: it isn't part of a lesson.
pub(super) fn describe(caller: &Caller, call: SystemCall, pids: &mut Pids) -> Option<Described> {
    // Of the command we show what creates, replaces and ends processes, and what signals them.
    let (pid, who) = (caller.pid, &caller.name);
    let [first, second, third, fourth, ..] = call.args;
    Some(match call.number {
        libc::SYS_execve => execve(caller, first, second),
        libc::SYS_clone3 => clone("clone3", tracee::word(pid, first)?, who)?,
        libc::SYS_clone => clone("clone", first, who)?,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork => clone("fork", 0, who)?,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork => clone("vfork", libc::CLONE_VFORK as u64, who)?,
        libc::SYS_wait4 => wait4(caller, int(first), third, pids),
        libc::SYS_waitid => waitid(caller, first, int(second), fourth, pids),
        libc::SYS_kill => kill(caller, int(first), second, pids),
        libc::SYS_exit_group => exit(caller, first),
        _ if caller.is_command => return None,
        libc::SYS_unshare => unshare(first, who),
        libc::SYS_mount => mount(caller, [first, second, third, fourth]),
        libc::SYS_write => write(caller, first, second, third, pids)?,
        libc::SYS_prctl => prctl(first, second, who)?,
        libc::SYS_setpgid => setpgid(int(first), int(second), who),
        libc::SYS_rt_sigprocmask => sigprocmask(caller, first, second)?,
        libc::SYS_read => read(caller, first)?,
        libc::SYS_rt_sigtimedwait => sigwait(caller, first)?,
        _ => return None,
    })
}

/// A PID or a status is 32 bits wide, also in a register of 64.
fn int(register: u64) -> i32 {
    register as i32
}

fn execve(caller: &Caller, path: u64, argv: u64) -> Described {
    let path = tracee::string(caller.pid, path).unwrap_or_default();
    let argv = tracee::strings(caller.pid, argv);
    let words: Vec<_> = argv.iter().map(|word| quoted(word)).collect();
    let who = &caller.name;
    let sentence = match argv.get(1).and_then(|word| word.to_str()) {
        Some("init") if path == "/proc/self/exe" => {
            format!("{who} starts our program again, this time as init.")
        }
        Some("exec") if path == "/proc/self/exe" => {
            format!("{who} starts our program a third time, to become the command.")
        }
        _ if is_try(caller.pid, &path, &argv) => {
            format!("{who} tries one directory of PATH after another. This file doesn't exist.")
        }
        _ => format!("{who} becomes this program, and keeps its PID."),
    };
    let call = format!("execve({}, [{}])", quoted(&path), words.join(", "));
    let is_repetition = is_try(caller.pid, &path, &argv) && !is_first_in_path(caller.pid, &path);
    Described { call, sentence, is_repetition }
}

/// Whether this looks for a command in a directory that hasn't got it.
fn is_try(pid: Pid, path: &OsStr, argv: &[OsString]) -> bool {
    let has_slash = |word: &OsString| word.as_encoded_bytes().contains(&b'/');
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let file = root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)));
    Path::new(path).is_absolute() && !argv.first().is_none_or(has_slash) && !file.exists()
}

fn is_first_in_path(pid: Pid, path: &OsStr) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"PATH="));
    let first = value.and_then(|value| value.split(|byte| *byte == b':').next());
    first.is_some_and(|first| Path::new(path).parent() == Some(Path::new(OsStr::from_bytes(first))))
}

/// The flags of unshare(2) that the lessons are about, with what each one creates.
const NAMESPACES: [(i32, &str, &str); 5] = [
    (libc::CLONE_NEWUSER, "CLONE_NEWUSER", "a user namespace, in which it has every capability"),
    (libc::CLONE_NEWPID, "CLONE_NEWPID", "a PID namespace for its future children"),
    (libc::CLONE_NEWNS, "CLONE_NEWNS", "its own mount namespace, with a copy of every mount"),
    (libc::CLONE_NEWTIME, "CLONE_NEWTIME", "a time namespace for its future children"),
    (libc::CLONE_NEWUTS, "CLONE_NEWUTS", "its own hostname"),
];

fn unshare(bits: u64, who: &str) -> Described {
    let set: Vec<_> =
        NAMESPACES.iter().filter(|(bit, ..)| bits & u64::from(bit.cast_unsigned()) != 0).collect();
    let names: Vec<_> = set.iter().map(|(_, name, _)| *name).collect();
    let gifts: Vec<_> = set.iter().map(|(.., gift)| *gift).collect();
    let names = if names.is_empty() { "0".to_owned() } else { names.join("|") };
    let gifts = if gifts.is_empty() { "nothing".to_owned() } else { gifts.join(", and ") };
    Described::new(format!("unshare({names})"), format!("{who} asks for {gifts}."))
}

fn clone(name: &str, bits: u64, who: &str) -> Option<Described> {
    const THREAD: u64 = libc::CLONE_THREAD as u64;
    const FLAGS: [(u64, &str); 2] = names![CLONE_VM CLONE_VFORK];
    if bits & THREAD != 0 {
        return None;
    }
    let is_vfork = bits & libc::CLONE_VFORK as u64 != 0;
    let arguments =
        if name.ends_with("fork") { String::new() } else { flags(bits, &FLAGS, "SIGCHLD") };
    let sentence = if is_vfork {
        format!("{who} creates a child, and waits until the child has started a program.")
    } else {
        format!("{who} creates a child, which is a copy of {who}.")
    };
    Some(Described::new(format!("{name}({arguments})"), sentence))
}

const MOUNT_FLAGS: [(u64, &str); 8] = names![
    MS_BIND MS_REMOUNT MS_RDONLY MS_REC MS_PRIVATE MS_NOSUID MS_NODEV MS_NOEXEC
];

/// Of the paths that a step masks one by one, those that stand for the others: which of the others there are
/// depends on the kernel.
const EXAMPLES: [&str; 3] = ["/proc/keys", "/sys/firmware", "/proc/sys"];

fn mount(caller: &Caller, [source, target, kind, bits]: [u64; 4]) -> Described {
    let text = |address| quoted_string(caller.pid, address);
    let path =
        tracee::string(caller.pid, target).unwrap_or_default().to_string_lossy().into_owned();
    let (from, to, kind) = (text(source), text(target), text(kind));
    let who = &caller.name;
    let sentence = if bits & libc::MS_PRIVATE != 0 {
        "From now on, mounts don't propagate between the host and the container.".to_owned()
    } else if bits & libc::MS_REMOUNT != 0 {
        format!("{who} makes the mount at {path} read-only.")
    } else if bits & libc::MS_BIND != 0 && from == to {
        format!("{who} mounts {path} over itself, because only a mount can be read-only.")
    } else if bits & libc::MS_BIND != 0 {
        format!("{who} covers {path} with /dev/null, which works only for files.")
    } else if kind == "\"proc\"" {
        format!("{who} mounts a new /proc, which shows the PID namespace of {who}.")
    } else {
        format!("{who} covers the directory {path} with an empty filesystem.")
    };
    let stands_for_others = bits & libc::MS_BIND != 0 && EXAMPLES.contains(&&*path);
    let more = if stands_for_others { " The same call for other paths isn't shown." } else { "" };
    let sentence = sentence + more;
    let call = format!("mount({from}, {to}, {kind}, {})", flags(bits, &MOUNT_FLAGS, "0"));
    let is_first = bits & libc::MS_PRIVATE != 0 || kind == "\"proc\"";
    let is_repetition = !is_first && !EXAMPLES.contains(&&*path);
    Described { call, sentence, is_repetition }
}

fn write(
    caller: &Caller,
    descriptor: u64,
    address: u64,
    length: u64,
    pids: &mut Pids,
) -> Option<Described> {
    let who = &caller.name;
    let file = tracee::file(caller.pid, descriptor).filter(|path| path.starts_with("/proc/"))?;
    let name = file.rsplit('/').next()?;
    let sentence = match name {
        "setgroups" => {
            format!("{who} gives up setgroups(2). The kernel accepts a gid_map only after that.")
        }
        "uid_map" => format!("{who} maps its user ID to 0, so it's root inside."),
        "gid_map" => format!("{who} maps its group ID to 0, so it's in root's group inside."),
        "timens_offsets" => {
            format!("{who} sets the time since boot back to zero for its children.")
        }
        _ => return None,
    };
    let text = tracee::bytes(caller.pid, address, usize::try_from(length).ok()?)?;
    let text = pids.redact_file(name, String::from_utf8_lossy(&text).trim_end());
    Some(Described::new(format!("write(</proc/self/{name}>, {text:?})"), sentence))
}

fn prctl(option: u64, argument: u64, who: &str) -> Option<Described> {
    let signal = signal_name(argument);
    (option == u64::from(libc::PR_SET_PDEATHSIG.cast_unsigned())).then(|| {
        let sentence =
            format!("{who} asks the kernel to send it {signal} as soon as its parent dies.");
        Described::new(format!("prctl(PR_SET_PDEATHSIG, {signal})"), sentence)
    })
}

const WAIT_FLAGS: [(u64, &str); 4] = names![WNOHANG WEXITED WSTOPPED WNOWAIT];

fn wait4(caller: &Caller, child: i32, bits: u64, pids: &mut Pids) -> Described {
    let who = &caller.name;
    let (child, whom) = if child > 0 {
        let child = pids.seen_by(caller, child);
        (child.clone(), format!("process {child}"))
    } else {
        (child.to_string(), "a child".to_owned())
    };
    let names = names![WNOHANG WUNTRACED];
    let sentence = if bits & libc::WNOHANG as u64 != 0 {
        format!("{who} asks whether {whom} is dead, without waiting for it.")
    } else {
        format!("{who} waits until {whom} dies, and collects its exit status.")
    };
    Described::new(format!("wait4({child}, {})", flags(bits, &names, "0")), sentence)
}

fn waitid(caller: &Caller, kind: u64, id: i32, bits: u64, pids: &mut Pids) -> Described {
    let (who, id) =
        (&caller.name, if kind == 1 { pids.seen_by(caller, id) } else { id.to_string() });
    let whom = match kind {
        0 => "P_ALL".to_owned(),
        1 => format!("P_PID, {id}"),
        2 => format!("P_PGID, {id}"),
        _ => format!("P_PIDFD, {id}"),
    };
    let has = |flag: i32| bits & u64::from(flag.cast_unsigned()) != 0;
    let sentence = match (has(libc::WSTOPPED), has(libc::WNOWAIT), has(libc::WNOHANG)) {
        (true, ..) => format!("{who} asks whether that child was stopped."),
        (_, true, true) => format!("{who} checks for a dead child, but doesn't reap it yet."),
        (_, true, false) => format!("{who} waits until a child dies, but doesn't reap it yet."),
        (.., true) => format!("{who} asks whether a child is dead, without waiting for it."),
        _ => format!("{who} waits until a child dies."),
    };
    Described::new(format!("waitid({whom}, {})", flags(bits, &WAIT_FLAGS, "0")), sentence)
}

fn kill(caller: &Caller, target: i32, signal: u64, pids: &mut Pids) -> Described {
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

fn setpgid(pid: i32, group: i32, who: &str) -> Described {
    Described::new(
        format!("setpgid({pid}, {group})"),
        format!("{who} moves to another process group."),
    )
}

/// The signals that have a name, as a mask. glibc blocks real-time signals too whenever it creates a process, and
/// those calls are its own.
const NAMED: u64 = (1 << 31) - 1;

fn sigprocmask(caller: &Caller, how: u64, set: u64) -> Option<Described> {
    let mask = (set != 0).then(|| tracee::word(caller.pid, set))??;
    let only = mask.is_power_of_two().then(|| signal_name(u64::from(mask.trailing_zeros()) + 1));
    let (how, verb, effect) = match how as i32 {
        libc::SIG_BLOCK => {
            ("SIG_BLOCK", "blocks", "A blocked signal remains pending until it's read.")
        }
        libc::SIG_UNBLOCK => {
            ("SIG_UNBLOCK", "unblocks", "If a signal is pending, it takes effect now.")
        }
        _ => return None,
    };
    let (set, what) = match only {
        Some(signal) => (format!("[{signal}]"), signal),
        None if mask != 0 && mask & !NAMED == 0 => {
            ("[SIGHUP, SIGINT, ...]".to_owned(), "every signal with a name".to_owned())
        }
        None => return None,
    };
    let sentence = format!("{} {verb} {what}. {effect}", caller.name);
    Some(Described::new(format!("rt_sigprocmask({how}, {set})"), sentence))
}

fn read(caller: &Caller, descriptor: u64) -> Option<Described> {
    let is_signalfd = tracee::file(caller.pid, descriptor)? == "anon_inode:[signalfd]";
    let sentence = if tracee::is_nonblocking(caller.pid, descriptor) {
        format!("{} reads the next signal, if one is pending.", caller.name)
    } else {
        format!("{} waits for the next signal, and reads it.", caller.name)
    };
    is_signalfd.then(|| Described::new("read(<signalfd>)", sentence))
}

fn sigwait(caller: &Caller, set: u64) -> Option<Described> {
    let mask = tracee::word(caller.pid, set)?;
    let signals = match mask.count_ones() {
        1 => signal_name(u64::from(mask.trailing_zeros()) + 1),
        _ => "a signal".to_owned(),
    };
    let sentence = format!("{} waits until {signals} is pending, and reads it.", caller.name);
    Some(Described::new(format!("rt_sigtimedwait([{signals}])"), sentence))
}

fn exit(caller: &Caller, status: u64) -> Described {
    let status = status & 0xff;
    let more = if caller.is_pid_1() {
        ", so the kernel kills every other process in its PID namespace"
    } else {
        ", and remains a zombie until its parent waits for it"
    };
    Described::new(format!("exit_group({status})"), format!("{} exits{more}.", caller.name))
}

/// Says that an exit is over at once, because the parent sleeps in a wait.
pub(super) fn reaped_exit(caller: &Caller) -> String {
    let who = &caller.name;
    format!("{who} exits. Its parent is already waiting, and reaps {who} at once.")
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
