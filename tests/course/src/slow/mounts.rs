//! Mounts: what a call to mount(2) will do.

use std::fs;

use harness::tracee::{self, SystemCall};
use nix::libc;
use nix::unistd::Pid;

use super::pids::Caller;
use super::words::{Described, flags, names, quoted_string};

const MOUNT_FLAGS: [(u64, &str); 12] = names![
    MS_BIND MS_REMOUNT MS_MOVE MS_RDONLY MS_REC MS_PRIVATE MS_SLAVE MS_SHARED MS_UNBINDABLE
    MS_NOSUID MS_NODEV MS_NOEXEC
];

/// The masked and read-only paths that get a frame. Whether the others exist depends on the kernel, so these stand for
/// them.
const EXAMPLES: [&str; 3] = ["/proc/keys", "/sys/firmware", "/proc/sys"];

/// Describes a call to mount(2).
pub(super) fn mount(caller: &Caller, [source, target, kind, bits]: [u64; 4]) -> Described {
    let text = |address| quoted_string(caller.pid, address);
    let path =
        tracee::string(caller.pid, target).unwrap_or_default().to_string_lossy().into_owned();
    let (from, to, kind) = (text(source), text(target), text(kind));
    let who = &caller.name;
    let has = |flag| bits & flag != 0;
    let below = if has(libc::MS_REC) { ", and every mount below it," } else { "" };
    let sentence = if has(libc::MS_PRIVATE) && has(libc::MS_REC) && path == "/" {
        "From now on, mounts don't propagate between the host and the container.".to_owned()
    } else if has(libc::MS_PRIVATE) {
        format!("{who} makes the mount at {path}{below} private.")
    } else if has(libc::MS_SLAVE) {
        format!("{who} makes the mount at {path}{below} a slave: mounts propagate only to it.")
    } else if has(libc::MS_SHARED | libc::MS_UNBINDABLE) {
        format!("{who} changes how mounts propagate at {path}.")
    } else if has(libc::MS_MOVE) {
        format!("{who} moves a mount to {path}.")
    } else if has(libc::MS_REMOUNT) && has(libc::MS_RDONLY) {
        format!("{who} makes the mount at {path} read-only.")
    } else if has(libc::MS_REMOUNT) {
        format!("{who} changes the options of the mount at {path}.")
    } else if has(libc::MS_BIND) && from == to {
        format!("{who} mounts {path} over itself, because only a mount can be read-only.")
    } else if has(libc::MS_BIND) && from == "\"/dev/null\"" {
        format!("{who} covers {path} with /dev/null, which works only for files.")
    } else if has(libc::MS_BIND) {
        format!("{who} covers {path} with {}.", from.trim_matches('"'))
    } else if kind == "\"proc\"" && path == "/proc" {
        format!("{who} mounts a new /proc, which shows the PID namespace of {who}.")
    } else if kind == "\"proc\"" {
        format!("{who} mounts a procfs at {path}, which shows the PID namespace of {who}.")
    } else if kind == "\"tmpfs\"" {
        format!("{who} covers the directory {path} with an empty filesystem.")
    } else {
        format!("{who} mounts a filesystem at {path}.")
    };
    let is_example = EXAMPLES.contains(&&*path);
    let stands_for_others = has(libc::MS_BIND) && is_example;
    let more = if stands_for_others { " The same call for other paths isn't shown." } else { "" };
    let sentence = sentence + more;
    let call = format!("mount({from}, {to}, {kind}, {})", flags(bits, &MOUNT_FLAGS, "0"));
    let is_masked = path.starts_with("/proc/") || path.starts_with("/sys/");
    let is_repetition = is_masked && !is_example;
    Described { call, sentence, is_repetition }
}

/// Whether a call mounts a procfs.
pub(super) fn is_proc(pid: Pid, mount: SystemCall) -> bool {
    tracee::string(pid, mount.args[2]).is_some_and(|kind| kind == "proc")
}

/// Counts the processes that the /proc of a process lists.
pub(super) fn listed(pid: Pid) -> Option<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/root/proc")).ok()?;
    let is_pid =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Some(entries.flatten().filter(is_pid).count())
}
