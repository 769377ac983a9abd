//! Step 01: a program as a child, and a program in one's own place.

use harness::Program;

use super::command_line::{
    ensure_inherits_unchanged, ensure_names_exec_failure, ensure_passes_on_arguments,
};
use super::result::{AND, CheckResult, During, ensure, ensure_clean, run};

const SUBCOMMANDS: [&str; 2] = ["command", "exec"];

/// Looks at the processes while a shell runs: how many there are, and the shell's PID and parent.
fn shell(program: &Program, subcommand: &str, processes: usize, expected: &str) -> CheckResult {
    let command = format!("{} {subcommand} /bin/sh", program.name());
    let mut shell = program.session([subcommand, "/bin/sh"]).during(&command)?;
    let tree = shell.tree().during(&command)?;
    ensure(tree.processes().len() == processes, &command, expected, tree.text())?;
    let pid = tree.processes().last().map_or(0, |last| last.pids[0]).to_string();
    let answer = shell.run("echo $$").during(&command)?;
    ensure(answer == pid, format!("{command}{AND}and `echo $$` in the shell"), pid, answer)?;
    let (exit, stderr) = shell.end().during(&command)?;
    let line = format!("pid: {}\n", tree.root.pids[0]);
    let [wanted, actual] = [&line, &stderr].map(|text| format!("standard error: {text}"));
    ensure(stderr == line, &command, wanted, actual)?;
    ensure_clean(&command, &exit)
}

/// `command` starts the program in a second process.
pub(super) fn command_starts_a_child(program: &Program) -> CheckResult {
    shell(program, "command", 2, "two processes: your program, and a shell as its child")
}

/// `command` waits, and exits with the child's status, or with 128+N if signal N killed the child.
pub(super) fn command_passes_on_exit_status(program: &Program) -> CheckResult {
    for status in [0, 7, 255] {
        run(program, ["command", "sh", "-c", &format!("exit {status}")])?.has_status(status)?;
    }
    for signal in [9, 11, 15] {
        let script = format!("kill -{signal} $$");
        run(program, ["command", "sh", "-c", &script])?.has_exited_with(128 + signal)?;
    }
    Ok(())
}

/// `exec` needs one process only, and its caller learns directly how that ends.
pub(super) fn exec_becomes_the_program(program: &Program) -> CheckResult {
    shell(program, "exec", 1, "one process, which became the shell")?;
    run(program, ["exec", "sh", "-c", "exit 7"])?.has_exited_with(7)?;
    run(program, ["exec", "sh", "-c", "kill -9 $$"])?.was_killed_by(9).map(drop)
}

/// Both exit with 127 for "not found" and with 126 for "can't be executed", and name the reason.
pub(super) fn failed_start_exits_126_or_127(program: &Program) -> CheckResult {
    SUBCOMMANDS.iter().try_for_each(|subcommand| ensure_names_exec_failure(program, subcommand))
}

/// Both pass on spaces, empty words, leading dashes, and bytes that aren't UTF-8.
pub(super) fn program_gets_its_arguments(program: &Program) -> CheckResult {
    for subcommand in SUBCOMMANDS {
        ensure_passes_on_arguments(program, subcommand)?;
        // The exit status is another check's.
        run(program, [subcommand, "--", "-odd"])?.has_in_stderr(" -odd: ")?;
    }
    Ok(())
}

/// Both leave everything else as it was.
pub(super) fn program_inherits_environment_unchanged(program: &Program) -> CheckResult {
    SUBCOMMANDS.iter().try_for_each(|subcommand| ensure_inherits_unchanged(program, subcommand))
}
