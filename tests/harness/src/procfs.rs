//! Reads /proc: processes, their namespaces, and the mount table.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process;
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};

/// The path at which this process reads /proc: `.` after [`pin`].
static ROOT: OnceLock<&str> = OnceLock::new();

fn root() -> &'static str {
    ROOT.get().copied().unwrap_or("/proc")
}

/// Keeps to the procfs that is mounted now, even if another one covers it: there, the same number may be the PID of
/// another process. The way to a covered mount is a working directory in it, so this changes the directory.
///
/// # Errors
/// There is no /proc.
pub(crate) fn pin() -> Result {
    env::set_current_dir("/proc").context("chdir(/proc)")?;
    let _ = ROOT.set(".");
    Ok(())
}

/// Fields of /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The PID, in the PID namespace that this /proc belongs to.
    pub pid: i32,
    /// The program's name, at most 15 bytes of it.
    pub comm: String,
    /// `S` sleeping, `R` running, `T` stopped, `Z` zombie.
    pub state: char,
    /// The parent's PID; 0 if it's outside the PID namespace.
    pub ppid: i32,
    /// The process group.
    pub pgrp: i32,
    /// The foreground process group of its terminal; -1 without one.
    pub foreground: i32,
}

impl Stat {
    /// Reads it. A process that is gone has none.
    pub fn of(pid: i32) -> Option<Self> {
        // Tests look at every process of the machine again and again, so this reads once, and only what it needs.
        let mut buffer = [0; 160];
        let mut file = File::open(format!("{}/{pid}/stat", root())).ok()?;
        let length = file.read(&mut buffer).ok()?;
        let text = &buffer[..length];
        // A name may contain spaces and parentheses, so it ends at the last one.
        let start = text.iter().position(|byte| *byte == b'(')? + 1;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(text.get(start..end)?).into_owned();
        let mut fields = text.get(end + 2..)?.splitn(7, |byte| *byte == b' ');
        let state = char::from(*fields.next()?.first()?);
        let mut number = || str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (ppid, pgrp, _session, _terminal) = (number()?, number()?, number()?, number()?);
        Some(Stat { pid, comm, state, ppid, pgrp, foreground: number()? })
    }

    /// Sends it a signal, if it's still there and we may.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid), signal);
    }
}

/// Lists all processes.
///
/// # Errors
/// There is no /proc.
pub fn all_processes() -> Result<Vec<Stat>> {
    let entries = fs::read_dir(root()).context("read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Stat::of).collect())
}

/// Lists the processes below `pid`, parents before their children. The kernel's list may miss a child if another child
/// of the same parent exits meanwhile.
///
/// # Errors
/// There is no /proc.
pub fn descendants(pid: i32) -> Result<Vec<Stat>> {
    let Some(found) = children(pid) else { return search_below(pid) };
    Ok(with_descendants(found, |pid| children(pid).unwrap_or_default()))
}

/// Adds to processes the children of each, and then theirs.
fn with_descendants(mut found: Vec<Stat>, mut children: impl FnMut(i32) -> Vec<Stat>) -> Vec<Stat> {
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next].pid));
        next += 1;
    }
    found
}

/// Reads the kernel's list of a process's children, which costs a tenth of a search in /proc. A kernel without
/// CONFIG_PROC_CHILDREN has none.
fn children(pid: i32) -> Option<Vec<Stat>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("{}/{pid}/task", root())).ok()?.flatten() {
        let list = fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(list.split_whitespace().filter_map(|pid| Stat::of(pid.parse().ok()?)));
    }
    Some(found)
}

/// Searches all of /proc for the processes below `pid`. Finds every process that exists during the whole search.
pub(crate) fn search_below(pid: i32) -> Result<Vec<Stat>> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for stat in all_processes()? {
        children.entry(stat.ppid).or_default().push(stat);
    }
    let mut children_of = |pid: i32| children.remove(&pid).unwrap_or_default();
    Ok(with_descendants(children_of(pid), children_of))
}

/// Lists the processes below the calling one: every process that exists during the whole search.
///
/// # Errors
/// There is no /proc.
pub fn own_descendants() -> Result<Vec<Stat>> {
    search_below(process::id().cast_signed())
}

/// Counts the processes below the calling one, with their threads.
///
/// # Errors
/// There is no /proc.
pub(crate) fn own_tasks() -> Result<u64> {
    let tasks = |process: &Stat| {
        let directory = fs::metadata(format!("{}/{}/task", root(), process.pid)).ok()?;
        // The link count is the number of subdirectories, one for each thread, plus two.
        Some(directory.nlink().saturating_sub(2))
    };
    Ok(own_descendants()?.iter().filter_map(tasks).sum())
}

/// Counts the processes in this /proc's PID namespace by their names, which is ten times as fast as to read their
/// files.
pub(crate) fn count_processes() -> Result<usize> {
    let entries = fs::read_dir(root()).context("read /proc")?.flatten();
    Ok(entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).count())
}

/// Counts the processes and threads of every user, which costs no walk through /proc.
pub(crate) fn all_tasks() -> Option<u64> {
    let text = fs::read_to_string(format!("{}/loadavg", root())).ok()?;
    text.split(' ').nth(3)?.split_once('/')?.1.parse().ok()
}

/// Reads a process's arguments. A zombie has none.
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("{}/{pid}/cmdline", root())).unwrap_or_default();
    let Some((_, words)) = bytes.split_last() else { return Vec::new() };
    words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Reads a variable of a process's environment, as it was when the process executed its program.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("{}/{pid}/environ", root())).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let value = |word: &str| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned());
    text.split('\0').find_map(value)
}

/// Reads a field of /proc/PID/status, such as `NSpid` or `SigBlk`.
pub fn status_field(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{}/{pid}/status", root())).ok()?;
    let value = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned());
    text.lines().find_map(value)
}

/// Reads a signal mask of /proc/PID/status. A process that is gone has an empty one.
pub fn signal_mask(pid: i32, field: &str) -> u64 {
    let mask = status_field(pid, field).and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.unwrap_or(0)
}

/// Whether a signal is in a mask of /proc/PID/status.
pub fn has_signal(pid: i32, field: &str, signal: Signal) -> bool {
    signal_mask(pid, field) & (1 << (signal as u32 - 1)) != 0
}

/// Reads a process's PIDs, from this /proc's PID namespace inward.
pub fn pids(pid: i32) -> Vec<i32> {
    let field = status_field(pid, "NSpid").unwrap_or_default();
    let pids: Vec<i32> = field.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    if pids.is_empty() { vec![pid] } else { pids }
}

/// Reads a process's namespaces: kind to inode number. Empty if we may not look.
pub fn namespaces(pid: i32) -> HashMap<String, u64> {
    let Ok(entries) = fs::read_dir(format!("{}/{pid}/ns", root())) else { return HashMap::new() };
    let namespace = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?.display().to_string();
        let number = link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.to_owned(), number))
    };
    entries.filter_map(|entry| namespace(entry.ok()?)).collect()
}

/// Describes a process in one line, for a report of what was left behind.
pub fn describe(stat: &Stat) -> String {
    let arguments = arguments(stat.pid).join(" ");
    let words = if arguments.is_empty() { format!("[{}]", stat.comm) } else { arguments };
    // We have stopped it ourselves, so most states say nothing about the program.
    format!("{} {words}{}", stat.pid, if stat.state == 'Z' { ", a zombie" } else { "" })
}

/// Sums up /proc/PID/smaps_rollup: the proportional set size, and how much of it is private, in KiB.
///
/// # Errors
/// The file can't be read.
pub fn memory(pid: i32) -> Result<[u64; 2]> {
    let path = format!("{}/{pid}/smaps_rollup", root());
    let text = fs::read_to_string(&path).context(format!("read {path}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        number.ok_or_else(|| Error::new(format!("{path} has no {name}")))
    };
    Ok([field("Pss")?, field("Private_Clean")? + field("Private_Dirty")?])
}

/// Returns the lines in which two texts differ, with `-` or `+` in front. Their order doesn't count.
pub fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for (text, change) in [(before, -1), (after, 1)] {
        text.lines().for_each(|line| *counts.entry(line).or_default() += change);
    }
    let changed = counts.into_iter().filter(|(_, count)| *count != 0);
    changed.map(|(line, count)| format!("{}{line}", if count < 0 { '-' } else { '+' })).collect()
}
