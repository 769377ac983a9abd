//! What is new in step 04: init stays and reaps.

use harness::Program;

use super::result::{CheckResult, prints};

/// `init` stays, and the command has a parent in the container.
pub(super) fn command_is_child_of_init(program: &Program) -> CheckResult {
    prints(program, &["sh", "-c", "echo $PPID"], "1\n")
}

/// No zombie stays.
pub(super) fn dead_orphan_is_reaped(program: &Program) -> CheckResult {
    // PID 1 may need a moment. The shell can't wait for it, because the orphan isn't its child.
    let script = "(true &); n=0; \
        while ps -e -o stat= | grep -q ^Z && [ $n -lt 100 ]; do n=$((n+1)); done; \
        ps -e -o stat= | grep -c ^Z; :";
    prints(program, &["sh", "-c", script], "0\n")
}
