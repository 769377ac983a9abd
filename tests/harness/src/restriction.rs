//! Places where the kernel refuses something, made for a single run.

use crate::environment::Caller;
use crate::error::Result;
use crate::program::Program;
use crate::requirement::Requirement;
use crate::runc;
use crate::supervisor::Supervisor;

/// A place in which a program can't have everything. It's made of namespaces, limits and filters that end with
/// the run. Only [`Restriction::Runc`] needs a container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// A user namespace without an ID map, so without CAP_SYS_ADMIN. The kernel creates no user namespace for a
    /// user who isn't mapped.
    UnmappedUser,
    /// A chroot that looks like the host, without CAP_SYS_ADMIN. The kernel creates no user namespace there.
    Chroot,
    /// A chroot whose `/` isn't a mount point, with CAP_SYS_ADMIN.
    ChrootNotMounted,
    /// No CAP_SYS_ADMIN, and user.max_user_namespaces is 0.
    UserNsLimit,
    /// user.max_pid_namespaces is 0.
    PidNsLimit,
    /// 32 levels of PID namespaces, as many as the kernel allows (pid_namespaces(7)).
    MaxPidNesting,
    /// A part of /proc is covered, as engines do, by someone with more privileges.
    CoveredProc,
    /// `/` is read-only.
    ReadOnlyRoot,
    /// /proc is an empty directory.
    NoProc,
    /// /proc is an empty directory, and there's no CAP_SYS_ADMIN.
    NoProcRootless,
    /// /dev is an empty directory.
    NoDev,
    /// The working directory was deleted.
    DeletedDirectory,
    /// The environment has no PATH.
    NoPath,
    /// The user may have one process (`ulimit -u 1`). That doesn't bind real root.
    ProcessLimit,
    /// A filter refuses unshare(2) and mount(2) with EPERM, as container engines do.
    NoUnshareNoMount,
    /// A filter refuses mount(2) with EPERM.
    NoMount,
    /// A filter refuses unshare(2) with EINVAL, as a kernel without that kind of namespace does.
    NoNamespaces,
    /// A filter refuses with EACCES to open a file for writing. AppArmor has the same effect on
    /// /proc/self/setgroups if it gives no capabilities in a new user namespace, as on Ubuntu 24.04.
    UsernsWithoutCaps,
    /// A filter refuses unshare(2) with EACCES, as SELinux and AppArmor do.
    SecurityModule,
    /// A container that runc made with the configuration `runc spec` writes.
    Runc,
    /// A filter refuses unshare(2) with EPERM for a time namespace alone.
    NoTimeNs,
    /// user.max_time_namespaces is 0.
    TimeNsLimit,
    /// Root without CAP_SYS_TIME, who may create a time namespace and not set its clock.
    NoSysTime,
    /// /proc is read-only.
    ReadOnlyProc,
    /// A filter refuses with EACCES to open a file for writing, as a security module may.
    NoWriting,
    /// A filter refuses bind mounts with EPERM.
    NoBind,
    /// A filter refuses bind mounts with EACCES, as SELinux and AppArmor do.
    BindForbidden,
    /// A filter refuses read-only filesystems with EPERM.
    NoTmpfs,
    /// A filter refuses with EPERM to change a mount.
    NoRemount,
    /// A filter refuses that with EINVAL, as gVisor does.
    RemountUnsupported,
}

use Restriction::*;

/// Starts a shell script as root of a user namespace.
const AS_ROOT: &[&str] = &["unshare", "--user", "--map-root-user", "sh", "-c"];
/// Does so with mounts of its own.
const WITH_MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
/// Becomes the words that follow, without CAP_SYS_ADMIN.
const DROP_ADMIN: &str = "exec setpriv --bounding-set -sys_admin \"$@\"";

impl Restriction {
    /// Every restriction, in the order of their definition.
    pub const ALL: [Self; 30] = [
        UnmappedUser,
        Chroot,
        ChrootNotMounted,
        UserNsLimit,
        PidNsLimit,
        MaxPidNesting,
        CoveredProc,
        ReadOnlyRoot,
        NoProc,
        NoProcRootless,
        NoDev,
        DeletedDirectory,
        NoPath,
        ProcessLimit,
        NoUnshareNoMount,
        NoMount,
        NoNamespaces,
        UsernsWithoutCaps,
        SecurityModule,
        Runc,
        NoTimeNs,
        TimeNsLimit,
        NoSysTime,
        ReadOnlyProc,
        NoWriting,
        NoBind,
        BindForbidden,
        NoTmpfs,
        NoRemount,
        RemountUnsupported,
    ];

    /// Returns what a machine needs to make it.
    pub fn requirements(self) -> Vec<Requirement> {
        let tools: &[&'static str] = match self {
            _ if self.filter().is_some() => &[],
            DeletedDirectory | NoPath | MaxPidNesting => &[],
            Runc => &["runc", "unshare"],
            ProcessLimit => &["prlimit"],
            _ => &["unshare", "mount", "setpriv"],
        };
        tools.iter().copied().map(Requirement::Tool).collect()
    }

    /// Whether it restricts this program's caller at all.
    pub fn binds(self, program: &Program) -> bool {
        self != ProcessLimit || program.caller() == Caller::Rootless
    }

    /// Prepares `program arg…` to be run there.
    ///
    /// # Errors
    /// `runc spec` failed.
    pub fn supervise(self, program: &Program, args: &[&str]) -> Result<Supervisor> {
        let supervisor = program.supervise(args).wrapped_by(&self.wrapper());
        if self == Runc {
            return Ok(supervisor.in_directory(&runc::bundle(program, args)?));
        }
        Ok(supervisor)
    }

    /// Returns the rules of the seccomp filter, for a restriction that is one.
    fn filter(self) -> Option<&'static [&'static str]> {
        Some(match self {
            NoUnshareNoMount => &["unshare=EPERM", "mount=EPERM"],
            NoMount => &["mount=EPERM"],
            NoNamespaces => &["unshare=EINVAL"],
            UsernsWithoutCaps => &["unshare(CLONE_NEWPID)=EPERM", "open-to-write=EACCES"],
            SecurityModule => &["unshare=EACCES"],
            NoTimeNs => &["unshare(CLONE_NEWTIME)=EPERM"],
            NoWriting => &["open-to-write=EACCES"],
            NoBind => &["mount(MS_BIND)=EPERM"],
            BindForbidden => &["mount(MS_BIND)=EACCES"],
            NoTmpfs => &["mount(MS_RDONLY)=EPERM"],
            NoRemount => &["mount(MS_REMOUNT)=EPERM"],
            RemountUnsupported => &["mount(MS_REMOUNT)=EINVAL"],
            _ => return None,
        })
    }

    /// Returns the command line that makes it, and then starts the words that follow.
    fn wrapper(self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let script = |shell: &[&str], script: &str| words(&[shell, &[script, "sh"]].concat());
        // The supervisor is the helper, and so is what this path leads to from there.
        let helper = |args: &[&str]| words(&[&["/proc/self/exe", "as"], args, &["--"]].concat());
        if let Some(rules) = self.filter() {
            return helper(&[&["seccomp"], rules].concat());
        }
        match self {
            UnmappedUser => words(&["unshare", "--user"]),
            // Every mount once more, below /tmp. The old /tmp is then at /tmp in the chroot.
            Chroot => script(
                WITH_MOUNTS,
                &format!(
                    "mount --rbind / /tmp && {}",
                    DROP_ADMIN.replace("exec", "exec chroot /tmp")
                ),
            ),
            ChrootNotMounted => script(
                WITH_MOUNTS,
                "mount -t tmpfs none /mnt && mkdir /mnt/root && cd /mnt/root && for path in /*; do \
                 test -d \"$path\" || continue; mkdir \".$path\" && mount --rbind \"$path\" \".$path\" || exit; \
                 done; exec chroot . \"$@\"",
            ),
            UserNsLimit => script(
                AS_ROOT,
                &format!("echo 0 >/proc/sys/user/max_user_namespaces && {DROP_ADMIN}"),
            ),
            PidNsLimit => {
                script(AS_ROOT, "echo 0 >/proc/sys/user/max_pid_namespaces && exec \"$@\"")
            }
            TimeNsLimit => {
                script(AS_ROOT, "echo 0 >/proc/sys/user/max_time_namespaces && exec \"$@\"")
            }
            MaxPidNesting => helper(&["nest-pidns"]),
            CoveredProc => {
                script(WITH_MOUNTS, &format!("mount -t tmpfs none /proc/sys && {DROP_ADMIN}"))
            }
            ReadOnlyRoot => script(WITH_MOUNTS, "mount -o remount,bind,ro / && exec \"$@\""),
            ReadOnlyProc => script(WITH_MOUNTS, "mount -o remount,bind,ro /proc && exec \"$@\""),
            NoProc => script(WITH_MOUNTS, "mount -t tmpfs none /proc && exec \"$@\""),
            NoProcRootless => {
                script(WITH_MOUNTS, &format!("mount -t tmpfs none /proc && {DROP_ADMIN}"))
            }
            NoDev => script(WITH_MOUNTS, "mount -t tmpfs none /dev && exec \"$@\""),
            NoSysTime => script(AS_ROOT, "exec setpriv --bounding-set -sys_time \"$@\""),
            DeletedDirectory => script(
                &["sh", "-c"],
                "dir=$(mktemp -d) && cd \"$dir\" && rmdir \"$dir\" && exec \"$@\"",
            ),
            NoPath => words(&["env", "--unset=PATH"]),
            ProcessLimit => words(&["prlimit", "--nproc=1"]),
            // The command line is in the container's configuration. Some versions of runc mount themselves for
            // a moment, so it gets private mounts if that's allowed.
            _ => script(
                &["sh", "-c"],
                "private='unshare --mount --propagation private'; $private true 2>/dev/null || private=; \
                 exec $private runc --root state run --bundle bundle \"course-$$\"",
            ),
        }
    }
}
