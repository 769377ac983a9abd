//! Why a call was refused, and what changes that.

use harness::{Call, CallError, Caller};
use nix::errno::Errno;

use super::facts::{Facts, SETFCAP, SYS_TIME, sysctl};

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The reason.
    pub(super) why: String,
    /// The command or setting that changes it.
    pub(super) fix: &'static str,
    /// Who can then do what.
    pub(super) risk: &'static str,
}

impl Cause {
    fn new(why: impl Into<String>, fix: &'static str, risk: &'static str) -> Self {
        Cause { why: why.into(), fix, risk }
    }
}

const SYSCTL: &str = "Programs of every user can then reach parts of the kernel that only root could reach, and flaws \
    in those have been used to become root. The setting lasts until the next boot. A file in /etc/sysctl.d keeps it.";
const ENGINE: &str = "Programs in such a container can reach more of the host's kernel. Use these options only for the \
    course, never with code you don't trust. A virtual machine needs none of this.";
pub(super) const HARMLESS: &str = "This changes nothing for anyone else.";
const SECCOMP: &str = "Docker: --security-opt seccomp=unconfined --security-opt systempaths=unconfined; \
    Podman: --security-opt seccomp=unconfined --security-opt unmask=ALL";
const OTHER_KERNEL: &str =
    "Use another kernel: that of a usual distribution, 5.6 or later, in a virtual machine.";

/// Returns the cause if nothing else fits.
pub(super) fn unknown() -> Cause {
    Cause::new(
        "The cause isn't known to this program.",
        "Please open an issue with everything that is written here.",
        "Nothing in it names you or your machine.",
    )
}

/// Returns the most likely cause of a refusal. The order matters: a cause that can be proved comes before one that
/// is only likely.
pub(super) fn find(facts: &Facts, caller: Caller, error: CallError) -> Cause {
    let CallError { call, errno } = error;
    limit(facts, error)
        .or_else(|| kernel(call, errno))
        .or_else(|| surroundings(facts, caller, call, errno))
        .or_else(|| security_module(errno))
        .or_else(|| privilege(facts, caller, call, errno))
        .or_else(|| mounts(facts, call, errno))
        .or_else(|| filter(caller, call, errno))
        .unwrap_or_else(unknown)
}

/// A limit on namespaces.
fn limit(facts: &Facts, error: CallError) -> Option<Cause> {
    if error.errno != Errno::ENOSPC {
        return None;
    }
    let (kind, fix) = match error.call {
        Call::UnshareUser => ("user", "sudo sysctl user.max_user_namespaces=10000"),
        Call::UnshareMount => ("mnt", "sudo sysctl user.max_mnt_namespaces=10000"),
        Call::UnshareTime => ("time", "sudo sysctl user.max_time_namespaces=10000"),
        _ => ("pid", "sudo sysctl user.max_pid_namespaces=10000"),
    };
    let limit = sysctl(&format!("user/max_{kind}_namespaces"));
    Some(if facts.pid_levels() >= 32 && kind == "pid" {
        let why = "This shell is 32 PID namespaces deep, and the kernel allows no more.";
        Cause::new(why, "Leave some of them: exit", HARMLESS)
    } else if limit.as_deref() == Some("0") {
        let why = format!("user.max_{kind}_namespaces is 0, so such namespaces can't be created.");
        Cause::new(why, fix, SYSCTL)
    } else {
        let limit = limit.unwrap_or_else(|| "unknown".to_owned());
        let why = format!(
            "The limit on namespaces (user.max_{kind}_namespaces, {limit}) is used up, or that of an outer user \
             namespace is, or namespaces are 32 levels deep."
        );
        Cause::new(why, fix, SYSCTL)
    })
}

/// A kernel that doesn't have it.
fn kernel(call: Call, errno: Errno) -> Option<Cause> {
    let missing = matches!(errno, Errno::EINVAL | Errno::ENOSYS);
    (call.is_unshare() && missing).then(|| {
        let why = "This kernel was built without that kind of namespace, or it isn't a Linux kernel but a program \
            that answers like one.";
        Cause::new(why, OTHER_KERNEL, HARMLESS)
    })
}

/// A container, a chroot, a user namespace or a setting around us.
fn surroundings(facts: &Facts, caller: Caller, call: Call, errno: Errno) -> Option<Cause> {
    let refused = errno == Errno::EPERM;
    let switch = "kernel/unprivileged_userns_clone";
    let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
    let user = caller == Caller::Rootless;
    if facts.filtered && refused && (call.is_unshare() || call.is_mount()) {
        let why = "A seccomp filter refuses the call unshare(2), whatever it's asked for. Container engines have \
            such a filter.";
        return Some(Cause::new(why, SECCOMP, ENGINE));
    }
    if refused && call.is_unshare() && !facts.mapped {
        let why =
            "This process's user has no number in its user namespace (see /proc/self/uid_map).";
        let fix = "Map it: unshare --user --map-root-user instead of unshare --user";
        return Some(Cause::new(why, fix, HARMLESS));
    }
    if refused && call.is_unshare() && user && sysctl(switch).as_deref() == Some("0") {
        let why = "kernel.unprivileged_userns_clone is 0, so only root can create user namespaces.";
        let fix = "sudo sysctl kernel.unprivileged_userns_clone=1";
        return Some(Cause::new(why, fix, SYSCTL));
    }
    let not_a_mount = (call, errno) == (Call::MountPrivate, Errno::EINVAL);
    if facts.chroot && (not_a_mount || (refused && call.is_unshare())) {
        let why = "This is a chroot. The kernel creates no user namespace there, and `/` may not be a mount point.";
        let fix =
            "Leave the chroot, or enter it with pivot_root(2), as bwrap and container engines do.";
        return Some(Cause::new(why, fix, HARMLESS));
    }
    if user && sysctl(apparmor).as_deref() == Some("1") {
        let why = "AppArmor gives a program without a profile no capabilities in a user namespace \
            (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu since 23.10).";
        let fix = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0";
        return Some(Cause::new(why, fix, SYSCTL));
    }
    None
}

/// A security module.
fn security_module(errno: Errno) -> Option<Cause> {
    (errno == Errno::EACCES).then(|| {
        let why = "A security module forbids it: SELinux or AppArmor. Its log names the rule (sudo dmesg, or \
            sudo ausearch -m avc).";
        let fix = "Add a rule for this program to that module, or run the steps as root.";
        Cause::new(why, fix, "A rule for one program allows it to that program only.")
    })
}

/// Root without some of its capabilities.
fn privilege(facts: &Facts, caller: Caller, call: Call, errno: Errno) -> Option<Cause> {
    let uid_map = (call, errno) == (Call::WriteUidMap, Errno::EPERM);
    if uid_map && !facts.has_capability(SETFCAP) {
        let why = "Root without CAP_SETFCAP, as in a container, may not map user 0 into a user namespace.";
        let fix =
            "Be an ordinary user in the container (Docker: --user 1000), or add --cap-add SETFCAP";
        return Some(Cause::new(why, fix, ENGINE));
    }
    let offsets = (call, errno) == (Call::WriteTimensOffsets, Errno::EPERM);
    if offsets && caller == Caller::Root && !facts.has_capability(SYS_TIME) {
        let why = "Root without CAP_SYS_TIME, as in a container, may create a time namespace but not set its clock.";
        let fix =
            "Be an ordinary user in the container (Docker: --user 1000), or add --cap-add SYS_TIME";
        let risk = "With CAP_SYS_TIME, root of the container can set the host's clock. Prefer the other way.";
        return Some(Cause::new(why, fix, risk));
    }
    None
}

/// The state of /proc and the mounts.
fn mounts(facts: &Facts, call: Call, errno: Errno) -> Option<Cause> {
    if call.is_write() && errno == Errno::EROFS {
        let why = "/proc is read-only, as in a sandbox (bwrap --ro-bind / /).";
        let fix = "Start outside the sandbox, or give it its own /proc: bwrap --proc /proc";
        return Some(Cause::new(why, fix, HARMLESS));
    }
    if call.is_mount() && errno == Errno::EINVAL {
        let why = "This kernel can't mount like that. It's an old one, or it isn't a Linux kernel but a program that \
            answers like one, such as gVisor, which can't change a mount.";
        return Some(Cause::new(why, OTHER_KERNEL, HARMLESS));
    }
    if (call, errno) == (Call::MountProc, Errno::EPERM) && !facts.covered().is_empty() {
        let why = format!(
            "Parts of /proc are covered ({}), as container engines do. A process that can't see everything in the old \
             /proc gets no new one.",
            facts.covered().join(", ")
        );
        let fix =
            "Docker: --security-opt systempaths=unconfined; Podman: --security-opt unmask=ALL";
        return Some(Cause::new(why, fix, ENGINE));
    }
    (call.is_mount() && errno == Errno::EPERM).then(|| {
        let why =
            "A filter or a security module refuses mount(2). Container engines have such a filter.";
        Cause::new(why, SECCOMP, ENGINE)
    })
}

/// What is left to explain EPERM from unshare(2).
fn filter(caller: Caller, call: Call, errno: Errno) -> Option<Cause> {
    if !call.is_unshare() || errno != Errno::EPERM {
        return None;
    }
    Some(if call == Call::UnshareTime {
        let why = "A seccomp filter that looks at the flags, as a sandbox has: it allows a PID namespace, but no time \
            namespace.";
        let fix = "Start outside the sandbox or the container, or see its options.";
        Cause::new(why, fix, ENGINE)
    } else if caller == Caller::Root {
        let fix = "Docker, Podman: --cap-add SYS_ADMIN, or be an ordinary user if that's ok below.";
        let risk = "With CAP_SYS_ADMIN, root of the container is nearly root of the host. Prefer the other way.";
        Cause::new("Root without CAP_SYS_ADMIN, as in a container.", fix, risk)
    } else {
        let why = "One of these: a chroot, a seccomp filter that looks at the flags, a security module. Every setting \
            that this program knows allows it.";
        let fix = "Leave the chroot or the container, or see its engine's options.";
        Cause::new(why, fix, ENGINE)
    })
}
