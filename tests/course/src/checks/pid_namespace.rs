//! The checks that step 02 adds: the command is PID 1.

use harness::{Caller, Program};

use super::result::{CheckResult, During, RunOutput, command_line, ensure, run, run_script};

/// With CAP_SYS_ADMIN, here as root of a user namespace, the command is in a new PID namespace.
pub(super) fn root_gets_a_pid_namespace(program: &Program) -> CheckResult {
    ensure_new_namespace(program, "pid", &["unshare", "--user", "--map-root-user"])
}

/// Without CAP_SYS_ADMIN, the command is in a new user namespace too, and root there.
pub(super) fn ordinary_user_is_root_inside(program: &Program) -> CheckResult {
    if program.caller() == Caller::Root {
        return Ok(());
    }
    ensure_new_namespace(program, "pid", &[])?;
    let script = "id -u; id -g; cat /proc/self/setgroups";
    run_script(program, script)?.has_status(0)?.has_stdout(b"0\n0\ndeny\n").map(drop)
}

/// The command replaces `init`, and keeps its PID.
pub(super) fn command_is_pid_1(program: &Program) -> CheckResult {
    // `init` was there before, or there is nothing that the command could have replaced.
    let script = ["run", "sh", "-c", "echo $$ $PPID"];
    let output = run(program, script)?.has_stdout(b"1 0\n")?;
    output.has_in_stderr("init PID: 1\n")?;
    let args = ["run", "--ti", "/bin/sh"];
    let command = command_line(program, &args);
    let shell = program.session(args).during(&command)?;
    let tree = shell.tree().during(&command)?;
    let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
    let expected = "the process `run`, and its child, a shell with two PIDs";
    ensure(pids == [1, 2], command, expected, tree.text())
}

/// Compares the namespace of one kind outside and inside.
pub(super) fn ensure_new_namespace(
    program: &Program,
    kind: &str,
    wrapped_by: &[&str],
) -> CheckResult {
    let link = format!("/proc/self/ns/{kind}");
    let script = format!("readlink {link}; \"$0\" run readlink {link}; exit $?");
    let shell = program.script(&script);
    let command = format!("{} run readlink {link}", program.name());
    let output = RunOutput::of(&command, shell.wrapped_by(wrapped_by))?.has_status(0)?;
    let links = output.text();
    let (outside, inside) = links.split_once('\n').unwrap_or_default();
    let expected = format!("a new namespace, and not {outside} as outside the container");
    ensure(inside.starts_with(kind) && inside.trim_end() != outside, command, expected, inside)
}
