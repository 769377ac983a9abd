//! Run by both, `run` and `init`, when the kernel has refused a call: what may
//! be the cause, and the way out.

use nix::errno::Errno;

/// For the call `tried`, as it stands in the message. One answer of the kernel
/// can have several causes; `just doctor` tries what tells them apart.
pub fn hint(tried: &str, errno: Errno) -> Option<&'static str> {
    let call = tried.split('(').next().unwrap_or(tried);
    Some(match (call, errno) {
        ("unshare", Errno::EPERM) if tried.contains("NEWTIME") => {
            "a filter forbids time namespaces: see `just doctor`"
        }
        ("unshare", Errno::EPERM) => {
            "namespaces are forbidden, by a setting or a filter: see `just doctor`"
        }
        ("unshare", Errno::ENOSPC) => {
            "a limit on namespaces, or 32 levels of them: see `just doctor`"
        }
        ("unshare", Errno::EINVAL | Errno::ENOSYS) => {
            "this kernel may lack that kind of namespace: see `just doctor`"
        }
        ("unshare" | "write" | "mount", Errno::EACCES) => {
            "a security module (AppArmor, SELinux) forbids it: see `just doctor`"
        }
        ("write", Errno::EPERM) if tried.contains("timens") => {
            "root without CAP_SYS_TIME (a container?), or AppArmor: `just doctor`"
        }
        ("write", Errno::EPERM) => {
            "root without all its rights (a container?), or AppArmor: `just doctor`"
        }
        ("write", Errno::EROFS) => "/proc is read-only here (a container?): see `just doctor`",
        ("mount", Errno::EPERM) if tried.starts_with("mount(proc,") => {
            "/proc is covered in part (a container?), or a filter: `just doctor`"
        }
        ("mount", Errno::EPERM) if tried.contains("MS_PRIVATE") => {
            "a filter forbids mounts: see `just doctor`"
        }
        ("mount", Errno::EPERM) => "a filter forbids this kind of mount: see `just doctor`",
        ("mount", Errno::EINVAL) if tried.contains("MS_PRIVATE") => {
            "`/` is no mount here; a chroot? See `just doctor`"
        }
        ("mount", Errno::EINVAL) => {
            "this kernel, or what poses as one (gVisor?), lacks it: `just doctor`"
        }
        (_, Errno::ENOENT) if tried.contains("/dev/null") => {
            "there is no /dev/null here: as root, mknod -m 666 /dev/null c 1 3"
        }
        (_, Errno::ENOENT) if tried.contains("/proc") => {
            "no procfs here, or a dead one: mount -t proc proc /proc, or umount /proc"
        }
        (_, Errno::ECHILD) => "SIGCHLD is ignored: start it through `env --default-signal=CHLD`",
        (_, Errno::EAGAIN) => "too many processes: the user's limit (`ulimit -u`), or a cgroup's",
        _ => return None,
    })
}
