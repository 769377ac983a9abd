//! Finds out what a machine allows by trying it in a separate process.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::call::{Call, CallError, CallResult};
use crate::error::{Context, Error, Result};
use crate::helper_path::helper_command;
use crate::namespace::{CLONE_NEWTIME, enter_private_mounts, enter_user_namespace};

/// Something that a machine may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A first process in a new PID namespace.
    Pid,
    /// Private mounts.
    Mounts,
    /// A procfs in a new PID namespace.
    Procfs,
    /// Masks and read-only paths in that procfs.
    Masks,
    /// A time namespace whose clock can be set.
    Time,
    /// unshare(2) with nothing to do. Only a filter refuses it.
    Filter,
}

use Probe::*;

impl Probe {
    const ALL: [Probe; 6] = [Pid, Mounts, Procfs, Masks, Time, Filter];

    /// Returns the helper's arguments to try it as `root`, in a user namespace (`userns`), or as a `step` does: as root
    /// if that's allowed, and otherwise in a user namespace.
    pub fn args(self, privilege: &str) -> [String; 3] {
        ["probe", privilege, &format!("{self:?}")].map(str::to_owned)
    }

    /// Runs the helper that `command` starts with [`Probe::args`], and returns the refusal, if there is one.
    ///
    /// # Errors
    /// The helper doesn't run, or fails for another reason than a refused call.
    pub fn run(mut command: Command) -> Result<Option<CallError>> {
        let output = match command.output() {
            // A limit on processes refuses the step's child, too. Older C libraries report it as EPERM.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Some(Call::Spawn.failed()(error)));
            }
            result => result.context("start the helper")?,
        };
        if output.status.success() {
            return Ok(None);
        }
        // The innermost process speaks first.
        let said = String::from_utf8_lossy(&output.stdout);
        let refusal = said.lines().next().and_then(CallError::decode);
        let failed = || Error::new(String::from_utf8_lossy(&output.stderr).trim());
        refusal.map(Some).ok_or_else(failed)
    }
}

/// The helper's side: tries, and prints the refusal.
pub(crate) fn main(args: &[OsString]) -> Result<bool> {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let [privilege, name] = &words[..] else { return Err(Error::new("probe: two arguments")) };
    let probe = Probe::ALL.iter().find(|probe| format!("{probe:?}") == *name);
    let probe = probe.ok_or_else(|| Error::new(format!("probe: no probe {name}")))?;
    Ok(attempt(privilege, *probe).unwrap_or_else(|refusal| {
        let _ = writeln!(io::stdout(), "{}", refusal.encode());
        false
    }))
}

fn attempt(privilege: &str, probe: Probe) -> CallResult<bool> {
    match (privilege, probe) {
        (_, Filter) => {
            return unshare(CloneFlags::empty())
                .map(|()| true)
                .map_err(Call::UnshareNothing.failed());
        }
        // These run as PID 1, since a procfs shows the PID namespace of the process that mounts it.
        ("inside", Procfs) => return mount_procfs().map(|()| true),
        ("inside", Masks) => return mount_masks().map(|()| true),
        ("inside", _) => return Ok(true),
        ("root", _) => unshare(CloneFlags::CLONE_NEWPID).map_err(Call::UnsharePid.failed())?,
        ("step", _) => match unshare(CloneFlags::CLONE_NEWPID) {
            Err(Errno::EPERM) => enter_user_namespace(CloneFlags::CLONE_NEWPID)?,
            result => result.map_err(Call::UnsharePid.failed())?,
        },
        _ => enter_user_namespace(CloneFlags::CLONE_NEWPID)?,
    }
    match probe {
        Mounts => enter_private_mounts()?,
        Time => time_namespace()?,
        _ => {}
    }
    let Ok(mut first) = helper_command() else { return Ok(false) };
    let first = first.args(probe.args("inside"));
    if probe == Time {
        // To set an ID, std forks. Older kernels refuse vfork in a new time namespace, and the step forks too.
        std::os::unix::process::CommandExt::gid(first, 0);
    }
    let status = first.status().map_err(Call::Spawn.failed())?;
    Ok(status.success())
}

/// No programs, devices, or set-user-ID bits from there.
fn restrictive() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn mount_procfs() -> CallResult {
    enter_private_mounts()?;
    mount(Some("proc"), "/proc", Some("proc"), restrictive(), None::<&str>)
        .map_err(Call::MountProc.failed())
}

/// Mounts as the last step does, on paths that every procfs has.
fn mount_masks() -> CallResult {
    mount_procfs()?;
    let (bind, read_only) = (MsFlags::MS_BIND, restrictive() | MsFlags::MS_RDONLY);
    mount(Some("/dev/null"), "/proc/uptime", None::<&str>, bind, None::<&str>)
        .map_err(Call::MountNullOverUptime.failed())?;
    mount(Some("tmpfs"), "/proc/fs", Some("tmpfs"), read_only, None::<&str>)
        .map_err(Call::MountTmpfs.failed())?;
    mount(Some("/proc/bus"), "/proc/bus", None::<&str>, bind, None::<&str>)
        .map_err(Call::MountBind.failed())?;
    let remount = bind | MsFlags::MS_REMOUNT | read_only;
    mount(None::<&str>, "/proc/bus", None::<&str>, remount, None::<&str>)
        .map_err(Call::MountReadOnly.failed())
}

/// Creates a time namespace for the children, and sets its clock to what it is. That needs the same privilege
/// as any other time.
fn time_namespace() -> CallResult {
    unshare(CLONE_NEWTIME).map_err(Call::UnshareTime.failed())?;
    let offsets =
        fs::read("/proc/self/timens_offsets").map_err(Call::WriteTimensOffsets.failed())?;
    fs::write("/proc/self/timens_offsets", offsets).map_err(Call::WriteTimensOffsets.failed())
}
