//! Why a call was refused, and what changes that.

use harness::{Call, CallError, Caller};
use nix::errno::Errno;
use nix::unistd::geteuid;

use super::advice::{self, Cause, HARMLESS, OTHER_KERNEL, SYSCTL, unknown};
use super::facts::{Facts, Place, SETFCAP, SYS_ADMIN, SYS_TIME, sysctl};
use super::processes;

/// Returns the most likely cause of a refusal. The order matters: a cause that can be proved comes before one that
/// is only likely.
pub(super) fn find(facts: &Facts, caller: Caller, error: CallError) -> Cause {
    let CallError { call, errno } = error;
    limit(facts, error)
        .or_else(|| processes::limit(facts, error))
        .or_else(|| kernel(call, errno))
        .or_else(|| surroundings(facts, caller, call, errno))
        .or_else(|| security_module(facts, errno))
        .or_else(|| privilege(facts, call, errno))
        .or_else(|| mounts(facts, call, errno))
        .or_else(|| filter(facts, call, errno))
        .unwrap_or_else(unknown)
}

/// A limit on namespaces.
fn limit(facts: &Facts, error: CallError) -> Option<Cause> {
    if error.errno != Errno::ENOSPC {
        return None;
    }
    let limit_of = |kind: &str| sysctl(&format!("user/max_{kind}_namespaces"));
    let kind = match error.call {
        Call::UnshareMount => "mnt",
        Call::UnshareTime => "time",
        // One call creates both.
        Call::UnshareUser if limit_of("pid").as_deref() != Some("0") => "user",
        _ => "pid",
    };
    let limit = limit_of(kind);
    let fix = format!("sudo sysctl user.max_{kind}_namespaces=10000");
    // How many PID namespaces deep we are, as far as this /proc knows.
    let levels = facts.field("NSpid:").split_whitespace().count();
    Some(if levels >= 32 && matches!(kind, "pid" | "user") {
        let why = "This shell is 32 PID namespaces deep, and the kernel allows no more.";
        Cause::new(why, "exit", "This exits this shell, and with it the container that it runs in.")
    } else if limit.as_deref() == Some("0") {
        let why = format!("user.max_{kind}_namespaces is 0, so such namespaces can't be created.");
        Cause::new(why, &fix, SYSCTL)
    } else {
        let limit = limit.unwrap_or_else(|| "unknown".to_owned());
        let why = format!(
            "There are too many namespaces. Either user.max_{kind}_namespaces ({limit}) is reached, here or in an \
             outer user namespace, or namespaces are nested 32 levels deep."
        );
        Cause::new(why, &fix, SYSCTL)
    })
}

/// A kernel that doesn't have it.
fn kernel(call: Call, errno: Errno) -> Option<Cause> {
    let missing = matches!(errno, Errno::EINVAL | Errno::ENOSYS);
    (call.is_unshare() && missing).then(|| {
        let why = "This kernel was built without that kind of namespace, or it isn't Linux but a program \
            that imitates Linux, such as gVisor.";
        Cause::new(why, OTHER_KERNEL, HARMLESS)
    })
}

/// A container, a chroot, a user namespace, or a setting around us.
fn surroundings(facts: &Facts, caller: Caller, call: Call, errno: Errno) -> Option<Cause> {
    let refused = errno == Errno::EPERM;
    let switch = "kernel/unprivileged_userns_clone";
    let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
    if facts.filtered && refused && (call.is_unshare() || call.is_mount()) {
        let why = "A seccomp filter refuses every call to unshare(2), whatever its flags. Container engines and \
            sandboxes install such filters.";
        return Some(advice::allow(facts, why));
    }
    if refused && call.is_unshare() && !facts.mapped {
        let why =
            "This process's user ID isn't mapped in its user namespace (see /proc/self/uid_map).";
        return Some(Cause::new(why, "unshare --user --map-root-user bash", HARMLESS));
    }
    if refused && call == Call::UnshareUser && sysctl(switch).as_deref() == Some("0") {
        let why = "kernel.unprivileged_userns_clone is 0, so only root can create user namespaces.";
        return Some(Cause::new(why, "sudo sysctl kernel.unprivileged_userns_clone=1", SYSCTL));
    }
    let not_a_mount = (call, errno) == (Call::MountPrivate, Errno::EINVAL);
    if facts.chroot && (not_a_mount || (refused && call.is_unshare())) {
        let why = "This is a chroot. The kernel creates no user namespace there, and `/` may not be a mount point.";
        return Some(Cause::new(why, "exit", "This exits only the shell in the chroot."));
    }
    let denied = refused || errno == Errno::EACCES;
    let restricted = || sysctl(apparmor).as_deref() == Some("1");
    if denied && caller == Caller::Rootless && restricted() {
        let why = "In a user namespace, AppArmor takes every capability away from a program without a profile \
            (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu since 23.10).";
        let fix = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0";
        return Some(Cause::new(why, fix, SYSCTL).not_tried());
    }
    None
}

/// A security module.
fn security_module(facts: &Facts, errno: Errno) -> Option<Cause> {
    if errno != Errno::EACCES {
        return None;
    }
    Some(match (facts.place, facts.apparmor_profile()) {
        (Place::Container(_), _) => {
            advice::allow(facts, "A security module, SELinux or AppArmor, forbids the call.")
        }
        (_, Some(profile)) => advice::apparmor(&profile),
        (_, None) => {
            let why = "A security module, SELinux or AppArmor, forbids the call.";
            let fix = "sudo dmesg | grep -E 'apparmor|avc'  # names the rule to add";
            Cause::new(why, fix, advice::RULE).not_tried()
        }
    })
}

/// Root without some of its capabilities.
fn privilege(facts: &Facts, call: Call, errno: Errno) -> Option<Cause> {
    let uid_map = (call, errno) == (Call::WriteUidMap, Errno::EPERM);
    if uid_map && geteuid().is_root() && !facts.has_capability(SETFCAP) {
        let why = "Root without CAP_SETFCAP, as in some containers, can't map user 0 into a user namespace.";
        return Some(advice::other_user(facts, why));
    }
    let offsets = (call, errno) == (Call::WriteTimensOffsets, Errno::EPERM);
    if offsets && facts.has_capability(SYS_ADMIN) && !facts.has_capability(SYS_TIME) {
        if let Place::Container(_) = facts.place {
            let why = "Root without CAP_SYS_TIME can create a time namespace but can't set its clock. The option \
                --cap-add SYS_ADMIN doesn't add CAP_SYS_TIME, and the steps don't need that option.";
            return Some(advice::allow(facts, why));
        }
        let why = "Root without CAP_SYS_TIME can create a time namespace but can't set its clock.";
        return Some(Cause::new(why, "unshare --user --map-root-user bash", HARMLESS));
    }
    None
}

/// The state of /proc and the mounts.
fn mounts(facts: &Facts, call: Call, errno: Errno) -> Option<Cause> {
    if call.is_write() && errno == Errno::EROFS {
        return Some(advice::writable_proc(facts, "/proc is read-only, as in some sandboxes."));
    }
    if call.is_mount() && errno == Errno::EINVAL {
        let why = "This kernel can't create this kind of mount. It's too old, or it isn't Linux but a program that imitates Linux, such \
            as gVisor, which can't change an existing mount.";
        return Some(Cause::new(why, OTHER_KERNEL, HARMLESS));
    }
    if (call, errno) == (Call::MountProc, Errno::EPERM) && !facts.covered().is_empty() {
        let why = format!(
            "Parts of /proc are covered ({}), usually by a container engine. In a user namespace, a process can mount \
             a new /proc only if it can see everything in the old one.",
            facts.covered().join(", ")
        );
        return Some(advice::uncovered_proc(facts, why));
    }
    (call.is_mount() && errno == Errno::EPERM).then(|| {
        let why = "A filter or a security module refuses mount(2). Container engines and sandboxes install such filters.";
        advice::allow(facts, why)
    })
}

/// A filter, a security module, or a chroot: the causes of EPERM from unshare(2) that are left.
fn filter(facts: &Facts, call: Call, errno: Errno) -> Option<Cause> {
    if !call.is_unshare() || errno != Errno::EPERM {
        return None;
    }
    if facts.place == Place::Service && facts.has_filter() {
        let why = "The unit of this systemd service forbids the call, for example with RestrictNamespaces= or \
            SystemCallFilter=.";
        return Some(advice::allow(facts, why));
    }
    if call == Call::UnshareTime {
        let why = "A seccomp filter or a security module refuses time namespaces, but allows other namespaces.";
        return Some(advice::allow(facts, why));
    }
    if let (Place::Host, Some(profile)) = (facts.place, facts.apparmor_profile()) {
        return Some(advice::apparmor(&profile));
    }
    let filter = if facts.has_filter() { ", a seccomp filter that checks the flags," } else { "" };
    let why = format!(
        "The cause is a chroot{filter} or a security module. Every setting that this program knows allows the call."
    );
    Some(advice::leave(facts, why))
}
