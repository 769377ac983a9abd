//! The system calls of a run, as strace saw them.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use regex_lite::{Captures, Regex};

use crate::error::{Context, Error, Result};
use crate::placeholders::Placeholders;
use crate::program::Program;
use crate::transcript::regex;

/// The calls that a lesson is about, in the order in which they took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The PID of the process that made each call, and the call.
    calls: Vec<(String, String)>,
}

/// The calls that have their effect when they begin. Every other call has it when it returns.
const EFFECTIVE_ON_ENTRY: [&str; 5] = ["execve(", "clone(", "clone3(", "fork(", "vfork("];

impl Program {
    /// Runs `name arg…` to its end under strace, which must be installed. Keeps the calls that one of the
    /// regular expressions matches.
    ///
    /// # Errors
    /// It fails, or leaves something behind.
    pub fn trace<S: AsRef<OsStr>>(&self, args: &[S], lesson: &[&str]) -> Result<Trace> {
        // A separate file, because on standard error the program's output would come between.
        let path = self.directory().join("strace");
        File::create(&path).context("create the trace")?;
        fs::set_permissions(&path, Permissions::from_mode(0o666)).context("chmod")?;
        let options = "--follow-forks --decode-fds=path --string-limit=80 --signal=none --quiet=all \
            --output=strace --";
        let options = options.split(' ').map(OsStr::new).chain([OsStr::new(self.name())]);
        let args = options.chain(args.iter().map(AsRef::as_ref));
        let supervisor = self.environment().supervise("strace", args);
        let exit = supervisor.start(Stdio::null(), Stdio::null(), Stdio::null())?.wait()?;
        let (status, left) = (exit.status, exit.leftovers());
        if !status.success() || !left.is_empty() {
            return Err(Error::new(format!("strace: {status}; left: {left:?}")));
        }
        let text = fs::read_to_string(&path).context("read the trace")?;
        let lesson = lesson.iter().map(|one| regex(one)).collect::<Result<Vec<_>>>()?;
        let mut trace = Trace::parse(&text)?;
        trace.calls.retain(|(_, call)| lesson.iter().any(|one| one.is_match(call)));
        Ok(trace)
    }
}

impl Trace {
    /// Parses strace's output. A call that waits is split in two if other calls come between.
    fn parse(text: &str) -> Result<Self> {
        let mut calls: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            let Some((_, rest)) = call.split_once(" resumed>") else {
                calls.push((pid.to_owned(), call.to_owned()));
                continue;
            };
            let unfinished = |(of, call): &(String, String)| of == pid && call.ends_with("...>");
            let at = calls.iter().rposition(unfinished);
            let at = at.ok_or_else(|| Error::new(format!("strace has no beginning of: {line}")))?;
            let begun = calls[at].1.trim_end_matches(" <unfinished ...>").to_owned();
            let whole = (pid.to_owned(), begun + rest);
            if EFFECTIVE_ON_ENTRY.iter().any(|name| whole.1.starts_with(name)) {
                calls[at] = whole;
            } else {
                calls.remove(at);
                calls.push(whole);
            }
        }
        Ok(Trace { calls })
    }

    /// Lists the processes in the order in which they appear.
    fn pids(&self) -> Vec<String> {
        let mut pids: Vec<String> = Vec::new();
        for (pid, _) in &self.calls {
            if !pids.contains(pid) {
                pids.push(pid.clone());
            }
        }
        pids
    }

    /// Groups the calls by process, in the order in which the processes appear.
    ///
    /// # Errors
    /// There are more or fewer than N processes.
    pub fn by_process<const N: usize>(&self) -> Result<[Vec<&str>; N]> {
        let calls = |pid: &String| -> Vec<&str> {
            self.calls.iter().filter(|(of, _)| of == pid).map(|(_, call)| call.as_str()).collect()
        };
        let calls: Vec<_> = self.pids().iter().map(calls).collect();
        calls.try_into().map_err(|other| Error::new(format!("not {N} processes: {other:?}")))
    }

    /// Puts one process after the other, because what two of them do at the same time comes in any order.
    #[must_use]
    pub fn grouped_by_process(mut self) -> Self {
        let pids = self.pids();
        self.calls.sort_by_key(|(pid, _)| pids.iter().position(|of| of == pid));
        self
    }

    /// Renders one call a line, without what differs from machine to machine: addresses, file descriptors, the
    /// arguments of `clone`, the caller's IDs and signal mask, the uptime, directories. PIDs and namespaces get
    /// names. Long sets of signals are shortened.
    ///
    /// # Errors
    /// A pattern is wrong.
    pub fn redacted(&self) -> Result<String> {
        let (mut pids, mut namespaces) = (Placeholders::default(), Placeholders::default());
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
            // strace aligns results that it prints late.
            (r"\) += (\S.*)$", ") = $1"),
        ];
        let patterns = patterns.into_iter().map(|(from, to)| Ok((regex(from)?, to)));
        let patterns: Vec<(Regex, &str)> = patterns.collect::<Result<_>>()?;
        let pid = regex(r"(/proc/|wait4\(|^(?:clone|getpid)\(.*\) = |\}\], \w+, NULL\) = )(\d+)")?;
        let namespace = regex(r"pid:\[(\d+)\]")?;
        let mut text = String::new();
        for (by, call) in &self.calls {
            let by = pids.name(by);
            let call = patterns
                .iter()
                .fold(call.clone(), |call, (from, to)| from.replace(&call, *to).into_owned());
            let call = pid.replace_all(&call, |found: &Captures<'_>| match &found[2] {
                // The container's own.
                "1" | "2" => found[0].to_owned(),
                number => format!("{}{}", &found[1], pids.name(number)),
            });
            let call = namespace.replace_all(&call, |found: &Captures<'_>| {
                format!("pid:[{}]", namespaces.name(&found[1]).replace("HOST", "NAMESPACE"))
            });
            text += &format!("{by}  {call}\n");
        }
        Ok(text)
    }
}
