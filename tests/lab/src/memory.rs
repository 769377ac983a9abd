//! `lab memory`: what the processes that wait for a command cost while they wait.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use procfs::process::Process;

use crate::tree::ProcessTree;
use crate::{Ability, workspace};

/// A line for each process that waits: its proportional set size (pages shared by N processes count for
/// one Nth each) and, of that, what it shares with nobody, in KiB.
///
/// # Errors
/// A step does not build or start.
pub fn table() -> Result<String> {
    let steps = ["03-proc-mount", "04-reap-and-forward", "05-proc-limits"];
    let mut text = format!("{:<24}{:<8}{:>8}{:>10}\n", "", "", "PSS KiB", "private");
    for step in steps {
        let program = workspace::build_release(&format!("step-{step}"), step)?;
        // Step 03's init is the command: it has none of its own to weigh. With tini, it is that.
        let tini: &[&str] = if step.starts_with("03") { &["tini", "--"] } else { &[] };
        if !tini.is_empty() && Ability::Tool("tini").here().is_err() {
            continue;
        }
        let mut command = Command::new(program);
        command.args(["run", "--ti"]).args(tini).args(["sh", "-c", "echo ready; read line"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut run = command.spawn().with_context(|| format!("start {step}"))?;
        let mut line = String::new();
        BufReader::new(run.stdout.take().context("no output")?).read_line(&mut line)?;
        let tree = ProcessTree::of(i32::try_from(run.id())?);
        let weighed = tree.and_then(|tree| {
            let mut rows = Vec::new();
            for (name, process) in ["run", "init"].iter().zip(tree.processes()) {
                let name = if *name == "init" && !tini.is_empty() { "tini" } else { name };
                rows.push((name, weigh(process.pids[0])?));
            }
            Ok(rows)
        });
        drop(run.stdin.take());
        ensure!(run.wait()?.code().is_some() && line == "ready\n", "{step} did not get ready");
        for (name, [proportional, private]) in weighed? {
            text += &format!("{step:<24}{name:<8}{proportional:>8}{private:>10}\n");
        }
    }
    Ok(text)
}

fn weigh(pid: i32) -> Result<[u64; 2]> {
    let rollup = Process::new(pid)?.smaps_rollup().context("read smaps_rollup")?;
    let sums = rollup.memory_map_rollup.iter().next().context("an empty smaps_rollup")?;
    let of = |name: &str| sums.extension.map.get(name).copied().unwrap_or(0) / 1024;
    Ok([of("Pss"), of("Private_Clean") + of("Private_Dirty")])
}
