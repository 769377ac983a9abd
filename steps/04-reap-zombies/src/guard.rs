//! Used by `init` to check that `run` started it.

use std::fs;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{Context, Result};

// ANCHOR: guard
/// Returns an error unless we are PID 1 and our parent is `run`, that is, a process
/// that creates its children in our PID namespace. Without this check, `init sh` in
/// your shell would start sh outside a container. Also makes us die when `run` dies.
pub fn ensure_started_by_run() -> Result<()> {
    // `run` starts us as the first process of a PID namespace, so our PID is 1.
    if process::id() != 1 {
        let pid = process::id();
        return Err(format!("init: our PID is {pid}, not 1: don't start init, use run").into());
    }
    // From now on, the kernel kills us when our parent dies. Because we are PID 1,
    // it then kills every process in the namespace. In steps 2 and 3, we become the
    // command, which keeps this setting (unless it's a set-user-ID program like sudo).
    prctl::set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
    // If `run` died before that call, the kernel won't kill us, and we have another
    // parent. getppid() can't tell, because it returns 0 for every parent outside
    // our PID namespace. But /proc was mounted on the host, so /proc/self shows the
    // host's PIDs. (If we can't read it, we use PID 0, and the check below fails.)
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or("0");
    // The links in /proc/PID/ns name the namespaces of a process, for example
    // `pid:[4026532281]`. A process creates its children in the namespace that
    // `pid_for_children` names. For `run`, that's ours. If `run` died, a process on
    // the host adopted us. That process creates its children in another namespace.
    let theirs = fs::read_link(format!("/proc/{parent}/ns/pid_for_children"));
    match (theirs, fs::read_link("/proc/self/ns/pid")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(()),
        // If we can't read a link, that's an error, too. For example, there is no
        // /proc/0.
        _ => Err("init: our parent isn't run: don't start init, use run".into()),
    }
}
// ANCHOR_END: guard
