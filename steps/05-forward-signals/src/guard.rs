//! Used by `init` to check that `run` started it.

use std::fs;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{Context, Result};

// ANCHOR: guard
/// Returns an error if our parent isn't `run`, and makes us die when `run` dies.
pub fn ensure_started_by_run() -> Result<()> {
    // `run` starts us as the first process of a PID namespace, so our PID is 1.
    if process::id() != 1 {
        let pid = process::id();
        return Err(format!("init: our PID is {pid}, not 1: don't start init, use run").into());
    }
    // From now on, the kernel kills us when our parent dies. Because we are PID 1,
    // it then kills every process in the namespace. The setting survives `exec`.
    prctl::set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
    // If `run` died before that call, we have another parent now. getppid() can't
    // tell, because it returns 0 for every parent outside our PID namespace. But
    // /proc is still the host's, so /proc/self/status has our parent's host PID.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or("0");
    // The links in /proc/PID/ns name the namespaces of a process, for example
    // `pid:[4026532281]`. The process creates its children in the namespace that
    // `pid_for_children` names. For `run`, and only for `run`, that one is ours. If
    // we can't read a link (there is no /proc/0), that's an error, too.
    let theirs = fs::read_link(format!("/proc/{parent}/ns/pid_for_children"));
    match (theirs, fs::read_link("/proc/self/ns/pid")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
        _ => Err("init: our parent isn't run: don't start init, use run".into()),
    }
}
// ANCHOR_END: guard
