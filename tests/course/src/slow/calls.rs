//! The system calls of the lessons: how a reader would write them, and what each is about to do.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use harness::procfs;
use harness::tracee::{self, SystemCall};
use nix::libc;
use nix::unistd::Pid;

use super::pids::{Caller, Pids, file_id};
use super::words::{Described, flags, names, quoted, signal_name};
use super::{mounts, signals};

/// Describes a call that a process is about to make. Returns `None` if the call isn't part of a lesson.
pub(super) fn describe(caller: &Caller, call: SystemCall, pids: &mut Pids) -> Option<Described> {
    // Of the command we show what creates, replaces, and ends processes, and what signals them.
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
        libc::SYS_kill => signals::kill(caller, int(first), second, pids),
        libc::SYS_exit_group => exit(caller, first),
        _ if caller.is_command => return None,
        libc::SYS_unshare => unshare(first, who),
        libc::SYS_mount => mounts::mount(caller, [first, second, third, fourth]),
        libc::SYS_write => write(caller, first, second, third, pids)?,
        libc::SYS_prctl => prctl(first, second, who)?,
        libc::SYS_setpgid => setpgid(caller, int(first), int(second), pids),
        libc::SYS_rt_sigprocmask => signals::sigprocmask(caller, first, second)?,
        libc::SYS_read => signals::read(caller, first)?,
        libc::SYS_rt_sigtimedwait => signals::sigwait(caller, first)?,
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
        Some("init") if is_itself(caller.pid, &path) => {
            format!("{who} starts the same program again, this time as init.")
        }
        Some("exec") if is_itself(caller.pid, &path) => {
            format!("{who} starts the same program a third time, to become the command.")
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

/// Whether this is the file of the program that a process runs already.
fn is_itself(pid: Pid, path: &OsStr) -> bool {
    let exe = format!("/proc/{pid}/exe");
    path == "/proc/self/exe"
        || file_id(&exe).is_some_and(|file| file_id(in_root(pid, path)) == Some(file))
}

/// Returns an absolute path of a process as we reach it.
fn in_root(pid: Pid, path: &OsStr) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
}

/// Whether this looks for a command in a directory that hasn't got it.
fn is_try(pid: Pid, path: &OsStr, argv: &[OsString]) -> bool {
    let has_slash = |word: &OsString| word.as_encoded_bytes().contains(&b'/');
    let is_missing = || !in_root(pid, path).exists();
    Path::new(path).is_absolute() && !argv.first().is_none_or(has_slash) && is_missing()
}

fn is_first_in_path(pid: Pid, path: &OsStr) -> bool {
    let value = procfs::variable(pid.as_raw(), "PATH");
    let first = value.as_ref().and_then(|value| value.split(':').next());
    first.is_some_and(|first| Path::new(path).parent() == Some(Path::new(first)))
}

/// The flags of unshare(2) that the lessons are about, with what each one creates.
const NAMESPACES: [(i32, &str, &str); 8] = [
    (libc::CLONE_NEWUSER, "CLONE_NEWUSER", "a user namespace, in which it has every capability"),
    (libc::CLONE_NEWPID, "CLONE_NEWPID", "a PID namespace for its future children"),
    (libc::CLONE_NEWNS, "CLONE_NEWNS", "its own mount namespace, with a copy of every mount"),
    (libc::CLONE_NEWTIME, "CLONE_NEWTIME", "a time namespace for its future children"),
    (libc::CLONE_NEWUTS, "CLONE_NEWUTS", "its own hostname"),
    (libc::CLONE_NEWNET, "CLONE_NEWNET", "its own network, without a connection"),
    (libc::CLONE_NEWIPC, "CLONE_NEWIPC", "its own message queues and shared memory"),
    (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP", "its own view of the cgroups"),
];

fn unshare(bits: u64, who: &str) -> Described {
    let set = NAMESPACES.iter().filter(|(bit, ..)| bits & u64::from(bit.cast_unsigned()) != 0);
    let (names, gifts): (Vec<_>, Vec<_>) = set.map(|(_, name, gift)| (*name, *gift)).unzip();
    let (names, gifts) = match names[..] {
        // For example CLONE_FILES, which creates no namespace.
        [] => (format!("{bits:#x}"), "no new namespace".to_owned()),
        _ => (names.join("|"), gifts.join(", and ")),
    };
    Described::new(format!("unshare({names})"), format!("{who} asks for {gifts}."))
}

fn clone(name: &str, bits: u64, who: &str) -> Option<Described> {
    const FLAGS: [(u64, &str); 9] = names![
        CLONE_VM CLONE_VFORK CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNS CLONE_NEWUTS CLONE_NEWNET
        CLONE_NEWIPC CLONE_NEWCGROUP
    ];
    if bits & libc::CLONE_THREAD as u64 != 0 {
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
    let is_new = arguments.contains("CLONE_NEW");
    let more = if is_new { " The child is the first process in new namespaces." } else { "" };
    Some(Described::new(format!("{name}({arguments})"), sentence + more))
}

fn write(
    caller: &Caller,
    descriptor: u64,
    address: u64,
    length: u64,
    pids: &mut Pids,
) -> Option<Described> {
    let who = &caller.name;
    let file = tracee::file(caller.pid, descriptor)?;
    let (owner, name) = file.strip_prefix("/proc/")?.split_once('/')?;
    let owner = owner.parse().ok()?;
    let name = name.rsplit('/').next()?;
    let text = tracee::bytes(caller.pid, address, usize::try_from(length).ok()?)?;
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    let is_own = owner == caller.pid.as_raw() || Some(owner) == caller.inside;
    let (owner, whose) = if is_own {
        ("self".to_owned(), "its".to_owned())
    } else {
        let owner = pids.seen_by(caller, owner);
        (owner.clone(), format!("process {owner}'s"))
    };
    // One ID, which becomes root.
    let is_root = matches!(text.split_whitespace().collect::<Vec<_>>()[..], ["0", _, "1"]);
    let sentence = match name {
        "setgroups" if text == "deny" => {
            format!("{who} gives up setgroups(2). The kernel accepts a gid_map only after that.")
        }
        "uid_map" if is_root && is_own => {
            format!("{who} maps its user ID to 0, so it's root inside.")
        }
        "gid_map" if is_root && is_own => {
            format!("{who} maps its group ID to 0, so it's in root's group inside.")
        }
        "uid_map" => format!("{who} maps user IDs in {whose} user namespace."),
        "gid_map" => format!("{who} maps group IDs in {whose} user namespace."),
        "timens_offsets" if is_back_to_zero(&text) => {
            format!("{who} sets the time since boot back to zero for its children.")
        }
        "timens_offsets" => format!("{who} changes the clocks since boot for its children."),
        _ => return None,
    };
    let text = pids.redact_file(name, &text);
    Some(Described::new(format!("write(</proc/{owner}/{name}>, {text:?})"), sentence))
}

/// Whether an offset is the uptime, except for the time since it was read.
fn is_back_to_zero(text: &str) -> bool {
    let Some(uptime) = fs::read_to_string("/proc/uptime").ok() else { return false };
    let seconds = |text: &str| text.split(['.', ' ']).next()?.parse::<i64>().ok();
    let offset = text.split_whitespace().nth(1).and_then(seconds);
    let sum = offset.zip(seconds(&uptime)).map(|(offset, uptime)| offset + uptime);
    sum.is_some_and(|sum| (0..3600).contains(&sum))
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
    let has = |flag: i32| bits & u64::from(flag.cast_unsigned()) != 0;
    let sentence = if has(libc::WNOHANG) {
        format!("{who} asks whether {whom} is dead, without waiting for it.")
    } else if has(libc::WUNTRACED) {
        format!("{who} waits until {whom} dies or is stopped.")
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
        (true, _, false) if has(libc::WEXITED) => {
            format!("{who} waits until a child dies or is stopped.")
        }
        (true, _, false) => format!("{who} waits until a child is stopped."),
        (true, ..) if has(libc::WEXITED) => {
            format!("{who} asks whether a child is dead or stopped.")
        }
        (true, ..) => format!("{who} asks whether that child was stopped."),
        (_, true, true) => format!("{who} checks for a dead child, but doesn't reap it yet."),
        (_, true, false) => format!("{who} waits until a child dies, but doesn't reap it yet."),
        (.., true) => format!("{who} asks whether a child is dead, without waiting for it."),
        _ => format!("{who} waits until a child dies."),
    };
    Described::new(format!("waitid({whom}, {})", flags(bits, &WAIT_FLAGS, "0")), sentence)
}

fn setpgid(caller: &Caller, pid: i32, group: i32, pids: &mut Pids) -> Described {
    let who = &caller.name;
    let number = |pids: &mut Pids, pid| match pid {
        0 => "0".to_owned(),
        _ => pids.seen_by(caller, pid),
    };
    let (process, group) = (number(pids, pid), number(pids, group));
    let is_own = pid == 0 || pid == caller.pid.as_raw() || Some(pid) == caller.inside;
    let sentence = if is_own {
        format!("{who} moves to another process group.")
    } else {
        format!("{who} moves process {process} to another process group.")
    };
    Described::new(format!("setpgid({process}, {group})"), sentence)
}

fn exit(caller: &Caller, status: u64) -> Described {
    let status = status & 0xff;
    let more = if caller.is_pid_1() {
        ", so the kernel kills every other process in its PID namespace"
    } else {
        ", and is a zombie until its parent reaps it"
    };
    Described::new(format!("exit_group({status})"), format!("{} exits{more}.", caller.name))
}
