//! What is new in step 07: what /proc still shows.

use harness::Program;

use super::result::{CheckResult, prints};

/// The clock that counts from boot counts from the container's start.
pub(super) fn clock_starts_at_zero(program: &Program) -> CheckResult {
    let command = "test $(cut -d. -f1 /proc/uptime) -lt 60 && echo yes";
    prints(program, &["sh", "-c", command], "yes\n")
}

/// What is the host's can't be read.
pub(super) fn masks_host_paths(program: &Program) -> CheckResult {
    let command = "for file in /proc/keys /proc/timer_list; do test -e $file && stat -c %F $file; done \
        | sort -u";
    prints(program, &["sh", "-c", command], "character special file\n")
}

/// What can be read can't be written.
pub(super) fn proc_sys_is_read_only(program: &Program) -> CheckResult {
    let command = "grep -c '^proc /proc/sys proc ro,nosuid,nodev,noexec,' /proc/mounts";
    prints(program, &["sh", "-c", command], "1\n")
}
