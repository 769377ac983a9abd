//! A seccomp filter that refuses system calls, as container engines and security modules do.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::error::{Context, Error, Result};

/// Installs the filter and becomes the command: `CALL=ERRNO… -- CMD ARG…`. A call is `unshare`, `mount`,
/// `ptrace`, or
///
/// - `unshare(CLONE_NEWPID)`, `unshare(CLONE_NEWTIME)`: with that flag alone;
/// - `mount(MS_BIND)`, `mount(MS_REMOUNT)`, `mount(MS_RDONLY)`: a new bind mount, a change of a mount, a new
///   filesystem that is read-only;
/// - `open-to-write`: openat(2) with the flags for a new file.
pub(crate) fn main(args: &[OsString]) -> Result {
    let mut args = args.iter();
    for rule in args.by_ref().take_while(|arg| *arg != "--") {
        let rule = rule.to_string_lossy();
        let (call, errno) = rule.split_once('=').ok_or_else(|| unknown(&rule))?;
        let errno = match errno {
            "EPERM" => Errno::EPERM,
            "EACCES" => Errno::EACCES,
            "EINVAL" => Errno::EINVAL,
            _ => return Err(unknown(&rule)),
        };
        install(call, errno).map_err(|error| Error::new(format!("seccomp: {rule}: {error}")))?;
    }
    let program = args.next().ok_or_else(|| Error::new("seccomp: there is nothing to start"))?;
    Err(Command::new(program).args(args).exec()).context("exec")
}

fn unknown(rule: &str) -> Error {
    Error::new(format!("seccomp: there is no rule {rule}"))
}

fn install(call: &str, errno: Errno) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let kinds = libc::MS_BIND | libc::MS_REMOUNT;
    let flag = |flag: i32| u64::from(flag.cast_unsigned());
    let to_write = flag(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC);
    // Of the bits in the second number, this argument has those of the third and no other.
    let only_namespace = |namespace| Some((0, u64::from(u32::MAX), flag(namespace)));
    let only_mount = |mask, flags| Some((3, mask, flags));
    let (number, only) = match call {
        "unshare" => (libc::SYS_unshare, None),
        "unshare(CLONE_NEWPID)" => (libc::SYS_unshare, only_namespace(libc::CLONE_NEWPID)),
        "unshare(CLONE_NEWTIME)" => (libc::SYS_unshare, only_namespace(libc::CLONE_NEWTIME)),
        "mount" => (libc::SYS_mount, None),
        "mount(MS_BIND)" => (libc::SYS_mount, only_mount(kinds, libc::MS_BIND)),
        "mount(MS_REMOUNT)" => (libc::SYS_mount, only_mount(libc::MS_REMOUNT, libc::MS_REMOUNT)),
        "mount(MS_RDONLY)" => {
            (libc::SYS_mount, only_mount(kinds | libc::MS_RDONLY, libc::MS_RDONLY))
        }
        "ptrace" => (libc::SYS_ptrace, None),
        "open-to-write" => (libc::SYS_openat, Some((2, to_write, to_write))),
        _ => return Err(unknown(call).into()),
    };
    let mut rules = Vec::new();
    if let Some((argument, mask, value)) = only {
        let (length, operator) = (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask));
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        rules.push(SeccompRule::new(vec![condition])?);
    }
    let filter = SeccompFilter::new(
        [(number, rules)].into(),
        SeccompAction::Allow,
        SeccompAction::Errno((errno as i32).cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}
