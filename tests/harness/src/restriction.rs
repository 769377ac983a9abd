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
    /// /proc belongs to a PID namespace that is dead, as after a run without private mounts.
    DeadProc,
    /// A filesystem is mounted on /proc/sys/fs/binfmt_misc, and there's no CAP_SYS_ADMIN. That covers nothing.
    BinfmtMisc,
    /// /dev is an empty directory.
    NoDev,
    /// /dev/null is a regular file.
    NullIsFile,
    /// /dev/null can't be opened, because its mount is nodev. Mode 0600 has the same effect on an ordinary user.
    NullRefused,
    /// /proc shows processes and nothing else (mount option subset=pid).
    ProcSubset,
    /// SIGCHLD is ignored, as some programs leave it for those that they start.
    IgnoredSigchld,
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
    /// A filter refuses unshare(2) with EINVAL for a time namespace, as a kernel before 5.6 does.
    NoTimeNsKernel,
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
/// Does so as PID 1 of a PID namespace.
const IN_PID_NAMESPACE: &[&str] =
    &["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c"];
/// Becomes the words that follow, without CAP_SYS_ADMIN.
const DROP_ADMIN: &str = "exec setpriv --bounding-set -sys_admin \"$@\"";

impl Restriction {
    /// Every restriction, in the order of their definition.
    pub const ALL: [Self; 37] = [
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
        DeadProc,
        BinfmtMisc,
        NoDev,
        NullIsFile,
        NullRefused,
        ProcSubset,
        IgnoredSigchld,
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
        NoTimeNsKernel,
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
            IgnoredSigchld => &["env"],
            _ => &["unshare", "mount", "setpriv"],
        };
        let tools = tools.iter().copied().map(Requirement::Tool);
        // A program that's root there may be an ordinary user here.
        let procfs = matches!(self, ProcSubset | DeadProc | BinfmtMisc);
        let procfs = procfs.then_some(Requirement::UsernsProcfs);
        tools.chain(procfs).collect()
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
            NoTimeNsKernel => &["unshare(CLONE_NEWTIME)=EINVAL"],
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
            DeadProc => {
                script(WITH_MOUNTS, "unshare --pid --fork mount -t proc proc /proc && exec \"$@\"")
            }
            BinfmtMisc => script(
                WITH_MOUNTS,
                &format!("mount -t tmpfs none /proc/sys/fs/binfmt_misc && {DROP_ADMIN}"),
            ),
            NoDev => script(WITH_MOUNTS, "mount -t tmpfs none /dev && exec \"$@\""),
            NullIsFile => script(
                WITH_MOUNTS,
                "mount -t tmpfs none /mnt && : >/mnt/null && mount --bind /mnt/null /dev/null && exec \"$@\"",
            ),
            NullRefused => script(
                WITH_MOUNTS,
                "mount --bind /dev/null /dev/null && mount -o remount,bind,nodev /dev/null && exec \"$@\"",
            ),
            // The shell stays PID 1, so that the program isn't.
            ProcSubset => script(
                IN_PID_NAMESPACE,
                "mount -t proc -o subset=pid proc /proc && \"$@\"; exit \"$?\"",
            ),
            IgnoredSigchld => words(&["env", "--ignore-signal=CHLD"]),
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
