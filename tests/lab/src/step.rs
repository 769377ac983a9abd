use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, geteuid};
use tempfile::TempDir;

use crate::{Ability, Session, Terminal, Transcript, Watch};

/// The uid, and gid, as which root starts the rootless half of a test. Not 65534, the number that a user
/// namespace shows for IDs that it does not map: the two must not be mistaken for each other.
pub(crate) const NOBODY: u32 = 54321;

/// Where every caller's commands are looked for.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who calls a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// One who has CAP_SYS_ADMIN.
    Root,
    /// One who has no capability: whoever runs the tests or, where that is root, uid 54321.
    Rootless,
}

impl Caller {
    pub(crate) fn place(self, program: &Path) -> Place {
        let directory = tempfile::Builder::new().prefix("lab-").tempdir();
        let directory = directory.expect("make a temporary directory");
        let mut place = Place { program: program.to_owned(), uid: None, directory };
        if self == Caller::Rootless && geteuid().is_root() {
            // An ordinary user cannot enter every directory of root's. What it runs must lie where
            // it can go.
            let copy = place.directory.path().join(program.file_name().expect("a program's path"));
            // A second name for the file, where both places are on one file system; else a copy. Not made by
            // this process: while it had the copy open for writing, a program that another thread starts
            // could inherit that for a moment, and then exec fails with ETXTBSY.
            if fs::hard_link(program, &copy).is_err() {
                let copied = Command::new("cp").arg(program).arg(&copy).status();
                let copied = copied.expect("start cp");
                assert!(copied.success(), "copy the program: cp {copied}");
            }
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(place.directory.path(), open).expect("open the directory");
            let nobody = Some(NOBODY);
            chown(place.directory.path(), nobody, nobody).expect("give the directory away");
            place.program = copy;
            place.uid = Some(Uid::from_raw(NOBODY));
        }
        place
    }
}

/// Where a caller finds the program, and stands while it runs it.
pub(crate) struct Place {
    program: PathBuf,
    uid: Option<Uid>,
    directory: TempDir,
}

impl Place {
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The uid, and the gid of the same number, that the caller changes to, if any.
    pub(crate) fn uid(&self) -> Option<u32> {
        self.uid.map(Uid::as_raw)
    }

    pub(crate) fn enter(&self, command: &mut Command) {
        if let Some(uid) = self.uid() {
            command.uid(uid).gid(uid);
        }
        self.surround(command);
    }

    /// The same surroundings on every machine: a directory, and an environment with a PATH that every
    /// user can search, and messages in English.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.current_dir(self.directory()).env_clear();
        command.env("HOME", self.directory()).env("TERM", "dumb");
        command.env("PATH", PATH);
        command.env("LC_ALL", "C");
    }
}

/// A step's program, and who calls it.
pub struct Step {
    name: String,
    caller: Caller,
    place: Place,
}

/// `program` once for each caller that this machine can have: root, and an ordinary user. A test does
/// the same for both, and holds both against the same snapshot. All but steps 01 and 02 mount a procfs,
/// and the caller must be able to.
///
/// # Panics
/// `LAB_REQUIRE` names a caller's ability that this machine lacks.
pub fn callers(program: impl AsRef<Path>) -> Vec<Step> {
    let program = program.as_ref();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mounts = !name.starts_with("01-") && !name.starts_with("02-");
    let mut steps = Vec::new();
    for (caller, ability) in [(Caller::Root, Ability::Root), (Caller::Rootless, Ability::Userns)] {
        if ability.or_report() && (!mounts || Ability::Proc(caller).or_report()) {
            steps.push(Step::new(program, caller));
        }
    }
    steps
}

impl Step {
    /// The program at `program` with `caller` as its caller.
    ///
    /// # Panics
    /// There is no such program, or no temporary directory to put it in.
    pub fn new(program: &Path, caller: Caller) -> Self {
        let name = program.file_name().expect("a program's path").to_string_lossy().into_owned();
        Step { name, caller, place: caller.place(program) }
    }

    /// The same program, told another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The program's name: `02-init-pid1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who calls it.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Where the program is, for its caller.
    pub fn path(&self) -> &Path {
        self.place.program()
    }

    /// The temporary directory in which it is started.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// The uid, and the gid of the same number, that its caller changes to, if any.
    pub(crate) fn uid(&self) -> Option<u32> {
        self.place.uid()
    }

    /// The command line `name arg…`, to be started by whoever holds it, as the caller.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.path());
        command.arg0(&self.name).args(args);
        self.place.enter(&mut command);
        command
    }

    /// Any other program, to be started as the caller, in the same surroundings.
    pub fn other<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        self.place.enter(&mut command);
        command
    }

    /// The command line `name arg…`, to be run under a watch.
    pub fn watch<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Watch {
        Watch::new(&self.place, self.path(), &self.name, args)
    }

    /// Any other program, to be run as the caller and under a watch. The step is in its PATH.
    pub fn watch_other<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Watch {
        let mut watch = Watch::new(&self.place, Path::new(program), program, args);
        watch.also_in_path(self.path().parent().expect("a program's path"));
        watch
    }

    /// Runs `name arg…` to its end, with no input.
    ///
    /// # Panics
    /// It leaves a process or a mount behind, or does not end.
    pub fn transcript<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Transcript {
        Transcript::of(self.watch(args))
    }

    /// Starts `name arg…`, which must end up in a shell that reads its commands from standard input,
    /// and waits until that shell answers.
    ///
    /// # Panics
    /// No shell answers.
    pub fn session<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Session {
        Session::start(self.watch(args))
    }

    /// Starts `name arg…` in a pseudo-terminal of its own.
    ///
    /// # Panics
    /// It does not start.
    pub fn terminal<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Terminal {
        Terminal::start(self.watch(args))
    }
}
