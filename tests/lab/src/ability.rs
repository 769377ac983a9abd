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
    /// A program that not every machine has is in the PATH.
    Tool(&'static str),
}

impl Ability {
    /// The word for it in `LAB_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Ability::Root => "root",
            Ability::Userns => "userns",
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
        match self {
            Ability::Root => ROOT.get_or_init(|| attempt(Caller::Root, self)).clone(),
            Ability::Userns => USERNS.get_or_init(|| attempt(Caller::Rootless, self)).clone(),
            Ability::Tool(program) => installed(program),
        }
    }

    /// Whether this machine has it; if not, says so on standard error, past the test harness, which
    /// would swallow it.
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
        false
    }
}

fn installed(program: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    let started = command.arg("--version").env("PATH", PATH).stdin(Stdio::null()).output();
    started.map(drop).map_err(|error| error.to_string())
}

fn attempt(caller: Caller, ability: Ability) -> Result<(), String> {
    let program = watch::program();
    let place = caller.place(&program);
    let mut command = Command::new(place.program());
    place.enter(&mut command);
    let output = command
        .args(["try", ability.name()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start {}: {error}", program.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// `lab try`: the attempt itself, made by a process of its own.
pub mod attempts {
    use std::fs;
    use std::process::Command;

    use anyhow::{Context, Result, bail};
    use nix::sched::{CloneFlags, unshare};
    use nix::unistd::{getegid, geteuid};

    /// Makes the namespaces that `ability` names, and a first process in them. The calling process
    /// must have one thread only.
    ///
    /// # Errors
    /// The call that was refused, and the kernel's reason.
    pub fn attempt(ability: &str) -> Result<()> {
        match ability {
            "root" => unshare(CloneFlags::CLONE_NEWPID).context("unshare(CLONE_NEWPID)")?,
            "userns" => {
                user_namespace(CloneFlags::CLONE_NEWPID)?;
            }
            _ => bail!("there is no ability {ability:?}"),
        }
        let status = Command::new("true").status().context("start a first process")?;
        if !status.success() {
            bail!("the first process ended with {status}");
        }
        Ok(())
    }

    /// Moves the calling process, of one thread, into a user namespace of its own, as root there, and
    /// into the other namespaces of `more`.
    ///
    /// # Errors
    /// The call that was refused, and the kernel's reason.
    pub fn user_namespace(more: CloneFlags) -> Result<()> {
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER | more).context("unshare(CLONE_NEWUSER)")?;
        fs::write("/proc/self/setgroups", "deny").context("write(/proc/self/setgroups)")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))
            .context("write(/proc/self/uid_map)")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("write(/proc/self/gid_map)")
    }
}
