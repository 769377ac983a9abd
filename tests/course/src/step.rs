//! The steps of the course, as data. Nothing else knows how they're numbered and named.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::iter;
use std::path::PathBuf;
use std::str::FromStr;

use harness::cargo::Build;
use harness::probe::Probe;
use harness::soak::Config;
use harness::{Caller, Context, Error, Requirement, Result};

use crate::style::colors_stderr;
use crate::workspace::{called_as, root};

/// The abilities that the steps need: the probe for each, the doctor's name for it, and the first step that needs it.
pub const NEEDS: [(Probe, &str, u32); 5] = [
    (Probe::Pid, "a PID namespace", 2),
    (Probe::Mounts, "private mounts", 3),
    (Probe::Procfs, "a separate /proc", 3),
    (Probe::Masks, "masks in /proc", 7),
    (Probe::Time, "a time namespace", 7),
];

/// A step: `steps/02-init-pid1` has the number 2 and the name `init-pid1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// `02-init-pid1`: the name of its directory, its program, its chapter.
impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{}", self.number, self.name)
    }
}

/// Finds the step that a learner means by `02`, `2` or `02-init-pid1`.
impl FromStr for Step {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let steps = Step::all()?;
        let names = steps.iter().map(Step::to_string).collect::<Vec<_>>().join("\n  ");
        let missing =
            || Error::new(format!("there is no step {word:?}; the steps are:\n  {names}"));
        let named = |step: &Step| step.to_string() == word || word.parse() == Ok(step.number);
        steps.into_iter().find(named).ok_or_else(missing)
    }
}

impl Step {
    /// Lists the steps: the packages in `steps/` whose names begin with a number.
    ///
    /// # Errors
    /// `steps/` can't be read.
    pub fn all() -> Result<Vec<Self>> {
        let directory = root()?.join("steps");
        let entries = fs::read_dir(&directory).context(format!("read {}", directory.display()))?;
        let step = |entry: fs::DirEntry| {
            let file_name = entry.file_name();
            let (number, name) = file_name.to_str()?.split_once('-')?;
            let is_package = entry.path().join("Cargo.toml").is_file();
            is_package.then_some(Step { number: number.parse().ok()?, name: name.to_owned() })
        };
        let mut steps: Vec<_> = entries.filter_map(|entry| step(entry.ok()?)).collect();
        steps.sort();
        Ok(steps)
    }

    /// Returns the number as learners write it: `02`.
    pub fn label(&self) -> String {
        format!("{:02}", self.number)
    }

    /// Returns what a learner types for a recipe with this step: `just check 02`.
    pub fn recipe(&self, name: &str) -> String {
        format!("{} {name} {}", called_as(), self.label())
    }

    /// Returns its directory.
    ///
    /// # Errors
    /// We aren't in a checkout.
    pub fn dir(&self) -> Result<PathBuf> {
        Ok(root()?.join("steps").join(self.to_string()))
    }

    /// Returns the directory of the learner's own version: `work/02`.
    ///
    /// # Errors
    /// We aren't in a checkout.
    pub fn work_dir(&self) -> Result<PathBuf> {
        Ok(root()?.join("work").join(self.label()))
    }

    /// Returns its package. Cargo allows no digit at the start.
    pub fn package(&self) -> String {
        format!("step-{self}")
    }

    /// Returns its program.
    pub fn bin(&self) -> String {
        self.to_string()
    }

    /// Returns its test file, without `.rs`: `02_init_pid1`.
    pub fn test(&self) -> String {
        self.to_string().replace('-', "_")
    }

    /// Whether it starts a container. The first step doesn't.
    pub fn has_container(&self) -> bool {
        self.number >= 2
    }

    /// Whether it mounts a procfs.
    pub fn mounts_procfs(&self) -> bool {
        NEEDS.iter().any(|(probe, _, first)| *probe == Probe::Procfs && *first <= self.number)
    }

    /// Returns what a machine must allow so that this caller can run it.
    pub fn requirements(&self, caller: Caller) -> Vec<Requirement> {
        let procfs = self.mounts_procfs().then_some(Requirement::Procfs(caller));
        iter::once(Requirement::Caller(caller)).chain(procfs).collect()
    }

    /// Returns its subcommands. The first is the one that a learner most likely means.
    pub fn subcommands(&self) -> [&'static str; 2] {
        if self.has_container() { ["run", "init"] } else { ["command", "exec"] }
    }

    /// Returns a command line for each subcommand with which a learner starts a program.
    fn each(&self, words: &[&'static str]) -> Vec<Vec<&'static str>> {
        let subcommands: &[_] = if self.has_container() { &["run"] } else { &["command", "exec"] };
        subcommands.iter().map(|subcommand| [&[*subcommand], words].concat()).collect()
    }

    /// Returns the command lines whose trees show its point. Each ends up in a shell.
    pub fn shells(&self) -> Vec<Vec<&'static str>> {
        self.each(if self.has_container() { &["--ti", "/bin/sh"] } else { &["/bin/sh"] })
    }

    /// Returns the command lines that show its point and exit at once.
    pub fn examples(&self) -> Vec<Vec<&'static str>> {
        self.each(&["/bin/true"])
    }

    /// Returns the command lines that slow motion shows by default. In the step about orphans, the command has an
    /// orphan, and waits until that is dead: cat(1) sees end-of-file then. The calls are the same in dash, bash, and
    /// busybox sh, and on slow machines.
    pub fn scenes(&self) -> Vec<Vec<&'static str>> {
        match self.number {
            4 => self.each(&["/bin/sh", "-c", "(/bin/true &) | /bin/cat"]),
            _ => self.examples(),
        }
    }

    /// Returns the command lines that slow motion shows by default with a signal. Their commands wait.
    pub fn signal_scenes(&self) -> Vec<Vec<&'static str>> {
        self.each(&["/bin/sleep", "100"])
    }

    /// Returns the runs for a soak. Only a step with a container promises to leave nothing when it's killed.
    pub fn soak_config(&self) -> Config {
        let long = self.has_container().then(|| "run sleep 1000".to_owned());
        let short = self.each(&["true"]).iter().map(|words| words.join(" ")).collect();
        Config { short, long, ..Config::default() }
    }

    /// Builds it as it stands. Cargo decides whether there's something to do.
    ///
    /// # Errors
    /// It doesn't compile.
    pub fn build(&self) -> Result<PathBuf> {
        Build::bin(&root()?, Some(&self.package()), &self.bin()).color(colors_stderr()).run()
    }
}
