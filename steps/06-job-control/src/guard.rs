//! Used by `init`: did `run` start us?

use std::fs;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{Context, Result};

// ANCHOR: guard
/// Refuses to run on the host, and makes sure that `init` never outlives `run`.
pub fn ensure_started_by_run() -> Result<()> {
    if process::id() != 1 {
        let pid = process::id();
        return Err(format!("init: our PID is {pid}, not 1: don't start init, use run").into());
    }
    // If our parent dies, however it dies, the kernel kills us. We are PID 1, so
    // the kernel then kills every process in the namespace.
    prctl::set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
    // That only covers deaths from now on. If `run` died before, we have another
    // parent. getppid() is 0 for any parent outside our PID namespace, so ask /proc.
    // It is still the host's. Only `run` creates its children in our namespace.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or("0");
    let theirs = fs::read_link(format!("/proc/{parent}/ns/pid_for_children"));
    match (theirs, fs::read_link("/proc/self/ns/pid")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
        _ => Err("init: our parent isn't run: don't start init, use run".into()),
    }
}
// ANCHOR_END: guard
