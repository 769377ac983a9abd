//! A step in slow motion: from one system call of its lesson to the next.

mod calls;
mod deaths;
mod frames;
mod mounts;
mod pids;
mod printed;
mod render;
mod rows;
pub mod screen;
mod signals;
mod words;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use harness::{Error, Result, procfs};
use nix::sys::signal::Signal;

pub use frames::{Film, Frame, Kind};
pub use pids::Caller;
pub use render::{heading, lines, text};
pub use rows::{Change, Row};
pub use words::Described;

/// A run of a program, to be shown in slow motion.
pub struct Scene {
    /// The program.
    pub program: PathBuf,
    /// The name that it's told.
    pub name: String,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// A signal to send to it as soon as every process waits.
    pub signal: Option<Signal>,
    /// Whether the host's PIDs are replaced by `HOST_A`, `HOST_B`, …
    pub redacted: bool,
    /// The uid and gid to run it with, if not ours.
    pub user: Option<u32>,
}

impl Scene {
    /// Runs a program as it would run without us.
    pub fn new(program: PathBuf, name: &str, args: Vec<OsString>) -> Self {
        let name = name.to_owned();
        Scene { program, name, args, signal: None, redacted: false, user: None }
    }

    /// Returns the command line as a reader would type it.
    pub fn command_line(&self) -> String {
        let words = self.args.iter().map(|word| word.to_string_lossy());
        let words: Vec<_> = [self.name.as_str().into()].into_iter().chain(words).collect();
        shlex::try_join(words.iter().map(|word| &**word)).unwrap_or_default()
    }
}

/// Every frame of a run.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The command line.
    pub command_line: String,
    /// The frames, in the order of the calls.
    pub frames: Vec<Frame>,
    /// How the program itself ended: `exit status 0`.
    pub status: String,
}

impl Recording {
    /// Renders it as text of at most 80 columns.
    pub fn text(&self) -> String {
        let frames = self.frames.iter().map(|frame| format!("\n{}", text(frame)));
        format!("$ {}\n{}\n[{}]\n", self.command_line, frames.collect::<String>(), self.status)
    }
}

/// Records a run to its end.
///
/// # Errors
/// The program can't be started under ptrace(2).
pub fn record(scene: &Scene) -> Result<Recording> {
    let mut film = Film::start(scene).map_err(explain)?;
    let mut frames = Vec::new();
    while let Some(mut frame) = film.next_frame()? {
        film.finish(&mut frame)?;
        frames.push(frame);
    }
    let status = film.status().unwrap_or_default().to_owned();
    Ok(Recording { command_line: scene.command_line(), frames, status })
}

/// Says what to do if ptrace(2) isn't allowed.
pub fn explain(error: Error) -> Error {
    let is_refused = matches!(&error, Error::Call { call, .. } if call.starts_with("ptrace"));
    if !is_refused {
        return error;
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let pid = std::process::id().cast_signed();
    let has_filter = procfs::status_field(pid, "Seccomp").is_some_and(|mode| mode == "2");
    Error::new(format!("{error}: {}", ptrace_advice(scope.trim(), has_filter)))
}

/// Says what to do, given Yama's setting, which is empty without Yama, and whether there's a seccomp filter. With 0
/// and 1, a process can trace its children, and that's all we do.
pub fn ptrace_advice(scope: &str, has_filter: bool) -> &'static str {
    match scope {
        "2" => {
            "kernel.yama.ptrace_scope is 2: run `sudo sysctl -w kernel.yama.ptrace_scope=1`, which \
             lasts until the next reboot"
        }
        "3" => "kernel.yama.ptrace_scope is 3 until the next reboot: see the frames in the book",
        _ if has_filter => {
            "a seccomp filter forbids it (in Docker, use --security-opt seccomp=unconfined)"
        }
        _ => "a security module forbids it: see the frames in the book, or use another machine",
    }
}
