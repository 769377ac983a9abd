use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::step::{Caller, PATH};
use crate::watch;

/// What a machine must be able to do before a test can say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// The caller has CAP_SYS_ADMIN: it makes a PID namespace without a user namespace.
    Root,
    /// An ordinary user makes a user namespace, is root in it, and makes a PID namespace from there.
    Userns,
    /// The caller, with the one or the other ability, mounts a procfs. In a container whose engine covers
    /// parts of /proc only real root does.
    Proc(Caller),
    /// A program is where the callers look for commands.
    Tool(&'static str),
}

impl Ability {
    /// The word for it in `LAB_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Ability::Root => "root",
            Ability::Userns => "userns",
            Ability::Proc(Caller::Root) => "root-proc",
            Ability::Proc(Caller::Rootless) => "userns-proc",
            Ability::Tool(program) => program,
        }
    }

    /// Whether this machine has it, found by trying in a child process, once in the life of the
    /// calling program.
    ///
    /// # Errors
    /// The call that was refused, and the kernel's reason.
    pub fn here(self) -> Result<(), String> {
        static ROOT: OnceLock<Result<(), String>> = OnceLock::new();
        static USERNS: OnceLock<Result<(), String>> = OnceLock::new();
        static ROOT_PROC: OnceLock<Result<(), String>> = OnceLock::new();
        static USERNS_PROC: OnceLock<Result<(), String>> = OnceLock::new();
        match self {
            Ability::Root => ROOT.get_or_init(|| attempt(Caller::Root, "pid")).clone(),
            Ability::Userns => USERNS.get_or_init(|| attempt(Caller::Rootless, "pid")).clone(),
            Ability::Proc(Caller::Root) => {
                ROOT_PROC.get_or_init(|| attempt(Caller::Root, "proc")).clone()
            }
            Ability::Proc(Caller::Rootless) => {
                USERNS_PROC.get_or_init(|| attempt(Caller::Rootless, "proc")).clone()
            }
            Ability::Tool(program) => in_path(program),
        }
    }

    /// Whether this machine has it; if not, says so on standard error, past the test harness, which
    /// would swallow it, and in the file that `LAB_SKIPS` names, for [`skipped`].
    ///
    /// # Panics
    /// It has not, and `LAB_REQUIRE` (a list of names with commas between them) asks for it.
    pub fn or_report(self) -> bool {
        let Err(reason) = self.here() else { return true };
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let name = self.name();
        let required = std::env::var("LAB_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|word| word.trim() == name),
            "LAB_REQUIRE asks for {name}, and this machine lacks it: {reason}"
        );
        let line = format!("not tested: {test}, for want of {name}: {reason}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(path) = std::env::var_os("LAB_SKIPS") {
            let line = format!("{name}\t{reason}\t{test}\n");
            let file = File::options().append(true).create(true).open(path);
            // One write: tests of several programs at once add whole lines.
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        false
    }
}

/// Whether all these programs are installed; see [`Ability::or_report`].
///
/// # Panics
/// One is not, and `LAB_REQUIRE` asks for it.
pub fn tools(programs: &[&'static str]) -> bool {
    programs.iter().all(|program| Ability::Tool(program).or_report())
}

/// What `just test` prints at the end: for each ability that the machine lacks, why, and the tests that
/// were not made for want of it. `lines` are those that [`Ability::or_report`] has written.
pub fn skipped(lines: &str) -> String {
    let mut tests: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in lines.lines() {
        if let [ability, reason, test] = line.splitn(3, '\t').collect::<Vec<_>>()[..] {
            tests.entry(ability).or_insert((reason, BTreeSet::new())).1.insert(test);
        }
    }
    let mut text = String::new();
    for (ability, (reason, tests)) in tests {
        text += &format!("\nnot tested for want of {ability} ({reason}): {}\n", tests.len());
        text.extend(tests.iter().map(|test| format!("  {test}\n")));
    }
    text
}

fn in_path(program: &str) -> Result<(), String> {
    match std::env::split_paths(PATH).any(|directory| directory.join(program).is_file()) {
        true => Ok(()),
        false => Err(format!("{program} is not installed")),
    }
}

fn attempt(caller: Caller, trial: &str) -> Result<(), String> {
    let program = watch::program();
    let place = caller.place(&program);
    let word = match caller {
        Caller::Root => "root",
        Caller::Rootless => "userns",
    };
    let mut command = Command::new(place.program());
    place.enter(&mut command);
    let output = command
        .args(["try", word, trial])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start {}: {error}", program.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            // The innermost process speaks first.
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or_default();
            Err(first.strip_prefix("lab: ").unwrap_or(first).to_owned())
        }
    }
}

/// `lab try`: the attempt itself, made by a process of its own.
pub mod attempts {
    use std::fmt::{self, Display, Formatter};
    use std::fs;
    use std::io;
    use std::process::Command;

    use anyhow::{Context, Result, bail};
    use nix::errno::Errno;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::unistd::{getegid, geteuid};

    /// A call that the kernel refused: `unshare(CLONE_NEWPID): Operation not permitted (EPERM)`, in the form
    /// that the steps have for it.
    #[derive(Debug)]
    pub struct Refused {
        /// The call, as the steps write it.
        pub call: &'static str,
        /// The kernel's answer.
        pub errno: Errno,
    }

    impl Display for Refused {
        fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
            write!(formatter, "{}: {} ({:?})", self.call, self.errno.desc(), self.errno)
        }
    }

    impl std::error::Error for Refused {}

    /// For `map_err`: `call` was refused.
    fn refused<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Refused {
        move |error| {
            let errno = error.into().raw_os_error().unwrap_or_default();
            Refused { call, errno: Errno::from_raw(errno) }
        }
    }

    /// Tries what `trial` names, with the rights that `ability` names: `root`, those that the process
    /// has; `userns`, those of root in a user namespace of its own. The trials: `pid`, a first process
    /// in a PID namespace; `mounts`, private mounts; `proc`, a procfs; `mask`, masks and read-only
    /// paths in it; `time`, a time namespace whose clock can be set; `filter`, unshare(2) with nothing to do. The calling process must have one
    /// thread only.
    ///
    /// # Errors
    /// [`Refused`], where a call was.
    pub fn attempt(ability: &str, trial: &str) -> Result<()> {
        match (ability, trial) {
            (_, "filter") => {
                return Ok(unshare(CloneFlags::empty()).map_err(refused("unshare(0)"))?);
            }
            // As PID 1, since a procfs shows the PID namespace of who mounts it.
            ("inside", "proc") => return procfs(),
            ("inside", "mask") => return masks(),
            ("inside", _) => return Ok(()),
            ("root", _) => {
                unshare(CloneFlags::CLONE_NEWPID).map_err(refused("unshare(CLONE_NEWPID)"))?;
            }
            ("userns", _) => user_namespace(CloneFlags::CLONE_NEWPID)?,
            _ => bail!("there is no ability {ability:?}"),
        }
        match trial {
            "mounts" => private_mounts()?,
            "time" => time_namespace()?,
            _ => {}
        }
        let first = Command::new("/proc/self/exe").args(["try", "inside", trial]).status();
        let status = first.map_err(refused("start /proc/self/exe"))?;
        if !status.success() {
            bail!("the first process ended with {status}");
        }
        Ok(())
    }

    fn private_mounts() -> Result<()> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(refused("unshare(CLONE_NEWNS)"))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(refused("mount(/, MS_REC|MS_PRIVATE)"))?;
        Ok(())
    }

    fn procfs() -> Result<()> {
        private_mounts()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
            .map_err(refused("mount(proc, /proc)"))?;
        Ok(())
    }

    /// As step 05 makes them; on paths that every procfs has.
    fn masks() -> Result<()> {
        procfs()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let (bind, read_only) = (MsFlags::MS_BIND, flags | MsFlags::MS_RDONLY);
        mount(Some("/dev/null"), "/proc/uptime", None::<&str>, bind, None::<&str>)
            .map_err(refused("mount(/dev/null, /proc/uptime, MS_BIND)"))?;
        mount(Some("tmpfs"), "/proc/fs", Some("tmpfs"), read_only, None::<&str>)
            .map_err(refused("mount(tmpfs, /proc/fs)"))?;
        mount(Some("/proc/bus"), "/proc/bus", None::<&str>, bind, None::<&str>)
            .map_err(refused("mount(/proc/bus, /proc/bus, MS_BIND)"))?;
        let remount = bind | MsFlags::MS_REMOUNT | read_only;
        mount(None::<&str>, "/proc/bus", None::<&str>, remount, None::<&str>)
            .map_err(refused("mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY)"))?;
        Ok(())
    }

    /// Children are born in it: time_namespaces(7), Linux 5.6 and later. nix has no name for the flag.
    fn time_namespace() -> Result<()> {
        let flag = CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME);
        unshare(flag).map_err(refused("unshare(CLONE_NEWTIME)"))?;
        // What it begins with: that clock may be read, and the right to set it is the same.
        let offsets = fs::read("/proc/self/timens_offsets").context("read timens_offsets")?;
        fs::write("/proc/self/timens_offsets", offsets)
            .map_err(refused("write(/proc/self/timens_offsets)"))?;
        Ok(())
    }

    /// Moves the calling process, of one thread, into a user namespace of its own, as root there, and
    /// into the other namespaces of `more`.
    ///
    /// # Errors
    /// [`Refused`], where a call was.
    pub fn user_namespace(more: CloneFlags) -> Result<()> {
        let (uid, gid) = (geteuid(), getegid());
        let write =
            |file: &'static str, call, text: String| fs::write(file, text).map_err(refused(call));
        unshare(CloneFlags::CLONE_NEWUSER | more).map_err(refused("unshare(CLONE_NEWUSER)"))?;
        write("/proc/self/setgroups", "write(/proc/self/setgroups)", "deny".into())?;
        write("/proc/self/uid_map", "write(/proc/self/uid_map)", format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", "write(/proc/self/gid_map)", format!("0 {gid} 1"))?;
        Ok(())
    }
}
