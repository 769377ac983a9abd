//! Moves the calling process, which must have one thread only, into namespaces.

use std::fs;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::call::{Call, CallError, CallResult};
use crate::error::Result;

/// A time namespace: time_namespaces(7), Linux 5.6 and later. nix has no name for the flag.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME);

/// Whether this process is PID 1 of a PID namespace that was made for it.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Declares that every other process in this PID namespace comes from this one, which is PID 1. From now on, a
/// supervisor that is to stop a fork bomb stops all of them at once.
pub fn own_pid_namespace() {
    IS_OURS.store(true, Ordering::Relaxed);
}

pub(crate) fn is_ours() -> bool {
    IS_OURS.load(Ordering::Relaxed) && process::id() == 1
}

/// Enters a new user namespace as its root, and the other new namespaces of `flags`.
///
/// # Errors
/// The call that was refused.
pub fn enter_user_namespace(flags: CloneFlags) -> CallResult {
    let (uid, gid) = (geteuid().to_string(), getegid().to_string());
    unshare(CloneFlags::CLONE_NEWUSER | flags).map_err(Call::UnshareUser.failed())?;
    map_ids("0", &uid, "0", &gid)
}

/// Maps one user and one group of the calling process's new user namespace to those outside.
///
/// # Errors
/// The call that was refused.
pub fn map_ids(uid: &str, outer_uid: &str, gid: &str, outer_gid: &str) -> CallResult {
    let write = |path: &str, call: Call, text: String| fs::write(path, text).map_err(call.failed());
    write("/proc/self/setgroups", Call::WriteSetgroups, "deny".into())?;
    write("/proc/self/uid_map", Call::WriteUidMap, format!("{uid} {outer_uid} 1"))?;
    write("/proc/self/gid_map", Call::WriteGidMap, format!("{gid} {outer_gid} 1"))
}

/// Enters a mount namespace that the host doesn't see, and that doesn't see what the host mounts from now on.
pub(crate) fn enter_private_mounts() -> CallResult {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Call::UnshareMount.failed())?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(Call::MountPrivate.failed())
}

/// Does so if that's allowed. Returns false without CAP_SYS_ADMIN, because then no one here can change the host's
/// mounts anyway.
///
/// # Errors
/// The kernel refused for another reason.
pub fn make_mounts_private() -> Result<bool> {
    match enter_private_mounts() {
        Err(CallError { call: Call::UnshareMount, errno: Errno::EPERM }) => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}
