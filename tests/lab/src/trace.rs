use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use regex_lite::{Captures, Regex};

use crate::tree::Names;
use crate::{Ability, Step};

/// The calls by which a step does what its lesson is about, in the order in which they took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The PID of the process that made each call, and the call.
    calls: Vec<(String, String)>,
}

/// What takes place when it begins. All others have an effect when they end.
const AT_THE_START: [&str; 5] = ["execve(", "clone(", "clone3(", "fork(", "vfork("];

impl Step {
    /// Runs `name arg…` to its end under strace, and keeps the calls that one of the regular expressions
    /// matches. Without strace there is nothing to keep, and that is reported.
    ///
    /// # Panics
    /// It fails, or an expression is none.
    pub fn trace(&self, args: &[&str], lesson: &[&str]) -> Option<Trace> {
        if !Ability::Tool("strace").or_report() {
            return None;
        }
        // A file of its own: on standard error the step's words would come between.
        let file = tempfile::NamedTempFile::new_in(self.directory()).expect("make a file");
        let open = Permissions::from_mode(0o666);
        file.as_file().set_permissions(open).expect("let the caller write");
        let path = file.path().to_string_lossy();
        let strace = ["--follow-forks", "--decode-fds=path", "--string-limit=80", "--signal=none"];
        let step = ["--quiet=all", "--output", &path, "--", self.name()];
        let watch = self.watch_other("strace", [&strace, &step[..], args].concat());
        let ended = watch.start(Stdio::null(), Stdio::null(), Stdio::null()).end();
        ended.nothing_left();
        assert!(ended.status.success(), "strace ended with {}", ended.status);
        let text = std::fs::read_to_string(file.path()).expect("read the trace");
        let calls = Trace::parse(&text).calls.into_iter();
        let lesson: Vec<_> = lesson.iter().map(|one| Regex::new(one).expect("one")).collect();
        let calls = calls.filter(|(_, call)| lesson.iter().any(|one| one.is_match(call)));
        Some(Trace { calls: calls.collect() })
    }
}

impl Trace {
    /// A call that waits is written down in two parts, when others come between.
    fn parse(text: &str) -> Self {
        let mut calls: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            let Some((_, rest)) = call.split_once(" resumed>") else {
                calls.push((pid.to_owned(), call.to_owned()));
                continue;
            };
            let unfinished = |(of, call): &(String, String)| of == pid && call.ends_with("...>");
            let at = calls.iter().rposition(unfinished).expect("a first part");
            let begun = calls[at].1.trim_end_matches(" <unfinished ...>").to_owned();
            let whole = (pid.to_owned(), begun + rest);
            match AT_THE_START.iter().any(|name| whole.1.starts_with(name)) {
                true => calls[at] = whole,
                false => {
                    calls.remove(at);
                    calls.push(whole);
                }
            }
        }
        Trace { calls }
    }

    /// The calls of each process, in the order in which the processes appear.
    ///
    /// # Panics
    /// There are more or fewer processes.
    pub fn by_process<const N: usize>(&self) -> [Vec<&str>; N] {
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        for (pid, call) in &self.calls {
            match found.iter_mut().find(|(of, _)| of == pid) {
                Some((_, calls)) => calls.push(call),
                None => found.push((pid, vec![call])),
            }
        }
        let calls: Vec<_> = found.into_iter().map(|(_, calls)| calls).collect();
        calls.try_into().unwrap_or_else(|other: Vec<_>| panic!("not {N} processes: {other:?}"))
    }

    /// One process after the other: what two of them do at the same time comes in any order.
    #[must_use]
    pub fn process_after_process(mut self) -> Self {
        let mut pids: Vec<String> = Vec::new();
        for (pid, _) in &self.calls {
            if !pids.contains(pid) {
                pids.push(pid.clone());
            }
        }
        self.calls.sort_by_key(|(pid, _)| pids.iter().position(|of| of == pid));
        self
    }

    /// One call a line. What differs from machine to machine is left out: addresses, file descriptors, the
    /// arguments of `clone`, the caller's IDs and signal mask, the host's uptime, the step's directory; PIDs
    /// and namespaces are renamed by first appearance. So are sets of signals that are too long to read.
    pub fn renamed(&self) -> String {
        let (mut pids, mut namespaces) = (Names::default(), Names::default());
        let patterns = [
            (r#"^execve\("[^"]*/(\d\d-[^"]*)", "#, r#"execve("$1", "#),
            (r", 0x[0-9a-f]+ /\* \d+ vars \*/", ""),
            (r"^(?:clone3?|v?fork)\(.*\)( += )", "clone(...)$1"),
            (r"^readlinkat\(AT_FDCWD(?:<[^>]*>)?, ", "readlink("),
            (r"^openat\(AT_FDCWD(?:<[^>]*>)?, ", "open("),
            (r"^(open\(.*\)) += \d+<.*>$", "$1"),
            (r"^write\(\d+<", "write(<"),
            (r#"/uid_map>, "0 \d+ 1", \d+\) += \d+$"#, r#"/uid_map>, "0 UID 1")"#),
            (r#"/gid_map>, "0 \d+ 1", \d+\) += \d+$"#, r#"/gid_map>, "0 GID 1")"#),
            (
                r#"/timens_offsets>, "boottime -\d+ 0", \d+\) += \d+$"#,
                r#"/timens_offsets>, "boottime -SECONDS 0")"#,
            ),
            // Older ones have no name for it.
            (r"^unshare\(0x80\b.*\)( += )", "unshare(CLONE_NEWTIME)$1"),
            (r"\[HUP INT [^\]]*\]", "[HUP INT ...]"),
            (r"^(rt_sigprocmask\(\w+, [^,]*), .*\)( += )", "$1, ...)$2"),
            (r"^(rt_sigtimedwait\([^,]*), .* = \d+ \((\w+)\)$", "$1, ...) = $2"),
            (r"^(waitid\(.*)\{[^}]*(si_pid=\d+)[^}]*\}", "$1{$2}"),
            (r" += (-?\d+( E.*)?|\?)$", " = $1"),
        ];
        let patterns = patterns.map(|(from, to)| (Regex::new(from).expect("a pattern"), to));
        let pid =
            Regex::new(r"(/proc/|wait4\(|^(?:clone|getpid)\(.*\) = |\}\], \w+, NULL\) = )(\d+)");
        let pid = pid.expect("a pattern");
        let namespace = Regex::new(r"pid:\[(\d+)\]").expect("a pattern");
        let mut text = String::new();
        for (by, call) in &self.calls {
            let by = pids.of(by);
            let call = patterns
                .iter()
                .fold(call.clone(), |call, (from, to)| from.replace(&call, *to).into_owned());
            let call = pid.replace_all(&call, |found: &Captures| match &found[2] {
                // The container's own.
                "1" | "2" => found[0].to_owned(),
                number => format!("{}{}", &found[1], pids.of(number)),
            });
            let call = namespace.replace_all(&call, |found: &Captures| {
                format!("pid:[{}]", namespaces.of(&found[1]).replace("HOST", "NAMESPACE"))
            });
            text += &format!("{by}  {call}\n");
        }
        text
    }
}
