//! What is new in step 02: the command is PID 1.

use harness::Program;

use super::result::{CheckResult, command_line, during, ensure, prints};

/// The command replaces `init`, and keeps its PID.
pub(super) fn command_is_pid_1(program: &Program) -> CheckResult {
    prints(program, &["sh", "-c", "echo $$ $PPID"], "1 0\n")?;
    let args = ["run", "--ti", "/bin/sh"];
    let command = command_line(program, &args);
    let shell = program.session(args).map_err(during(&command))?;
    let tree = shell.tree().map_err(during(&command))?;
    let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
    ensure(pids == [1, 2], command, "`run`, and below it a shell with two PIDs", tree.text())
}
