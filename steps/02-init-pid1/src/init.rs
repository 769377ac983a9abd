//! `run` starts `init` in the container, as PID 1 of the new PID namespace. `init`
//! then becomes the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};

use crate::error::{Result, exec_failed, log};
use crate::guard::ensure_started_by_run;

// ANCHOR: init
pub fn init(argv: &[OsString]) -> Result<ExitCode> {
    ensure_started_by_run()?;
    log(format!("init PID: {}", process::id()));
    let command = argv.join(OsStr::new(" "));
    log(format!("init: first command of the container: {}", command.display()));
    Ok(exec_command(argv))
}
// ANCHOR_END: init

// ANCHOR: exec_command
/// Becomes the command, which has PID 1 from then on. If `exec` returns at all, it
/// has failed.
fn exec_command(argv: &[OsString]) -> ExitCode {
    let error = Command::new(&argv[0]).args(&argv[1..]).exec();
    exec_failed(&argv[0], error)
}
// ANCHOR_END: exec_command
