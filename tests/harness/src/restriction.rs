//! Places where the kernel refuses something, made for a single run.

use crate::caller::Caller;
use crate::error::Result;
use crate::program::Program;
use crate::requirement::Requirement;
use crate::runc;
use crate::supervisor::Supervisor;

/// A way to make a place.
enum Recipe {
    /// The rules of a seccomp filter.
    Filter(&'static [&'static str]),
    /// A program and its options. The words that follow are what it starts.
    Words(&'static [&'static str]),
    /// A shell, a script, and how the script starts the words that follow.
    Script(&'static [&'static str], &'static str, &'static str),
}

use Recipe::*;

/// Starts the helper. The supervisor is the helper, and so is what this path leads to from there.
const HELPER: &[&str] = &["/proc/self/exe", "as"];
const SHELL: &[&str] = &["sh", "-c"];
/// Starts a shell script as root of a user namespace.
const AS_ROOT: &[&str] = &["unshare", "--user", "--map-root-user", "sh", "-c"];
/// Does so with its own mounts.
const WITH_MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
/// Does so as PID 1 of a PID namespace.
const IN_PID_NAMESPACE: &[&str] =
    &["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c"];

const EXEC: &str = "exec \"$@\"";
/// Does so without CAP_SYS_ADMIN.
const DROP_ADMIN: &str = "exec setpriv --bounding-set -sys_admin \"$@\"";

/// Defines the places, each with the recipe that makes it.
macro_rules! restrictions {
    ($($(#[$doc:meta])* $name:ident => $recipe:expr;)*) => {
        /// A place in which a program can't have everything. It's made of namespaces, limits, and filters that end
        /// with the run. Only [`Restriction::Runc`] needs a container engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Restriction { $($(#[$doc])* $name),* }

        use Restriction::*;

        impl Restriction {
            /// Lists every restriction, in the order of their definition.
            pub fn all() -> impl Iterator<Item = Self> {
                [$($name),*].into_iter()
            }

            fn recipe(self) -> Recipe {
                match self { $($name => $recipe),* }
            }
        }
    };
}

restrictions! {
    /// A user namespace without an ID map, so without CAP_SYS_ADMIN. The kernel creates no user namespace for a
    /// user who isn't mapped.
    UnmappedUser => Words(&["unshare", "--user"]);
    /// A chroot that looks like the host, without CAP_SYS_ADMIN. The kernel creates no user namespace there.
    // Every mount once more, below /tmp. The old /tmp is then at /tmp in the chroot.
    Chroot => Script(
        WITH_MOUNTS,
        "mount --rbind / /tmp",
        "exec chroot /tmp setpriv --bounding-set -sys_admin \"$@\"",
    );
    /// A chroot whose `/` isn't a mount point, with CAP_SYS_ADMIN.
    ChrootNotMounted => Script(
        WITH_MOUNTS,
        "mount -t tmpfs none /mnt && mkdir /mnt/root && cd /mnt/root && for path in /*; do \
         test -d \"$path\" || continue; mkdir \".$path\" && mount --rbind \"$path\" \".$path\" || exit; \
         done",
        "exec chroot . \"$@\"",
    );
    /// No CAP_SYS_ADMIN, and user.max_user_namespaces is 0.
    UserNsLimit => Script(AS_ROOT, "echo 0 >/proc/sys/user/max_user_namespaces", DROP_ADMIN);
    /// user.max_pid_namespaces is 0.
    PidNsLimit => Script(AS_ROOT, "echo 0 >/proc/sys/user/max_pid_namespaces", EXEC);
    /// 32 levels of PID namespaces, as many as the kernel allows (pid_namespaces(7)).
    MaxPidNesting => Words(&["/proc/self/exe", "as", "nest-pidns", "--"]);
    /// A part of /proc is covered, as engines do, by someone with more privileges.
    CoveredProc => Script(WITH_MOUNTS, "mount -t tmpfs none /proc/sys", DROP_ADMIN);
    /// `/` is read-only.
    ReadOnlyRoot => Script(WITH_MOUNTS, "mount -o remount,bind,ro /", EXEC);
    /// /proc is an empty directory.
    NoProc => Script(WITH_MOUNTS, "mount -t tmpfs none /proc", EXEC);
    /// /proc is an empty directory, and there's no CAP_SYS_ADMIN.
    NoProcRootless => Script(WITH_MOUNTS, "mount -t tmpfs none /proc", DROP_ADMIN);
    /// /proc belongs to a PID namespace that is dead, as after a run without private mounts.
    DeadProc => Script(WITH_MOUNTS, "unshare --pid --fork mount -t proc proc /proc", EXEC);
    /// A filesystem is mounted on /proc/sys/fs/binfmt_misc, and there's no CAP_SYS_ADMIN. That covers nothing.
    BinfmtMisc => Script(WITH_MOUNTS, "mount -t tmpfs none /proc/sys/fs/binfmt_misc", DROP_ADMIN);
    /// /dev is an empty directory.
    NoDev => Script(WITH_MOUNTS, "mount -t tmpfs none /dev", EXEC);
    /// /dev/null is a regular file.
    NullIsFile => Script(
        WITH_MOUNTS,
        "mount -t tmpfs none /mnt && : >/mnt/null && mount --bind /mnt/null /dev/null",
        EXEC,
    );
    /// /dev/null can't be opened, because its mount is nodev. Mode 0600 has the same effect on an ordinary user.
    NullRefused => Script(
        WITH_MOUNTS,
        "mount --bind /dev/null /dev/null && mount -o remount,bind,nodev /dev/null",
        EXEC,
    );
    /// /proc shows processes and nothing else (mount option subset=pid).
    // The shell stays PID 1, so that the program isn't.
    ProcSubset => Script(
        IN_PID_NAMESPACE,
        "mount -t proc -o subset=pid proc /proc",
        "\"$@\"; exit \"$?\"",
    );
    /// SIGCHLD is ignored, as some programs leave it for those that they start.
    IgnoredSigchld => Words(&["env", "--ignore-signal=CHLD"]);
    /// The working directory was deleted.
    DeletedDirectory => Script(SHELL, "dir=$(mktemp -d) && cd \"$dir\" && rmdir \"$dir\"", EXEC);
    /// The environment has no PATH.
    NoPath => Words(&["env", "--unset=PATH"]);
    /// The user may have one process (`ulimit -u 1`). That doesn't bind real root.
    ProcessLimit => Words(&["prlimit", "--nproc=1"]);
    /// A filter refuses unshare(2) and mount(2) with EPERM, as container engines do.
    NoUnshareNoMount => Filter(&["unshare=EPERM", "mount=EPERM"]);
    /// A filter refuses mount(2) with EPERM.
    NoMount => Filter(&["mount=EPERM"]);
    /// A filter refuses unshare(2) with EINVAL, as a kernel without that kind of namespace does.
    NoNamespaces => Filter(&["unshare=EINVAL"]);
    /// A filter refuses with EACCES to open a file for writing. AppArmor has the same effect on
    /// /proc/self/setgroups if it gives no capabilities in a new user namespace, as on Ubuntu 24.04.
    UsernsWithoutCaps => Filter(&["unshare(CLONE_NEWPID)=EPERM", "open-to-write=EACCES"]);
    /// A filter refuses unshare(2) with EACCES, as SELinux and AppArmor do.
    SecurityModule => Filter(&["unshare=EACCES"]);
    /// A container that runc made with the configuration `runc spec` writes.
    // The command line is in the container's configuration. Some versions of runc mount themselves for a moment, so
    // it gets private mounts if that's allowed.
    Runc => Script(
        SHELL,
        "private='unshare --mount --propagation private'; $private true 2>/dev/null || private=",
        "exec $private runc --root state run --bundle bundle \"course-$$\"",
    );
    /// A filter refuses unshare(2) with EPERM for a time namespace alone.
    NoTimeNs => Filter(&["unshare(CLONE_NEWTIME)=EPERM"]);
    /// A filter refuses unshare(2) with EINVAL for a time namespace, as a kernel before 5.6 does.
    NoTimeNsKernel => Filter(&["unshare(CLONE_NEWTIME)=EINVAL"]);
    /// user.max_time_namespaces is 0.
    TimeNsLimit => Script(AS_ROOT, "echo 0 >/proc/sys/user/max_time_namespaces", EXEC);
    /// Root without CAP_SYS_TIME, who may create a time namespace and not set its clock.
    NoSysTime => Script(AS_ROOT, ":", "exec setpriv --bounding-set -sys_time \"$@\"");
    /// /proc is read-only.
    ReadOnlyProc => Script(WITH_MOUNTS, "mount -o remount,bind,ro /proc", EXEC);
    /// A filter refuses with EACCES to open a file for writing, as a security module may.
    NoWriting => Filter(&["open-to-write=EACCES"]);
    /// A filter refuses bind mounts with EPERM.
    NoBind => Filter(&["mount(MS_BIND)=EPERM"]);
    /// A filter refuses bind mounts with EACCES, as SELinux and AppArmor do.
    BindForbidden => Filter(&["mount(MS_BIND)=EACCES"]);
    /// A filter refuses read-only filesystems with EPERM.
    NoTmpfs => Filter(&["mount(MS_RDONLY)=EPERM"]);
    /// A filter refuses with EPERM to change a mount.
    NoRemount => Filter(&["mount(MS_REMOUNT)=EPERM"]);
    /// A filter refuses that with EINVAL, as gVisor does.
    RemountUnsupported => Filter(&["mount(MS_REMOUNT)=EINVAL"]);
}

impl Restriction {
    /// Returns what a machine needs to make it.
    pub fn requirements(self) -> Vec<Requirement> {
        let tools: &[&'static str] = match (self, self.recipe()) {
            (MaxPidNesting | DeletedDirectory | NoPath, _) | (_, Filter(_)) => &[],
            (Runc, _) => &["runc", "unshare"],
            (ProcessLimit, _) => &["prlimit"],
            (IgnoredSigchld, _) => &["env"],
            _ => &["unshare", "mount", "setpriv"],
        };
        let tools = tools.iter().copied().map(Requirement::Tool);
        // A program that's root there may be an ordinary user here.
        let procfs = matches!(self, ProcSubset | DeadProc | BinfmtMisc);
        let procfs = procfs.then_some(Requirement::Procfs(Caller::Rootless));
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

    /// Returns the command line that makes it, and then starts the words that follow.
    fn wrapper(self) -> Vec<String> {
        let words = |lists: &[&[&str]]| lists.concat().into_iter().map(str::to_owned).collect();
        match self.recipe() {
            Filter(rules) => words(&[HELPER, &["seccomp"], rules, &["--"]]),
            Words(list) => words(&[list]),
            Script(shell, script, start) => {
                words(&[shell, &[&format!("{script} && {start}"), "sh"]])
            }
        }
    }
}
