//! Temporary directories in which every caller can run a program.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, geteuid, mkdtemp};

use crate::error::{Context, Error, Result};

/// Where a temporary directory may be, the best place first. TMPDIR comes before all.
const PLACES: [&str; 3] = ["/var/tmp", "/dev/shm", "/run"];

/// A directory that goes when the value goes. Its mode is 0755 whatever the umask is.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    /// Creates a directory where programs can be executed and, if we are root, ordinary users can enter.
    ///
    /// # Errors
    /// No place will do; the message says why for each.
    pub fn new(prefix: &str) -> Result<Self> {
        let mut reasons = Vec::new();
        for place in [env::temp_dir()].into_iter().chain(PLACES.map(PathBuf::from)) {
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
        let template = place.join(format!("{prefix}-XXXXXX"));
        let path = mkdtemp(&template).context(format!("mkdtemp({})", template.display()))?;
        let directory = ScratchDir { path };
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))
            .context(format!("chmod({})", directory.path().display()))?;
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
