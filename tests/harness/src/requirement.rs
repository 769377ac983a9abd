//! The abilities that a test needs from a machine.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{AccessFlags, access};

use crate::caller::Caller;
use crate::environment::{Environment, SEARCH_PATH};
use crate::error::{Context, Error, Result};
use crate::helper_path::helper_path;
use crate::probe::Probe;
use crate::program::Program;

/// An ability that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// This caller, who creates a PID namespace: root without a user namespace, an ordinary user in one.
    Caller(Caller),
    /// This caller, who can also mount a procfs. In a container whose engine covers parts of /proc, only real root can.
    Procfs(Caller),
    /// This process, which looks into processes of this caller: their namespaces, open files, and memory. Root needs
    /// CAP_SYS_PTRACE for another user's.
    Inspect(Caller),
    /// A program in the callers' search path.
    Tool(&'static str),
}

impl Requirement {
    /// Tries it, once in the life of the calling process.
    ///
    /// # Errors
    /// The machine lacks the ability. The message names the refused call or the missing program.
    pub fn check(self) -> Result {
        static KNOWN: Mutex<BTreeMap<Requirement, Option<String>>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = known.entry(self).or_insert_with(|| {
            let result = match self {
                Requirement::Caller(caller) => probe(caller, Probe::Pid),
                Requirement::Procfs(caller) => probe(caller, Probe::Procfs),
                Requirement::Inspect(caller) => inspect(caller),
                Requirement::Tool(program) if is_in_path(program, SEARCH_PATH.as_ref()) => Ok(()),
                Requirement::Tool(program) => Err(Error::new(format!("{program} isn't installed"))),
            };
            result.err().map(|error| error.to_string())
        });
        missing.clone().map_or(Ok(()), |reason| Err(Error::Message(reason)))
    }
}

/// The name in COURSE_REQUIRE.
impl Display for Requirement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Requirement::Caller(Caller::Root) => "root",
            Requirement::Caller(Caller::Rootless) => "userns",
            Requirement::Procfs(Caller::Root) => "root-proc",
            Requirement::Procfs(Caller::Rootless) => "userns-proc",
            Requirement::Inspect(_) => "ptrace",
            Requirement::Tool(program) => program,
        })
    }
}

fn probe(caller: Caller, probe: Probe) -> Result {
    let helper = Program::new(&helper_path()?, caller)?.named(crate::helper_path::NAME);
    let privilege = if caller == Caller::Root { "root" } else { "userns" };
    let refusal = Probe::run(helper.command(probe.args(privilege)))?;
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Looks into a cat(1), which exits when its input ends.
fn inspect(caller: Caller) -> Result {
    let environment = Environment::clean(caller)?;
    let mut command = environment.command("cat", [""; 0]);
    let cat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut cat = cat.context("start cat")?;
    let seen = fs::read_link(format!("/proc/{}/ns/pid", cat.id()));
    cat.wait().context("waitpid")?;
    seen.map(drop).context("look into another user's process without CAP_SYS_PTRACE")
}

/// Looks for a program in the directories of `path`. It isn't started, because it may be what's broken.
pub fn is_in_path(program: &str, path: &OsStr) -> bool {
    env::split_paths(path)
        .map(|directory| directory.join(program))
        .any(|file| file.is_file() && access(&file, AccessFlags::X_OK).is_ok())
}
