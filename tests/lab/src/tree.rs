use std::collections::HashMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use procfs::process::all_processes;

/// A process and those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PIDs, from the namespace of the /proc that was read (the host's, for a test) to the
    /// innermost one that it is in: the line NSpid of /proc/PID/status, Linux 4.1 and later.
    pub pids: Vec<i32>,
    /// The state as in /proc/PID/stat: `S` sleeps, `R` runs, `T` is stopped, `Z` is a zombie.
    pub state: char,
    /// The argument vector. Empty for a zombie; the caller of exec chooses it, argv\[0\] too.
    pub argv: Vec<String>,
    /// The name of the program, at most 15 bytes of it (/proc/PID/comm).
    pub comm: String,
    /// The namespaces, by kind (`pid`, `mnt`, `user`, …), each with its inode number. Empty where
    /// the reader may not look: into a process of another user, or a zombie.
    pub namespaces: HashMap<String, u64>,
    /// Its children, by their PID in the outermost namespace.
    pub children: Vec<Process>,
}

/// Who is whose child, from one process down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessTree {
    /// The process at the top.
    pub root: Process,
}

impl ProcessTree {
    /// The tree below the process `pid`, a number of the PID namespace that this process's /proc
    /// belongs to. It is whole if nothing in it starts or ends meanwhile.
    ///
    /// # Errors
    /// /proc cannot be read, or has no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
        let mut root = None;
        for process in all_processes().context("read /proc")? {
            // A process may end between two reads of its files; then it is not in the tree.
            let Ok(process) = process else { continue };
            let (Ok(stat), Ok(status)) = (process.stat(), process.status()) else { continue };
            let namespaces =
                process.namespaces().map(|namespaces| namespaces.0).unwrap_or_default();
            let namespaces = namespaces.into_iter().map(|(kind, namespace)| {
                (kind.to_string_lossy().into_owned(), namespace.identifier)
            });
            let seen = Process {
                pids: status.nspid.unwrap_or_else(|| vec![stat.pid]),
                state: stat.state,
                argv: process.cmdline().unwrap_or_default(),
                comm: stat.comm,
                namespaces: namespaces.collect(),
                children: Vec::new(),
            };
            match stat.pid == pid {
                true => root = Some(seen),
                false => below.entry(stat.ppid).or_default().push(seen),
            }
        }
        let mut root = root.with_context(|| format!("there is no process {pid}"))?;
        adopt(&mut root, &mut below);
        Ok(ProcessTree { root })
    }

    /// The tree as it was before the process at the top had children or became another program, when
    /// its command line was `argv`.
    pub fn before<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        ProcessTree { root: Process { argv, children: Vec::new(), ..self.root.clone() } }
    }

    /// All processes, the parent before its children.
    pub fn processes(&self) -> Vec<&Process> {
        let mut found = vec![&self.root];
        let mut next = 0;
        while next < found.len() {
            found.extend(&found[next].children);
            next += 1;
        }
        found
    }

    /// The tree as text, with the PIDs as they are.
    pub fn text(&self) -> String {
        self.render(|pid| pid.to_string())
    }

    /// The tree as text, with the host's PIDs, which no one can foretell, renamed `HOST_A`, `HOST_B`,
    /// … from the top down. The container's own stay: those must be 1, 2, 3.
    pub fn renamed(&self) -> String {
        let mut names = Names::default();
        self.render(|pid| names.of(&pid.to_string()))
    }

    fn render(&self, mut host: impl FnMut(i32) -> String) -> String {
        let deepest = self.processes().iter().map(|process| process.pids.len()).max().unwrap_or(1);
        let mut rows = vec![match deepest {
            1 => vec!["PID".to_owned(), "process".to_owned()],
            _ => {
                let mut heads = vec!["PID on the host".to_owned(), "PID inside".to_owned()];
                heads.extend((2..deepest).map(|level| format!("{level} levels in")));
                heads.push("process".to_owned());
                heads
            }
        }];
        row(&self.root, "", "", deepest, &mut host, &mut rows);
        let widths: Vec<_> = (0..deepest)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for cells in rows {
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "{cell:width$}   ");
            }
            let _ = writeln!(text, "{}", cells[deepest]);
        }
        text
    }
}

fn adopt(process: &mut Process, below: &mut HashMap<i32, Vec<Process>>) {
    let mut children = below.remove(&process.pids[0]).unwrap_or_default();
    children.sort_by_key(|child| child.pids[0]);
    for child in &mut children {
        adopt(child, below);
    }
    process.children = children;
}

fn row(
    process: &Process,
    branch: &str,
    indent: &str,
    deepest: usize,
    host: &mut impl FnMut(i32) -> String,
    rows: &mut Vec<Vec<String>>,
) {
    let mut cells = vec![host(process.pids[0])];
    cells.extend((1..deepest).map(|level| match process.pids.get(level) {
        Some(pid) => pid.to_string(),
        None => "-".to_owned(),
    }));
    cells.push(format!("{branch}{}", process.title()));
    rows.push(cells);
    for (index, child) in process.children.iter().enumerate() {
        let (branch, more) = match index + 1 == process.children.len() {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        row(child, &format!("{indent}{branch}"), &format!("{indent}{more}"), deepest, host, rows);
    }
}

impl Process {
    /// Its command line, as a shell would read it; without an argv, its name in brackets, as `ps`
    /// has it; and whether it is a zombie or stopped. `R` and `S` alternate and are left out.
    pub fn title(&self) -> String {
        let words = match self.argv.is_empty() {
            true => format!("[{}]", self.comm),
            false => shlex::try_join(self.argv.iter().map(String::as_str)).unwrap_or_default(),
        };
        match self.state {
            'Z' => format!("{words} (zombie)"),
            'T' => format!("{words} (stopped)"),
            _ => words,
        }
    }
}

/// Names for numbers that differ from run to run: `HOST_A` for the first that is asked for.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<String>);

impl Names {
    pub(crate) fn of(&mut self, number: &str) -> String {
        let known = self.0.iter().position(|known| known == number);
        let index = known.unwrap_or_else(|| {
            self.0.push(number.to_owned());
            self.0.len() - 1
        });
        let letter = char::from(b'A' + u8::try_from(index % 26).unwrap_or(0));
        match index / 26 {
            0 => format!("HOST_{letter}"),
            round => format!("HOST_{letter}{round}"),
        }
    }
}
