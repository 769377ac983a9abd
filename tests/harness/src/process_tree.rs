//! The tree of processes below one process, with every PID that each of them has.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::placeholders::Placeholders;
use crate::procfs::{self, Stat};

/// A process and its descendants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PIDs, from the host's PID namespace to the innermost one (NSpid in /proc/PID/status).
    pub pids: Vec<i32>,
    /// The state as in /proc/PID/stat: `S`, `R`, `T`, `Z`.
    pub state: char,
    /// Its arguments. The caller of exec chooses them, argv\[0\] too. Empty for a zombie.
    pub argv: Vec<String>,
    /// The program's name, at most 15 bytes.
    pub comm: String,
    /// Its namespaces: kind to inode number. Empty if we may not look.
    pub namespaces: HashMap<String, u64>,
    /// Its children, in the order of their PIDs on the host.
    pub children: Vec<Process>,
}

/// A process tree at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessTree {
    /// The process at the top.
    pub root: Process,
}

impl ProcessTree {
    /// Reads the tree below `pid`. It's complete unless a process starts or exits meanwhile.
    ///
    /// # Errors
    /// /proc can't be read, or has no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let missing = || Error::new(format!("there is no process {pid}"));
        let root = Stat::of(pid).ok_or_else(missing)?;
        // Of other processes on the host only the parent matters.
        let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
        for stat in procfs::descendants(pid)? {
            below.entry(stat.ppid).or_default().push(Process::read(stat));
        }
        let mut root = Process::read(root);
        root.adopt(&mut below);
        Ok(ProcessTree { root })
    }

    /// Returns the tree as it was when the process at the top ran `argv` and had no children.
    #[must_use]
    pub fn before<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        ProcessTree { root: Process { argv, children: Vec::new(), ..self.root.clone() } }
    }

    /// Lists every process, level by level.
    pub fn processes(&self) -> Vec<&Process> {
        let mut found = vec![&self.root];
        let mut next = 0;
        while next < found.len() {
            found.extend(&found[next].children);
            next += 1;
        }
        found
    }

    /// Finds the process that is PID 1 of the innermost PID namespace it is in, nearest to the top.
    pub fn pid_1(&self) -> Option<&Process> {
        let inside = |process: &&Process| process.pids.len() > 1 && process.pids.ends_with(&[1]);
        self.processes().into_iter().find(inside)
    }

    /// Renders the tree with its real PIDs.
    pub fn text(&self) -> String {
        self.render(|pid| pid.to_string())
    }

    /// Renders the tree with the host's PIDs replaced by `HOST_A`, `HOST_B`, … PIDs inside the container
    /// stay, because those are the same in every run.
    pub fn redacted(&self) -> String {
        let mut placeholders = Placeholders::default();
        self.render(|pid| placeholders.name(&pid.to_string()))
    }

    /// Lists every process with the lines that lead to it from its parent, from the top down.
    pub fn branches(&self) -> Vec<(String, &Process)> {
        let mut found = Vec::new();
        self.root.add_branches(String::new(), "", &mut found);
        found
    }

    fn render(&self, mut host: impl FnMut(i32) -> String) -> String {
        let depth = self.processes().iter().map(|process| process.pids.len()).max().unwrap_or(1);
        let mut heads = vec!["PID on the host".to_owned(), "PID inside".to_owned()];
        heads.extend((2..depth).map(|level| format!("{level} levels in")));
        heads.push("process".to_owned());
        if depth == 1 {
            heads = vec!["PID".to_owned(), "process".to_owned()];
        }
        let mut rows = vec![heads];
        rows.extend(self.branches().into_iter().map(|(branch, process)| {
            let inside = |level| process.pids.get(level).map_or("-".to_owned(), i32::to_string);
            let mut cells = vec![host(process.pids[0])];
            cells.extend((1..depth).map(inside));
            cells.push(branch + &process.display_name());
            cells
        }));
        let width =
            |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max();
        let widths: Vec<_> = (0..depth).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for cells in &rows {
            for (cell, width) in cells.iter().zip(&widths) {
                text += &format!("{cell:width$}   ");
            }
            text.extend([&cells[depth], "\n"]);
        }
        text
    }
}

impl Process {
    fn read(stat: Stat) -> Self {
        Process {
            pids: procfs::pids(stat.pid),
            state: stat.state,
            argv: procfs::arguments(stat.pid),
            comm: stat.comm,
            namespaces: procfs::namespaces(stat.pid),
            children: Vec::new(),
        }
    }

    fn adopt(&mut self, below: &mut HashMap<i32, Vec<Process>>) {
        self.children = below.remove(&self.pids[0]).unwrap_or_default();
        // PIDs on the host start over now and then, for example at 32768. Those inside are too new for that.
        self.children.sort_by_key(|child| child.pids.last().copied());
        for child in &mut self.children {
            child.adopt(below);
        }
    }

    fn add_branches<'a>(
        &'a self,
        branch: String,
        indent: &str,
        found: &mut Vec<(String, &'a Process)>,
    ) {
        found.push((branch, self));
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            let (branch, more) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.add_branches(format!("{indent}{branch}"), &format!("{indent}{more}"), found);
        }
    }

    /// Returns its command line as a shell would read it, or its name in brackets, as `ps` does. Zombies and
    /// stopped processes are marked.
    pub fn display_name(&self) -> String {
        let words = if self.argv.is_empty() {
            format!("[{}]", self.comm)
        } else {
            shlex::try_join(self.argv.iter().map(String::as_str)).unwrap_or_default()
        };
        match self.state {
            'Z' => format!("{words} (zombie)"),
            'T' => format!("{words} (stopped)"),
            _ => words,
        }
    }
}
