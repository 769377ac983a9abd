//! Temporary directories in which every caller can run a program.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, geteuid, mkdtemp};

use crate::caller::UNPRIVILEGED_UID;
use crate::error::{Context, Error, Result};

/// How the names of our directories begin, so that we never remove another program's.
const PREFIX: &str = "init-course-";

/// Lists where a temporary directory may be, the best place first.
fn places() -> impl Iterator<Item = PathBuf> {
    [env::temp_dir(), "/var/tmp".into(), "/dev/shm".into(), "/run".into()].into_iter()
}

/// A directory that is removed when the value is dropped. Its mode is 0755, regardless of the umask.
///
/// A process that is killed drops no values, and `exit` doesn't drop those in a static. The kernel unlocks the
/// directory in both cases, and `sweep` removes every directory that no process has locked.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    lock: Option<Flock<File>>,
}

impl ScratchDir {
    /// Creates a directory where programs can be executed and, if we are root, ordinary users can enter.
    ///
    /// # Errors
    /// No place will do; the message says why for each.
    pub fn new(prefix: &str) -> Result<Self> {
        let mut reasons = Vec::new();
        for place in places() {
            match unfit(&place) {
                None => return ScratchDir::inside(&place, prefix),
                Some(reason) => reasons.push(format!("{} {reason}", place.display())),
            }
        }
        Err(Error::new(format!("no temporary directory will do: {}", reasons.join("; "))))
    }

    /// Says why TMPDIR, or else /tmp, won't do, if it won't. Another place may.
    pub fn why_not_tmpdir() -> Option<&'static str> {
        unfit(&env::temp_dir())
    }

    fn inside(place: &Path, prefix: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep_place(place));
        // The final name comes after the lock, because an unlocked directory of that name is removed.
        let template = place.join(format!(".{PREFIX}{prefix}-XXXXXX"));
        let new = mkdtemp(&template).context(format!("mkdtemp({})", template.display()))?;
        let mut directory = ScratchDir { lock: lock(&new), path: new };
        fs::set_permissions(&directory.path, Permissions::from_mode(0o755))
            .context(format!("chmod({})", directory.path.display()))?;
        let name = directory.path.file_name().unwrap_or_default().to_string_lossy();
        let path = place.join(name.trim_start_matches('.'));
        fs::rename(&directory.path, &path).context(format!("rename {}", path.display()))?;
        directory.path = path;
        Ok(directory)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        // Only now: a locked directory isn't removed by two processes at a time.
        drop(self.lock.take());
    }
}

/// Locks a directory for as long as the value lives, or returns nothing if another process has it locked.
fn lock(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes the directories of processes that are gone. Every process does so before it creates its first one, and
/// a supervisor's owner after it had to kill something.
pub(crate) fn sweep() {
    places().for_each(|place| sweep_place(&place));
}

fn sweep_place(place: &Path) {
    let user = geteuid();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|metadata| {
                let uid = metadata.uid();
                // A process that mounted something there uses it, and locked what is below the mount.
                let is_mount =
                    fs::metadata(place).map_or(true, |place| place.dev() != metadata.dev());
                let is_ours = uid == user.as_raw() || user.is_root() && uid == UNPRIVILEGED_UID;
                metadata.is_dir() && is_ours && !is_mount
            });
        // The lock is held while we remove it.
        if ours && let Some(_lock) = lock(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Says why programs cannot be put there, if they cannot.
fn unfit(place: &Path) -> Option<&'static str> {
    let Ok(filesystem) = statvfs(place) else { return Some("doesn't exist") };
    if filesystem.flags().contains(FsFlags::ST_NOEXEC) {
        return Some("is mounted noexec");
    }
    if access(place, AccessFlags::W_OK).is_err() {
        return Some("isn't writable");
    }
    let closed = |path: &Path| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0)
    };
    if geteuid().is_root() && place.ancestors().any(closed) {
        return Some("can't be entered by ordinary users");
    }
    None
}
