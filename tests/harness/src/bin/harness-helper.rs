//! The processes that instruments need beside the program under test.

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::helper::main_if_asked().unwrap_or(ExitCode::FAILURE)
}
