//! The effects of a death on other processes: another one adopts the dead process's children.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::pids::Caller;
use super::words::Described;

/// Returns the new parent of each process that was a child of `parent`, from every process's parent before and now.
pub(super) fn adopters(
    parent: Pid,
    before: &BTreeMap<Pid, Pid>,
    now: &BTreeMap<Pid, Pid>,
) -> Vec<Pid> {
    let children = before.iter().filter(|(_, old)| **old == parent);
    let new = children.filter_map(|(child, _)| now.get(child).copied());
    new.filter(|new| *new != parent).collect()
}

/// Says that a process is dead.
pub(super) fn dead(caller: &Caller) -> String {
    format!("{} is dead.", caller.name)
}

/// Says that a process is dead, whether it's a zombie, and which processes adopted its children.
pub(super) fn with_effects(caller: &Caller, is_zombie: bool, adopters: &[&Caller]) -> String {
    let mut text = dead(caller);
    if is_zombie {
        text = format!("{} is a zombie.", caller.name);
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
