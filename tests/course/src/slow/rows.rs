//! The process tree of a frame, one row for each process.

use harness::{Process, ProcessTree};

use super::pids::Pids;

/// The kinds of namespace that a step can create, as /proc/PID/ns calls them.
const KINDS: [(&str, &str); 6] = [
    ("user", "user"),
    ("pid", "pid"),
    ("pid_for_children", "(pid)"),
    ("mnt", "mnt"),
    ("time", "time"),
    ("time_for_children", "(time)"),
];

/// How a row differs from the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    Same,
    /// The process is new, or something about it.
    New,
    /// The process is gone. It has no row in the next frame.
    Gone,
}

/// A process in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How its PID on the host is written.
    pub pid: String,
    /// Its PID in the innermost PID namespace, if that isn't the host's.
    pub inside: Option<i32>,
    /// The kinds of namespace that it doesn't share with the host.
    pub namespaces: String,
    /// The lines that lead to it from its parent.
    pub branch: String,
    /// Its command line.
    pub process: String,
    /// The change that the call made to this process.
    pub change: Change,
}

impl Row {
    /// Forgets what was changed.
    pub fn settle(&mut self) {
        self.change = Change::Same;
    }

    /// Whether the process is gone.
    pub fn is_gone(&self) -> bool {
        self.change == Change::Gone
    }

    /// Returns what counts as a change.
    fn key(&self) -> (Option<i32>, [&str; 3]) {
        (self.inside, [&self.pid, &self.namespaces, &self.process])
    }
}

/// Lists the processes of a tree, and compares them with those `before`.
pub(super) fn rows(
    tree: Option<&ProcessTree>,
    host: &Process,
    before: &[Row],
    pids: &mut Pids,
) -> Vec<Row> {
    let processes = tree.iter().flat_map(|tree| tree.branches());
    let row = |(branch, process): (String, &Process)| {
        let mut row = Row {
            pid: pids.host(process.pids[0]),
            inside: process.pids[1..].last().copied(),
            namespaces: own_namespaces(process, host),
            branch,
            process: process.display_name(),
            change: Change::Same,
        };
        if !before.iter().any(|old| old.key() == row.key()) {
            row.change = Change::New;
        }
        row
    };
    let mut rows: Vec<_> = processes.map(row).collect();
    let gone = before.iter().filter(|old| rows.iter().all(|row| row.pid != old.pid));
    let gone: Vec<_> = gone.map(|row| Row { change: Change::Gone, ..row.clone() }).collect();
    rows.extend(gone);
    rows
}

fn own_namespaces(process: &Process, host: &Process) -> String {
    // A zombie has left most of its namespaces, and only root may see the rest.
    if process.state == 'Z' {
        return String::new();
    }
    let number = |process: &Process, kind: &str| process.namespaces.get(kind).copied();
    let is_own = |kind: &str| {
        let (own, other) = match kind.strip_suffix("_for_children") {
            Some(base) => (number(process, base), number(process, kind)),
            None => (number(process, kind), number(host, kind)),
        };
        // The kernel doesn't show a PID namespace that has no process yet. An old kernel lacks some kinds.
        own.is_some() && own != other && number(host, kind).is_some()
    };
    let own = KINDS.iter().filter(|(kind, _)| is_own(kind)).map(|(_, name)| *name);
    own.collect::<Vec<_>>().join(", ")
}
