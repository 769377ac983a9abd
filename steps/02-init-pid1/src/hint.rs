//! Run by both, `run` and `init`, when the kernel has refused a call: what may
//! be the cause, and the way out.

use nix::errno::Errno;

/// For the call `tried`, as it stands in the message. One answer of the kernel
/// can have several causes; `just doctor` tries what tells them apart.
pub fn hint(tried: &str, errno: Errno) -> Option<&'static str> {
    let call = tried.split('(').next().unwrap_or(tried);
    Some(match (call, errno) {
        ("unshare", Errno::EPERM) => {
            "new namespaces are forbidden here, by a setting or a filter; `just doctor` says which"
        }
        ("unshare", Errno::ENOSPC) => {
            "a limit on namespaces, or 32 levels of them; `just doctor` says which"
        }
        ("unshare", Errno::EINVAL | Errno::ENOSYS) => {
            "this kernel may lack that kind of namespace; `just doctor` says what it has"
        }
        ("unshare" | "write" | "mount", Errno::EACCES) => {
            "a security module (AppArmor, SELinux) forbids it; `just doctor` says more"
        }
        ("write", Errno::EPERM) => {
            "root without all its rights, as in a container, or AppArmor; `just doctor` says which"
        }
        ("mount", Errno::EPERM) if tried.contains("proc") => {
            "/proc is covered in part, as in a container, or a filter forbids it; see `just doctor`"
        }
        ("mount", Errno::EPERM) => "a filter forbids mounts; `just doctor` says more",
        ("mount", Errno::EINVAL) => "`/` is no mount here: a chroot? `just doctor` says",
        ("open", Errno::ENOENT) if tried.contains("/dev/null") => {
            "there is no /dev/null here; with --ti, the command has our standard input instead"
        }
        (_, Errno::ENOENT) if tried.contains("/proc") => {
            "no procfs at /proc, or a dead container's: `umount /proc` or `mount -t proc proc /proc`"
        }
        (_, Errno::EAGAIN) => {
            "too many processes: a limit of the user's (`ulimit -u`) or a cgroup's"
        }
        _ => return None,
    })
}
