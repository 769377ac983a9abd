//! The effects of a death on other processes: the parent may reap the dead process, and another one adopts its children.

use std::collections::BTreeMap;

use harness::{Process, ProcessTree};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::pids::Caller;
use super::words::Described;

/// The parent of each process in a tree, by PID on the host.
#[derive(Debug, Default)]
pub(super) struct Parents(BTreeMap<Pid, Pid>);

impl Parents {
    pub(super) fn of(tree: Option<&ProcessTree>) -> Self {
        let mut parents = Parents::default();
        if let Some(tree) = tree {
            parents.add(&tree.root);
        }
        parents
    }

    fn add(&mut self, parent: &Process) {
        for child in &parent.children {
            let [child_pid, parent_pid] = [child, parent].map(|it| Pid::from_raw(it.pids[0]));
            self.0.insert(child_pid, parent_pid);
            self.add(child);
        }
    }

    /// Returns the new parent of each process that was a child of `parent`.
    pub(super) fn adopters(&self, parent: Pid, now: &Parents) -> Vec<Pid> {
        let children = self.0.iter().filter(|(_, old)| **old == parent);
        let new = children.filter_map(|(child, _)| now.0.get(child).copied());
        new.filter(|new| *new != parent).collect()
    }
}

/// Says that a process is dead.
pub(super) fn dead(caller: &Caller) -> String {
    format!("{} is dead.", caller.name)
}

/// Says that a process is dead, what became of it, and which processes adopted its children.
pub(super) fn with_effects(caller: &Caller, is_reaped: bool, adopters: &[&Caller]) -> String {
    let mut text = dead(caller);
    if is_reaped {
        text = format!("{} is dead, and its parent has reaped it.", caller.name);
    }
    if let Some(adopter) = adopters.first() {
        let children = if adopters.len() == 1 { "child" } else { "children" };
        text += &format!(" {} adopts its {children}.", adopter.name);
    }
    text
}

/// Describes a death by a signal.
pub(super) fn killed(caller: &Caller, signal: Signal, pid_1_exits: bool) -> Described {
    let name = &caller.name;
    let sentence = match (pid_1_exits, signal) {
        (true, Signal::SIGKILL) => format!("PID 1 has exited, so the kernel kills {name}, too."),
        _ => format!("{signal} has killed {name}."),
    };
    Described::new(signal.to_string(), sentence)
}
