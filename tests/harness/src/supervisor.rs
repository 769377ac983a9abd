//! The one way to run a program: below a supervisor, which adopts whatever outlives it.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind::AddrInUse;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::mem;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::exit::Captured;
use crate::helper_path::helper_command;
use crate::namespace::is_ours;
use crate::output::Output;
use crate::running::{Reports, Running};

/// A program to run in its own session. For root its mounts are private, so that neither side sees what
/// the other mounts.
#[must_use]
pub struct Supervisor {
    helper: Result<Command>,
    options: Vec<OsString>,
    wrapper: Vec<OsString>,
    program: OsString,
    argv: Vec<OsString>,
    timeout: Option<Duration>,
    answer_timeout: Duration,
}

impl Environment {
    /// Prepares any program to be run under a supervisor.
    pub fn supervise<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Supervisor {
        Supervisor::new(self, Path::new(program), program, args)
    }
}

impl Supervisor {
    /// Prepares the command line `name arg…`, with `program` as its program.
    pub fn new<S: AsRef<OsStr>>(
        environment: &Environment,
        program: &Path,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let helper = helper_command().map(|mut command| {
            environment.apply(&mut command);
            command
        });
        let mut argv = vec![OsString::from(name)];
        argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let mut supervisor = Supervisor {
            helper,
            options: Vec::new(),
            wrapper: Vec::new(),
            program: program.into(),
            argv,
            timeout: Some(4 * environment.timeout),
            answer_timeout: environment.timeout,
        };
        if let Some(uid) = environment.uid() {
            supervisor.option("user", uid.to_string());
        }
        if let Some(limit) = environment.process_limit() {
            supervisor.option("processes", limit.to_string());
        }
        supervisor
    }

    fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let mut option = OsString::from(format!("{name}="));
        option.push(value);
        self.options.push(option);
    }

    /// Runs it on a scratch host: a mount namespace whose `/` is shared, as systemd makes it, and from which
    /// nothing reaches the real host.
    pub fn on_scratch_host(mut self) -> Self {
        self.option("scratch-host", "");
        self
    }

    /// Runs it behind a command line that ends by starting the words after its own.
    pub fn wrapped_by<S: AsRef<OsStr>>(mut self, words: &[S]) -> Self {
        self.wrapper.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Runs it with the terminal at `path` as its controlling terminal and standard streams.
    pub fn on_terminal(mut self, path: &Path) -> Self {
        self.option("terminal", path);
        self
    }

    /// Runs it with a signal blocked.
    pub fn blocking(mut self, signal: Signal) -> Self {
        self.option("block", (signal as i32).to_string());
        self
    }

    /// Runs it in another directory.
    pub fn in_directory(mut self, directory: &Path) -> Self {
        if let Ok(helper) = &mut self.helper {
            helper.current_dir(directory);
        }
        self
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        if let Ok(helper) = &mut self.helper {
            helper.env(name, value);
        }
        self
    }

    /// Kills it if it hasn't exited within the time of an answer. The default is four times as long.
    pub fn within_answer_timeout(mut self) -> Self {
        self.timeout = Some(self.answer_timeout);
        self
    }

    /// Kills it if it hasn't exited within `timeout`.
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets it run as long as it likes. Only for what a person looks at, who has Ctrl-C.
    pub fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Returns the command line as a reader would type it.
    pub fn command_line(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        shlex::try_join(words.iter().map(|word| &**word)).unwrap_or_default()
    }

    /// Starts it.
    ///
    /// # Errors
    /// The helper or the program doesn't start.
    pub fn start(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Running> {
        let mut helper = self.helper?;
        let (listener, name) = listen()?;
        helper.arg("supervise").arg(format!("control={name}"));
        if let Some(timeout) = self.timeout {
            self.options.push(format!("timeout={}", timeout.as_millis()).into());
        }
        if is_ours() {
            self.options.push("alone=".into());
        }
        if let Some(wrapper) = self.wrapper.first().cloned() {
            self.argv[0] = mem::replace(&mut self.program, wrapper);
        }
        helper.args(&self.options).arg("--").arg(&self.program);
        helper.args(&self.wrapper).args(&self.argv);
        let child = helper.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        let mut running = Running {
            helper: child.context("start the helper")?,
            control: RefCell::new(None),
            pid: 0,
            limit: self.timeout,
            answer_timeout: self.answer_timeout,
        };
        // The helper has inherited its files. Close ours, because a pipe's reader sees EOF only if no process has the
        // write end open.
        drop(helper);
        let mut control = Reports::new(running.connection(&listener)?);
        let line = running.first_line(&mut control);
        running.control = RefCell::new(Some(control));
        let line = line?.ok_or_else(|| Error::new("the helper doesn't answer"))?;
        match line.split_once(' ') {
            Some(("pid", pid)) => {
                running.pid = pid.parse().map_err(|_| Error::new("the helper sent no PID"))?;
                Ok(running)
            }
            Some(("error", message)) => Err(Error::new(message)),
            _ => Err(Error::new("the helper was killed")),
        }
    }

    /// Runs it to its end without input.
    ///
    /// # Errors
    /// It doesn't start, doesn't exit in time, or prints too much.
    pub fn output(self) -> Result<Captured> {
        self.capture(false)
    }

    /// Does the same. If `merged` is set, standard error is part of standard output.
    pub(crate) fn capture(self, merged: bool) -> Result<Captured> {
        let wanted = format!("the exit of {}", self.command_line());
        let ((stdout, to_stdout), (stderr, mut to_stderr)) = (pipes()?, pipes()?);
        if merged {
            to_stderr = to_stdout.try_clone().context("dup")?;
        }
        let running = self.start(Stdio::null(), to_stdout.into(), to_stderr.into())?;
        let stdout = Output::capture(stdout, running.stopper())?;
        let stderr = Output::capture(stderr, running.stopper())?;
        let exit = running.wait()?;
        let (stdout, stderr) = (stdout.finish()?, stderr.finish()?);
        let printed = || String::from_utf8_lossy(&[&stdout[..], &stderr].concat()).into_owned();
        let printed = exit.timed_out.map(|_| printed()).unwrap_or_default();
        let (exit, _) = exit.within_limits(&wanted, printed)?;
        Ok(Captured { stdout, stderr, exit })
    }
}

/// Creates a pipe.
pub(crate) fn pipes() -> Result<(PipeReader, PipeWriter)> {
    pipe().context("pipe")
}

/// Creates a pipe and fills it, so that the next write to it waits. Closing its reader ends that with `EPIPE`.
///
/// # Errors
/// The machine has no pipe for us.
pub fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = pipes()?;
    let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).context("fcntl(F_GETPIPE_SZ)")?;
    let zeros = vec![0; usize::try_from(size).unwrap_or(0)];
    writer.write_all(&zeros).context("write to a pipe")?;
    Ok((reader, writer))
}

/// Listens on a socket without a place in the filesystem. Its name holds for the whole network namespace, where
/// another process can have our PID, so a number picks it and not the PID.
fn listen() -> Result<(UnixListener, String)> {
    loop {
        let name = format!("course-{:016x}", fastrand::u64(..));
        let address = SocketAddr::from_abstract_name(&name).context("a socket's name")?;
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() == AddrInUse => {}
            listener => return Ok((listener.context("bind")?, name)),
        }
    }
}

/// Passes a stream on to `sink` while it comes, until either end closes. A sink whose reader is gone is noticed
/// even if nothing more comes.
///
/// # Errors
/// poll(2) failed.
pub fn pass_on(mut source: impl Read + AsFd, mut sink: impl Write + AsFd) -> Result {
    let mut buffer = [0; 1 << 14];
    loop {
        let mut events = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(sink.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("poll"),
        }
        if events[1].any().unwrap_or(true) {
            return Ok(());
        }
        let Ok(read @ 1..) = source.read(&mut buffer) else { return Ok(()) };
        if sink.write_all(&buffer[..read]).and_then(|()| sink.flush()).is_err() {
            return Ok(());
        }
    }
}
