//! A program in a pseudo-terminal, with the test at the keyboard.

use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

use crate::error::{Context, Result};
use crate::exit::Exit;
use crate::output::Output;
use crate::running::Running;
use crate::supervisor::Supervisor;

/// A terminal and what runs in it.
pub struct Terminal {
    running: Running,
    /// The side of the keyboard and the screen.
    master: File,
    output: Output,
}

impl Terminal {
    /// Starts a program with the terminal as its controlling terminal.
    ///
    /// # Errors
    /// There's no pseudo-terminal to be had, or the program doesn't start.
    pub fn start(supervisor: Supervisor) -> Result<Self> {
        // CLOEXEC, because other tests start programs at the same time.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).context("posix_openpt")?;
        grantpt(&master).context("grantpt")?;
        unlockpt(&master).context("unlockpt")?;
        let path = ptsname_r(&master).context("ptsname")?;
        // Until a program has the other side open, there's nothing to read. Once the last one closes it, the output
        // ends, and nothing waits for a program that is gone.
        let slave = open(Path::new(&path), flags, Mode::empty()).context("open the terminal")?;
        let master = File::from(master.as_fd().try_clone_to_owned().context("dup")?);
        let supervisor = supervisor.on_terminal(Path::new(&path));
        let running = supervisor.start(Stdio::null(), Stdio::null(), Stdio::null())?;
        drop(slave);
        let output = Output::capture(master.try_clone().context("dup")?, running.stopper())?;
        Ok(Terminal { running, master, output })
    }

    /// Presses keys: `"ls\r"`, or `"\u{3}"` for Ctrl-C.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn send_keys(&mut self, keys: &str) -> Result {
        self.master.write_all(keys.as_bytes()).context("write to the terminal")
    }

    /// Waits until `text` appears, after what was expected before. Returns everything up to it.
    ///
    /// # Errors
    /// It doesn't come in time.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let wanted = format!("{:?} on the terminal", text.trim());
        let read = self.output.read_until(text, &wanted, self.running.answer_timeout);
        read.map_err(|error| self.running.explain(error))
    }

    /// Waits until everything has exited. Returns what appeared since the last [`Terminal::expect`].
    ///
    /// # Errors
    /// It didn't exit in time, the supervisor failed, or there was too much output.
    pub fn end(self) -> Result<(Exit, String)> {
        let Terminal { running, master, output } = self;
        let exit = running.wait_for_answer()?;
        drop(master);
        let rest = output.finish()?;
        exit.within_limits("the program's exit", String::from_utf8_lossy(&rest).into_owned())
    }
}

/// So that what runs can be asked for its PID and its tree.
impl Deref for Terminal {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}
