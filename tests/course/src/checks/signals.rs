//! What is new in step 05: signals reach the command.

use harness::{Program, Session};
use nix::sys::signal::Signal;

use super::result::{CheckResult, RunOutput, command_line, during, ensure};

/// The command gets the signal, and its exit ends everything.
pub(super) fn signal_to_run_reaches_command(program: &Program) -> CheckResult {
    let script = "trap 'exit 42' TERM; sleep 1000 </dev/null >/dev/null 2>&1 & echo up; wait";
    let args = ["run", "sh", "-c", script];
    let command = format!("{}, and SIGTERM to `run`", command_line(program, &args));
    let session = Session::ready(program.supervise(args), "up").map_err(during(&command))?;
    session.signal(Signal::SIGTERM).map_err(during(&command))?;
    let (exit, _) = session.wait().map_err(during(&command))?;
    let status = exit.status.to_string();
    ensure(
        exit.status.code() == Some(42),
        command,
        "exit status: 42, from the command's trap",
        status,
    )
}

/// A reader sees EOF when the command has closed its end, and not only when `run` and `init` exit.
pub(super) fn pipe_closed_by_command_is_closed(program: &Program) -> CheckResult {
    let command = "echo words; exec >&- 8>&-; exec sleep 1000";
    let script = format!(
        "rm -f out; mkfifo out; \"$0\" run sh -c '{command}' >out 2>/dev/null 8>&1 & \
         cat out; kill -KILL $!; wait; rm out"
    );
    let quoted = format!("'{command}'");
    let args = ["run", "sh", "-c", &quoted, ">out 8>&1 & cat out"];
    let path = program.path().to_string_lossy();
    let shell = program.environment().supervise("sh", ["-c", &script, &path]);
    RunOutput::of(command_line(program, &args), shell)?.has_stdout(b"words\n")?;
    Ok(())
}
