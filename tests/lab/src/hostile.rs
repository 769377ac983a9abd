use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use regex_lite::Regex;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use serde_json::{Value, json};

use crate::Ability;
use crate::ability::attempts::user_namespace;
use crate::contract::{Broken, Kept, expect, shell_status};
use crate::step::{Caller, Step};
use crate::transcript::Transcript;
use crate::watch::{Ended, Watch};

/// A place in which a step cannot have all that it wants. It is made on the spot for one run, in
/// namespaces, limits and filters that end with that run; no container engine is needed, except for
/// [`Hostile::Runc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// A user namespace in which nobody has a number. There is no CAP_SYS_ADMIN here, and no other user
    /// namespace to be had: unshare(2), EPERM, "no mapping in the parent namespace".
    Unmapped,
    /// A chroot that looks like the host, without CAP_SYS_ADMIN. A user namespace is refused there:
    /// unshare(2), EPERM, "in a chroot environment".
    Chroot,
    /// A chroot whose `/` is a directory of a mount and not itself one, with CAP_SYS_ADMIN.
    ChrootDirectory,
    /// No CAP_SYS_ADMIN, and user.max_user_namespaces is 0.
    NoUserNamespaces,
    /// user.max_pid_namespaces is 0.
    NoPidNamespaces,
    /// 32 levels of PID namespaces: the kernel allows no more (pid_namespaces(7)).
    Deep,
    /// A part of /proc is covered, as engines do, and whoever covered it has more rights than we.
    CoveredProc,
    /// `/` is read-only.
    ReadOnlyRoot,
    /// /proc is an empty directory.
    NoProc,
    /// The same, without CAP_SYS_ADMIN.
    NoProcRootless,
    /// /dev is an empty directory.
    NoDev,
    /// The working directory is deleted.
    DeletedDirectory,
    /// There is no PATH in the environment.
    NoPath,
    /// A limit of one process for this user, `ulimit -u 1`. It does not bind real root.
    FullOfProcesses,
    /// A seccomp filter refuses unshare(2) and mount(2) with EPERM, as those of container engines do.
    Filtered,
    /// A seccomp filter refuses mount(2) alone.
    NoMount,
    /// A seccomp filter refuses unshare(2) with EINVAL, as a kernel does that lacks a namespace.
    NoNamespaces,
    /// A seccomp filter refuses, with EACCES, to open a file for writing. So, and in these words, ends
    /// writing /proc/self/setgroups where AppArmor gives no rights in a new user namespace, as on
    /// Ubuntu 24.04: the kernel asks for CAP_SYS_ADMIN in it when the file is opened.
    NoRightsInside,
    /// A seccomp filter refuses unshare(2) with EACCES, the answer of SELinux, and of AppArmor where it
    /// forbids a user namespace altogether.
    Forbidden,
    /// A container that runc has made with the configuration that `runc spec` writes.
    Runc,
    /// A seccomp filter refuses unshare(2) with EPERM where it is asked for a time namespace, and allows
    /// the others.
    NoClock,
    /// user.max_time_namespaces is 0.
    NoTimeNamespaces,
    /// Root without CAP_SYS_TIME, as engines make it, who may make a time namespace and not set it.
    NoTimeRight,
    /// /proc is read-only.
    ReadOnlyProc,
    /// A seccomp filter refuses, with EACCES, to open a file for writing, as a security module may do.
    NoWriting,
    /// A seccomp filter refuses, with EPERM, to make a bind mount.
    NoBind,
    /// The same with EACCES, the answer of SELinux and AppArmor.
    BindForbidden,
    /// A seccomp filter refuses, with EPERM, to mount a file system that is read-only.
    NoTmpfs,
    /// A seccomp filter refuses, with EPERM, to change a mount.
    NoRemount,
    /// The same with EINVAL: so answers gVisor, which cannot do it.
    RemountUnknown,
}

use Hostile::*;

/// With a user namespace in which we are root.
const ROOT: &[&str] = &["unshare", "--user", "--map-root-user", "sh", "-c"];
/// And with mounts of our own.
const MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];

impl Hostile {
    /// Those that every step is tested in.
    pub const ALL: [Self; 20] = [
        Unmapped,
        Chroot,
        ChrootDirectory,
        NoUserNamespaces,
        NoPidNamespaces,
        Deep,
        CoveredProc,
        ReadOnlyRoot,
        NoProc,
        NoProcRootless,
        NoDev,
        DeletedDirectory,
        NoPath,
        FullOfProcesses,
        Filtered,
        NoMount,
        NoNamespaces,
        NoRightsInside,
        Forbidden,
        Runc,
    ];

    /// Those that refuse what no step before 05 asks for: a clock and masks. It alone is tested there.
    pub const CLOCK_AND_MASKS: [Self; 10] = [
        NoClock,
        NoTimeNamespaces,
        NoTimeRight,
        ReadOnlyProc,
        NoWriting,
        NoBind,
        BindForbidden,
        NoTmpfs,
        NoRemount,
        RemountUnknown,
    ];

    /// What the machine must have for it.
    pub fn needs(self) -> Vec<Ability> {
        match self {
            DeletedDirectory | NoPath | Deep => vec![],
            Filtered | NoMount | NoNamespaces | NoRightsInside | Forbidden => vec![],
            NoClock | NoWriting | NoBind | BindForbidden | NoTmpfs | NoRemount | RemountUnknown => {
                vec![]
            }
            Runc => ["runc", "unshare"].map(Ability::Tool).into(),
            FullOfProcesses => vec![Ability::Tool("prlimit")],
            _ => ["unshare", "mount", "setpriv"].map(Ability::Tool).into(),
        }
    }

    /// The command line that makes it, with room for another after it.
    fn made_by(self) -> Vec<&'static str> {
        let script = |unshare: &[&'static str], script| [unshare, &[script, "sh"]].concat();
        let lab = |words: &[&'static str]| [&["/proc/self/exe"], words, &["--"]].concat();
        match self {
            Unmapped => vec!["unshare", "--user"],
            // All mounts once more, at /tmp; the original /tmp is then at /tmp/tmp, and at /tmp in the
            // chroot.
            Chroot => script(
                MOUNTS,
                "mount --rbind / /tmp && exec chroot /tmp setpriv --bounding-set -sys_admin \"$@\"",
            ),
            ChrootDirectory => script(
                MOUNTS,
                "mount -t tmpfs none /mnt && mkdir /mnt/root && cd /mnt/root && for path in /*; do test -d \"$path\" || continue; \
                    mkdir \".$path\" && mount --rbind \"$path\" \".$path\" || exit; done; \
                exec chroot . \"$@\"",
            ),
            NoUserNamespaces => script(
                ROOT,
                "echo 0 >/proc/sys/user/max_user_namespaces && \
                exec setpriv --bounding-set -sys_admin \"$@\"",
            ),
            NoPidNamespaces => {
                script(ROOT, "echo 0 >/proc/sys/user/max_pid_namespaces && exec \"$@\"")
            }
            Deep => lab(&["deep"]),
            CoveredProc => script(
                MOUNTS,
                "mount -t tmpfs none /proc/sys && exec setpriv --bounding-set -sys_admin \"$@\"",
            ),
            ReadOnlyRoot => script(MOUNTS, "mount -o remount,bind,ro / && exec \"$@\""),
            NoProc => script(MOUNTS, "mount -t tmpfs none /proc && exec \"$@\""),
            NoProcRootless => script(
                MOUNTS,
                "mount -t tmpfs none /proc && exec setpriv --bounding-set -sys_admin \"$@\"",
            ),
            NoDev => script(MOUNTS, "mount -t tmpfs none /dev && exec \"$@\""),
            DeletedDirectory => script(
                &["sh", "-c"],
                "dir=$(mktemp -d) && cd \"$dir\" && rmdir \"$dir\" && exec \"$@\"",
            ),
            NoPath => vec!["env", "--unset=PATH"],
            FullOfProcesses => vec!["prlimit", "--nproc=1"],
            Filtered => lab(&["refuse", "--rule=unshare=EPERM", "--rule=mount=EPERM"]),
            NoMount => lab(&["refuse", "--rule=mount=EPERM"]),
            NoNamespaces => lab(&["refuse", "--rule=unshare=EINVAL"]),
            NoRightsInside => lab(&[
                "refuse",
                "--rule=unshare(CLONE_NEWPID)=EPERM",
                "--rule=open-to-write=EACCES",
            ]),
            Forbidden => lab(&["refuse", "--rule=unshare=EACCES"]),
            NoClock => lab(&["refuse", "--rule=unshare(CLONE_NEWTIME)=EPERM"]),
            NoTimeNamespaces => {
                script(ROOT, "echo 0 >/proc/sys/user/max_time_namespaces && exec \"$@\"")
            }
            NoTimeRight => script(ROOT, "exec setpriv --bounding-set -sys_time \"$@\""),
            ReadOnlyProc => script(MOUNTS, "mount -o remount,bind,ro /proc && exec \"$@\""),
            NoWriting => lab(&["refuse", "--rule=open-to-write=EACCES"]),
            NoBind => lab(&["refuse", "--rule=mount(MS_BIND)=EPERM"]),
            BindForbidden => lab(&["refuse", "--rule=mount(MS_BIND)=EACCES"]),
            NoTmpfs => lab(&["refuse", "--rule=mount(MS_RDONLY)=EPERM"]),
            NoRemount => lab(&["refuse", "--rule=mount(MS_REMOUNT)=EPERM"]),
            RemountUnknown => lab(&["refuse", "--rule=mount(MS_REMOUNT)=EINVAL"]),
            // The command line is in the container's configuration already. Apart from the host's mounts,
            // where that is allowed: some versions of runc mount themselves somewhere for a moment.
            Runc => vec![
                "sh",
                "-c",
                "apart='unshare --mount --propagation private'; $apart true 2>/dev/null || apart=; \
                exec $apart runc --root state run --bundle bundle \"lab-$$\"",
                "sh",
            ],
        }
    }

    /// `step` with the arguments `args`, to be run there.
    ///
    /// # Panics
    /// `runc spec` failed.
    pub fn watch(self, step: &Step, args: &[&str]) -> Watch {
        let mut watch = step.watch(args).through(&self.made_by());
        if self == Runc {
            let directory = tempfile::tempdir_in(step.directory()).expect("make a directory");
            let directory = directory.keep();
            bundle(step, &directory, args).expect("make a bundle for runc");
            watch = watch.in_directory(&directory);
        }
        watch
    }

    /// What a step says there, without its name and hint; nothing if it works all the same. Where a
    /// step takes another way for another caller, there is more than one answer.
    fn words(self, step: &Step) -> &'static [&'static str] {
        let number: u32 = step.name()[..2].parse().expect("a step's number");
        match (self, number) {
            (FullOfProcesses, 1) => &["exec sh: Try again (EAGAIN)"],
            (FullOfProcesses, _) => &["start /proc/self/exe: Try again (EAGAIN)"],
            (_, 1) | (DeletedDirectory | NoPath | ReadOnlyRoot, _) => &[],
            (CoveredProc | NoMount | ChrootDirectory, 2) => &[],
            (Unmapped | Chroot | Filtered, _) => {
                &["unshare(CLONE_NEWUSER|CLONE_NEWPID): Operation not permitted (EPERM)"]
            }
            (NoUserNamespaces, _) => {
                &["unshare(CLONE_NEWUSER|CLONE_NEWPID): No space left on device (ENOSPC)"]
            }
            (NoPidNamespaces | Deep, _) => {
                &["unshare(CLONE_NEWPID): No space left on device (ENOSPC)"]
            }
            // It sets a clock first, and asks /proc for the time.
            (NoProc, 5) => &["read(/proc/uptime): No such file or directory (ENOENT)"],
            (NoProc, _) => &["start /proc/self/exe: No such file or directory (ENOENT)"],
            (NoProcRootless, _) => {
                &["write(/proc/self/setgroups): No such file or directory (ENOENT)"]
            }
            (NoDev, _) => &["open(/dev/null): No such file or directory (ENOENT)"],
            (NoNamespaces, _) => &["unshare(CLONE_NEWPID): Invalid argument (EINVAL)"],
            (Forbidden, _) => &["unshare(CLONE_NEWPID): Permission denied (EACCES)"],
            (NoRightsInside, _) => &["write(/proc/self/setgroups): Permission denied (EACCES)"],
            (Runc, _) => &["write(/proc/self/uid_map): Operation not permitted (EPERM)"],
            (CoveredProc, _) => &["mount(proc, /proc): Operation not permitted (EPERM)"],
            (NoMount, _) => &["mount(/, MS_REC|MS_PRIVATE): Operation not permitted (EPERM)"],
            (ChrootDirectory, _) => &["mount(/, MS_REC|MS_PRIVATE): Invalid argument (EINVAL)"],
            (NoClock, _) => &["unshare(CLONE_NEWTIME): Operation not permitted (EPERM)"],
            (NoTimeNamespaces, _) => &["unshare(CLONE_NEWTIME): No space left on device (ENOSPC)"],
            (NoTimeRight, _) => {
                &["write(/proc/self/timens_offsets): Operation not permitted (EPERM)"]
            }
            (ReadOnlyProc, _) => {
                &["write(/proc/self/timens_offsets): Read-only file system (EROFS)"]
            }
            // Who is not root writes another file first.
            (NoWriting, _) => &[
                "write(/proc/self/timens_offsets): Permission denied (EACCES)",
                "write(/proc/self/setgroups): Permission denied (EACCES)",
            ],
            (NoBind, _) => {
                &["mount(/dev/null, /proc/keys, MS_BIND): Operation not permitted (EPERM)"]
            }
            (BindForbidden, _) => {
                &["mount(/dev/null, /proc/keys, MS_BIND): Permission denied (EACCES)"]
            }
            (NoTmpfs, _) => &["mount(tmpfs, /sys/firmware): Operation not permitted (EPERM)"],
            (NoRemount, _) => {
                &["mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY): Operation not permitted (EPERM)"]
            }
            (RemountUnknown, _) => {
                &["mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY): Invalid argument (EINVAL)"]
            }
        }
    }

    /// Whether the machine can make it, and the step's caller be stopped by it; see
    /// [`Ability::or_report`].
    pub fn stops(self, step: &Step) -> bool {
        // Real root has no limit on processes.
        let bound = self != FullOfProcesses || step.caller() == Caller::Rootless;
        bound && self.needs().into_iter().all(Ability::or_report)
    }

    /// What a step says there, with the host's PIDs renamed, and the first path that is masked always
    /// the same one. Nothing, where there is no such place for this caller.
    ///
    /// # Panics
    /// It leaves something behind.
    pub fn words_of(self, step: &Step) -> Option<String> {
        let said = self.stops(step).then(|| Transcript::of(self.watch(step, &["run", "true"])))?;
        // In runc's container a PID is no longer the host's.
        let text = if self == Runc { said.text } else { said.renamed(&[r"run PID: (\d+)"]) };
        Some(first_masked(&text))
    }
}

/// Which path is masked first, and so is in the message, depends on the kernel: not all have all. Here
/// the first file is always /proc/keys, and the first directory /sys/firmware.
fn first_masked(text: &str) -> String {
    let file = Regex::new(r"mount\(/dev/null, [^,]+,").expect("a regular expression");
    let text = file.replace(text, "mount(/dev/null, /proc/keys,");
    let directory = Regex::new(r"mount\(tmpfs, [^)]+\)").expect("a regular expression");
    directory.replace(&text, "mount(tmpfs, /sys/firmware)").into_owned()
}

/// What `step` does in `place` is right: the command's own status where it works; 125 and the call, the
/// errno and a hint where it does not (126 from step 01, which has nothing but the command). No panic;
/// no process and no mount is left.
///
/// # Errors
/// It is not.
pub fn fails_well(step: &Step, place: Hostile) -> Kept {
    if !place.stops(step) {
        return Ok(());
    }
    let first = step.name().starts_with("01");
    let probe = if place == ReadOnlyRoot { "! test -w / && exit 7" } else { "exit 7" };
    let watch = place.watch(step, &[if first { "command" } else { "run" }, "sh", "-c", probe]);
    let (said, Ended { status, left, mounts }) = Transcript::and_end(watch);
    let tried = format!("{place:?}: {}", said.text.lines().next().unwrap_or_default());
    let (words, printed) = (place.words(step), first_masked(&said.printed));
    let expected = match (words.is_empty(), first) {
        (true, _) => 7,
        (_, true) => 126,
        _ => 125,
    };
    let status = shell_status(status);
    expect(
        status == expected,
        &tried,
        format!("status {expected}"),
        format!("{status}: {printed}"),
    )?;
    let lines: Vec<_> = printed.lines().collect();
    let kept = words.is_empty()
        || words.iter().any(|words| {
            let message = format!("{}: {words}", step.name());
            match lines[..] {
                [.., last] if first => last == message,
                [.., before, last] => before == message && last.starts_with("hint: "),
                _ => false,
            }
        });
    expect(kept, &tried, format!("{words:?} and a hint"), &printed)?;
    let long = |line: &&&str| line.starts_with("hint: ") && line.chars().count() > 80;
    let long: Vec<_> = lines.iter().filter(long).copied().collect();
    expect(long.is_empty(), &tried, "hints of at most 80 columns", long.join("\n"))?;
    expect(!printed.contains("panicked"), &tried, "no panic", &printed)?;
    expect(left.is_empty(), &tried, "no process is left", left.join("\n"))?;
    expect(mounts.is_empty(), &tried, "no mount has changed", mounts.join("\n"))
}

/// Tests that the step whose program is `$program` fails well, in every place that there is.
#[macro_export]
macro_rules! refusal_tests {
    ($program:expr) => {
        mod refusals {
            use super::*;
            $crate::refusal_tests! { $program =>
                where_nobody_has_a_number Unmapped
                in_a_chroot Chroot
                in_a_chroot_that_is_no_mount ChrootDirectory
                with_no_user_namespace_to_be_had NoUserNamespaces
                with_no_pid_namespace_to_be_had NoPidNamespaces
                thirty_two_levels_down Deep
                under_a_proc_that_is_covered_in_part CoveredProc
                on_a_read_only_root ReadOnlyRoot
                without_proc NoProc
                without_proc_and_without_rights NoProcRootless
                without_dev_null NoDev
                in_a_directory_that_is_deleted DeletedDirectory
                without_a_path NoPath
                with_too_many_processes FullOfProcesses
                where_a_filter_refuses_unshare_and_mount Filtered
                where_a_filter_refuses_mount NoMount
                on_a_kernel_without_namespaces NoNamespaces
                with_no_rights_in_a_user_namespace NoRightsInside
                where_a_security_module_forbids_it Forbidden
                inside_runc Runc
            }
        }
    };
    ($program:expr => $($name:ident $place:ident)*) => {
        $(
            #[test]
            fn $name() {
                for step in $crate::callers($program) {
                    if let Err(broken) = $crate::fails_well(&step, $crate::Hostile::$place) {
                        panic!("{:?}: {broken}", step.caller());
                    }
                }
            }
        )*
    };
}

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{}\nexpected: {}\nseen:     {}", self.tried, self.expected, self.seen)
    }
}

/// A bundle for runc in `directory`: the configuration that `runc spec` writes, with the step for its
/// command, the host's programs and libraries, read-only, and no terminal.
fn bundle(step: &Step, directory: &Path, args: &[&str]) -> Result<()> {
    let bundle = directory.join("bundle");
    fs::create_dir_all(bundle.join("rootfs"))?;
    for path in [directory, &bundle, &bundle.join("rootfs")] {
        chown(path, step.uid(), step.uid())?;
    }
    let rootless = (step.caller() == Caller::Rootless).then_some("--rootless");
    let spec = ["spec", "--bundle", "bundle"].into_iter().chain(rootless);
    let written = step.other("runc", spec).current_dir(directory).output().context("runc spec")?;
    if !written.status.success() {
        bail!("runc spec: {}", String::from_utf8_lossy(&written.stderr));
    }
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["process"]["terminal"] = json!(false);
    let name = step.path().file_name().context("a program's path")?.to_string_lossy();
    let name = format!("/step/{name}");
    config["process"]["args"] = json!([&[name.as_str()], args].concat());
    let mounts = config["mounts"].as_array_mut().context("mounts")?;
    let ours = step.path().parent().context("a program's path")?;
    let host = ["/bin", "/sbin", "/lib", "/lib64", "/usr"].map(|path| (path, Path::new(path)));
    for (at, source) in host.into_iter().chain([("/step", ours)]) {
        if source.exists() {
            let mount = json!({
                "destination": at, "type": "bind", "source": source, "options": ["rbind", "ro"]
            });
            mounts.push(mount);
        }
    }
    fs::write(&file, config.to_string()).context("write the configuration")
}

/// `lab refuse`: installs a seccomp filter, and becomes the command. A rule is `CALL=ERRNO`, with
/// `open-to-write` for openat(2) with the flags of a new file; `unshare(CLONE_NEWPID)` and
/// `unshare(CLONE_NEWTIME)` for unshare(2) with that flag alone; `mount(MS_BIND)` for a new bind mount,
/// `mount(MS_REMOUNT)` for a change of one, and `mount(MS_RDONLY)` for a new file system, read-only.
///
/// # Errors
/// A rule is none, the filter or the command was refused.
pub fn refuse(rules: &[String], command: &mut Command) -> Result<()> {
    for rule in rules {
        let (call, errno) = rule.split_once('=').with_context(|| format!("no rule: {rule}"))?;
        // Of the bits of `mask`, the argument has those of `value` and no other.
        let only = |argument, mask: u64, value: u64| {
            let operator = SeccompCmpOp::MaskedEq(mask);
            let length = SeccompCmpArgLen::Dword;
            let condition = SeccompCondition::new(argument, length, operator, value)?;
            SeccompRule::new(vec![condition])
        };
        let kinds = libc::MS_BIND | libc::MS_REMOUNT;
        let (number, when) = match call {
            "unshare" => (libc::SYS_unshare, vec![]),
            "unshare(CLONE_NEWPID)" | "unshare(CLONE_NEWTIME)" => {
                let pid = call.contains("PID");
                let flag = if pid { libc::CLONE_NEWPID } else { libc::CLONE_NEWTIME };
                let all = u32::MAX.into();
                (libc::SYS_unshare, vec![only(0, all, flag.cast_unsigned().into())?])
            }
            "mount" => (libc::SYS_mount, vec![]),
            "mount(MS_BIND)" => (libc::SYS_mount, vec![only(3, kinds, libc::MS_BIND)?]),
            "mount(MS_REMOUNT)" => {
                (libc::SYS_mount, vec![only(3, libc::MS_REMOUNT, libc::MS_REMOUNT)?])
            }
            "mount(MS_RDONLY)" => {
                (libc::SYS_mount, vec![only(3, kinds | libc::MS_RDONLY, libc::MS_RDONLY)?])
            }
            "open-to-write" => {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
                let flags = flags.cast_unsigned().into();
                (libc::SYS_openat, vec![only(2, flags, flags)?])
            }
            _ => bail!("no rule for {call}"),
        };
        let errno = match errno {
            "EPERM" => Errno::EPERM,
            "EACCES" => Errno::EACCES,
            "EINVAL" => Errno::EINVAL,
            _ => bail!("no rule for {errno}"),
        };
        let filter = SeccompFilter::new(
            [(number, when)].into(),
            SeccompAction::Allow,
            SeccompAction::Errno((errno as i32).cast_unsigned()),
            std::env::consts::ARCH.try_into()?,
        )?;
        apply_filter(&BpfProgram::try_from(filter)?).context("install a seccomp filter")?;
    }
    Err(command.exec()).context("exec")
}

/// `lab deep`: starts itself in one PID namespace after the other, as deep as the kernel goes, and becomes
/// the command there. Returns the exit status of the process below.
///
/// # Errors
/// What was refused, other than one more level.
pub fn deep(words: &[std::ffi::OsString]) -> Result<u8> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        Err(Errno::ENOSPC) => {
            return Err(Command::new(&words[0]).args(&words[1..]).exec()).context("exec");
        }
        Err(Errno::EPERM) => user_namespace(CloneFlags::CLONE_NEWPID)?,
        outcome => outcome.context("unshare(CLONE_NEWPID)")?,
    }
    let status = Command::new("/proc/self/exe").args(["deep", "--"]).args(words).status();
    Ok(u8::try_from(shell_status(status.context("start the next level")?))?)
}
