use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::spawn;
use std::{fs, os::unix::process::ExitStatusExt};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::all_processes;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::session::patience;
use crate::step::Place;
use crate::workspace;

/// The program `lab`, built if it has to be.
pub(crate) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| workspace::build("lab", "lab").expect("build the lab")).clone()
}

/// A command line that runs below a child subreaper: a process that adopts what the run leaves
/// behind, so that it can be counted without looking at the rest of the machine.
pub struct Watch {
    command: Command,
    line: Vec<OsString>,
    report: PathBuf,
}

impl Watch {
    pub(crate) fn new<S: AsRef<OsStr>>(
        place: &Place,
        program: &Path,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let report = tempfile::Builder::new().prefix("report-").tempfile_in(place.directory());
        let report = report.expect("make the report").into_temp_path();
        let report = report.keep().expect("keep the report");
        let mut line = vec![OsString::from(name)];
        line.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let mut command = Command::new(self::program());
        command.arg("subreaper").arg("--report").arg(&report);
        // No run takes as long as that, on however busy a machine: it hangs.
        command.arg("--within").arg((4 * patience().as_secs()).to_string());
        if let Some(uid) = place.uid() {
            command.arg("--user").arg(uid.to_string());
        }
        place.surround(&mut command);
        command.env("LAB_PROGRAM", program);
        Watch { command, line, report }
    }

    /// On a scratch host: a mount namespace in which `/` is shared, as systemd makes it, and from
    /// which nothing gets out to the real host.
    pub fn on_scratch_host(mut self) -> Self {
        self.command.arg("--scratch-host");
        self
    }

    /// In a place that the command line `words` makes, which ends by starting the words that come after
    /// its own.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.command.args(words.iter().map(|word| format!("--through={word}")));
        self
    }

    /// With the terminal at `path` as its controlling terminal and its standard streams.
    pub(crate) fn on_terminal(mut self, path: &Path) -> Self {
        self.command.arg("--terminal").arg(path);
        self
    }

    /// With a signal blocked.
    pub fn blocking(mut self, signal: Signal) -> Self {
        self.command.arg("--block").arg((signal as i32).to_string());
        self
    }

    /// In another directory.
    pub fn in_directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// With one more variable in its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn also_in_path(&mut self, directory: &Path) {
        let path = self.command.get_envs().find(|(name, _)| *name == "PATH");
        let path = path.and_then(|(_, value)| value).unwrap_or_default().to_owned();
        let mut with_directory = directory.as_os_str().to_owned();
        with_directory.push(":");
        with_directory.push(path);
        self.command.env("PATH", with_directory);
    }

    /// The command line as a reader would type it, with the step's name for its path.
    pub fn line(&self) -> String {
        let words = self.line.iter().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<_> = words.collect();
        shlex::try_join(words.iter().map(String::as_str)).expect("no NUL in a command line")
    }

    /// Starts it.
    ///
    /// # Panics
    /// The subreaper does not start.
    pub fn start(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Watched {
        self.command.arg("--").args(&self.line);
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = self.command.spawn().expect("start the subreaper");
        Watched { child, report: self.report }
    }
}

/// A run under watch.
pub struct Watched {
    child: Child,
    report: PathBuf,
}

impl Watched {
    /// The PID, as the tests see it, of the process that was started: `run`, for most steps.
    ///
    /// # Panics
    /// It has ended.
    pub fn pid(&self) -> i32 {
        let subreaper = i32::try_from(self.child.id()).expect("a PID");
        let children = all_processes().expect("read /proc").filter_map(|process| {
            let stat = process.ok()?.stat().ok()?;
            (stat.ppid == subreaper).then_some(stat.pid)
        });
        children.min().expect("the step has ended already")
    }

    /// Waits for the end of what is about to end. What does not, is killed, and reported as left.
    ///
    /// # Panics
    /// The subreaper failed.
    pub(crate) fn end_soon(self) -> Ended {
        let subreaper = rustix::process::Pid::from_child(&self.child);
        let subreaper = pidfd_open(subreaper, PidfdFlags::empty()).expect("hold the subreaper");
        let (ended, end) = channel::<()>();
        spawn(move || {
            if end.recv_timeout(patience()) == Err(RecvTimeoutError::Timeout) {
                let _ = pidfd_send_signal(subreaper, rustix::process::Signal::TERM);
            }
        });
        let outcome = self.end();
        drop(ended);
        outcome
    }

    /// Waits for its end, and for the end of all that it started.
    ///
    /// # Panics
    /// The subreaper failed.
    pub fn end(mut self) -> Ended {
        let status = self.child.wait().expect("wait for the subreaper");
        let report = fs::read_to_string(&self.report).expect("read the report");
        assert!(status.success(), "the subreaper ended with {status}:\n{report}");
        Ended::parse(&report)
    }
}

impl Drop for Watched {
    /// A test that failed half-way leaves nothing running: the subreaper, asked to end, ends all.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let subreaper = Pid::from_raw(i32::try_from(self.child.id()).expect("a PID"));
            let _ = kill(subreaper, Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// How a run ended, and what it left behind.
#[derive(Debug)]
pub struct Ended {
    /// The step's own end: an exit status, or the signal that killed it.
    pub status: ExitStatus,
    /// The processes that still ran ten seconds after the step had ended, one line each. They have
    /// been killed since.
    pub left: Vec<String>,
    /// The lines by which /proc/self/mountinfo differs, before and after, in the mount namespace
    /// from which the step was started; `+` or `-` in front.
    pub mounts: Vec<String>,
}

impl Ended {
    fn parse(report: &str) -> Self {
        let lines = |key: &str| {
            let lines = report.lines().filter_map(|line| line.strip_prefix(key));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let status = lines("status ").pop().expect("a status in the report");
        Ended {
            status: ExitStatus::from_raw(status.parse().expect("a number")),
            left: lines("left "),
            mounts: lines("mount "),
        }
    }

    /// Nothing is left: no process, no mount.
    ///
    /// # Panics
    /// Something is.
    #[track_caller]
    pub fn nothing_left(&self) -> &Self {
        assert_eq!(self.left, Vec::<String>::new(), "processes are left");
        assert_eq!(self.mounts, Vec::<String>::new(), "the host's mounts have changed");
        self
    }
}
