//! The processes that make calls, and how their PIDs are written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use harness::placeholders::Placeholders;
use harness::procfs;
use nix::unistd::Pid;

/// A process that makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its PID on the host.
    pub pid: Pid,
    /// Its PID in the innermost PID namespace, if that isn't the host's.
    pub inside: Option<i32>,
    /// Its part: `run`, `init`, `exec`, or the command's name.
    pub name: String,
    /// Whether it runs the command's code, not the step's.
    pub is_command: bool,
}

impl Caller {
    /// Looks at a process.
    pub fn new(pid: Pid, name: String, is_command: bool) -> Self {
        let inside = procfs::pids(pid.as_raw())[1..].last().copied();
        Caller { pid, inside, name, is_command }
    }

    /// Whether it's PID 1 of a PID namespace in the container.
    pub fn is_pid_1(&self) -> bool {
        self.inside == Some(1)
    }
}

/// Identifies a file, whichever path leads to it, by device and inode. Returns `None` if there's no such file, or if we
/// may not look.
pub(super) fn file_id(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Writes the host's PIDs as they are or, with placeholders, as names that are the same in every run: `HOST_A`,
/// `HOST_B`, … in the order of appearance.
#[derive(Debug)]
pub(super) struct Pids(pub(super) Option<Placeholders>);

impl Pids {
    /// Writes a PID of the host.
    pub(super) fn host(&mut self, pid: i32) -> String {
        let number = pid.to_string();
        self.0.as_mut().map_or(number.clone(), |placeholders| placeholders.name(&number))
    }

    /// Writes a PID that a process sees. In the container that's not the host's.
    pub(super) fn seen_by(&mut self, caller: &Caller, pid: i32) -> String {
        if caller.inside.is_some() { pid.to_string() } else { self.host(pid) }
    }

    /// Returns a line that a program printed, with the host's PIDs replaced.
    pub(super) fn redact_line(&mut self, line: &str) -> String {
        let Some(placeholders) = &mut self.0 else { return line.to_owned() };
        // Only a number after "PID" is one: `run PID: 4711`, `pid: 4711`, `the shell's PID is 4711`.
        let mut after_pid = 0;
        let words = line.split_inclusive(' ').map(|word| {
            let number: String = word.chars().take_while(char::is_ascii_digit).collect();
            if after_pid > 0 && placeholders.has(&number) {
                return placeholders.name(&number) + &word[number.len()..];
            }
            let is_pid = word.trim_end().trim_end_matches(':').eq_ignore_ascii_case("pid");
            after_pid = if is_pid { 2 } else { after_pid - i32::from(after_pid > 0) };
            word.to_owned()
        });
        words.collect()
    }

    /// Returns what is written to a file of /proc, without what differs from caller to caller.
    pub(super) fn redact_file(&self, name: &str, text: &str) -> String {
        let words: Vec<_> = text.split(' ').collect();
        match (name, &words[..]) {
            _ if self.0.is_none() => text.to_owned(),
            ("uid_map", ["0", _, "1"]) => "0 UID 1".to_owned(),
            ("gid_map", ["0", _, "1"]) => "0 GID 1".to_owned(),
            ("timens_offsets", [clock, _, nanoseconds]) => {
                format!("{clock} -SECONDS {nanoseconds}")
            }
            _ => text.to_owned(),
        }
    }
}
