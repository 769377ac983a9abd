//! The one way to run a program: below a supervisor, which adopts whatever outlives it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::exit::{Captured, Exit};
use crate::helper_path::helper_command;
use crate::output::Output;
use crate::procfs;

/// How long the helper may take to start, and to report after it was told to end.
const GRACE: Duration = Duration::from_secs(20);
/// How much later than the helper's our own deadline is. The program may have stopped the helper.
const MARGIN: Duration = Duration::from_secs(2);

/// A program to run in a session of its own. For root its mounts are private, so that neither side sees what
/// the other mounts.
pub struct Supervisor {
    helper: Result<Command>,
    options: Vec<OsString>,
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
        let timeout = Some(4 * environment.timeout());
        let answer_timeout = environment.timeout();
        let mut supervisor =
            Supervisor { helper, options: Vec::new(), argv, timeout, answer_timeout };
        supervisor.option("program", program);
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
    #[must_use]
    pub fn on_scratch_host(mut self) -> Self {
        self.option("scratch-host", "");
        self
    }

    /// Runs it behind a command line that ends by starting the words after its own.
    #[must_use]
    pub fn wrapped_by<S: AsRef<OsStr>>(mut self, words: &[S]) -> Self {
        for word in words {
            self.option("wrapped-by", word);
        }
        self
    }

    /// Runs it with the terminal at `path` as its controlling terminal and standard streams.
    #[must_use]
    pub fn on_terminal(mut self, path: &Path) -> Self {
        self.option("terminal", path);
        self
    }

    /// Runs it with a signal blocked.
    #[must_use]
    pub fn blocking(mut self, signal: Signal) -> Self {
        self.option("block", (signal as i32).to_string());
        self
    }

    /// Runs it in another directory.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        self.helper = self.helper.map(|mut command| {
            command.current_dir(directory);
            command
        });
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.helper = self.helper.map(|mut command| {
            command.env(name, value);
            command
        });
        self
    }

    /// Kills it if it hasn't exited within the time of an answer. The default is four times as long.
    #[must_use]
    pub fn within_answer_timeout(mut self) -> Self {
        self.timeout = Some(self.answer_timeout);
        self
    }

    /// Lets it run as long as it likes.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Returns how long an answer may take.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
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
        helper.args(&self.options).arg("--").args(&self.argv);
        let child = helper.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        let mut running = Running {
            helper: child.context("start the helper")?,
            control: None,
            pid: 0,
            limit: self.timeout,
        };
        // What the helper got is its own now. A pipe ends only when no one has it open.
        drop(helper);
        let milliseconds = PollTimeout::try_from(GRACE).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, milliseconds).context("poll")? == 0 {
            return Err(Error::new("the helper doesn't answer"));
        }
        let (control, _) = listener.accept().context("accept")?;
        control.set_read_timeout(Some(GRACE)).context("setsockopt")?;
        let control = running.control.insert(BufReader::new(control));
        let mut line = String::new();
        control.read_line(&mut line).context("read from the helper")?;
        match line.trim_end().split_once(' ') {
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
        let wanted = self.command_line();
        let ((stdout, to_stdout), (stderr, to_stderr)) = (pipes()?, pipes()?);
        let running = self.start(Stdio::null(), to_stdout.into(), to_stderr.into())?;
        let stdout = Output::capture(stdout, running.stopper());
        let stderr = Output::capture(stderr, running.stopper());
        let exit = running.wait()?;
        let (stdout, stderr) = (stdout.finish()?, stderr.finish()?);
        let printed = || String::from_utf8_lossy(&[&stdout[..], &stderr].concat()).into_owned();
        let printed = exit.timed_out.map(|_| printed()).unwrap_or_default();
        let (exit, _) = exit.in_time(&wanted, printed)?;
        Ok(Captured { stdout, stderr, exit })
    }
}

/// Creates a pipe.
pub(crate) fn pipes() -> Result<(PipeReader, PipeWriter)> {
    pipe().context("pipe")
}

/// Listens on a socket without a place in the filesystem. Its name is unique on this machine.
fn listen() -> Result<(UnixListener, String)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("course-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let address = SocketAddr::from_abstract_name(&name).context("a socket's name")?;
    Ok((UnixListener::bind_addr(&address).context("bind")?, name))
}

/// A program that runs under a supervisor.
pub struct Running {
    helper: Child,
    control: Option<BufReader<UnixStream>>,
    pid: i32,
    limit: Option<Duration>,
}

impl Running {
    /// Returns the PID of the process that was started, as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns what ends the program and everything it started.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + 'static {
        let control = self.control.as_ref().and_then(|control| control.get_ref().try_clone().ok());
        move || {
            if let Some(control) = control {
                let _ = control.shutdown(Shutdown::Write);
            }
        }
    }

    /// Waits until the program and everything it started is gone.
    ///
    /// # Errors
    /// The helper didn't report, for example because the program killed it.
    pub fn wait(self) -> Result<Exit> {
        let limit = self.limit;
        self.wait_at_most(limit)
    }

    /// Does the same, but kills everything when `timeout` has passed.
    ///
    /// # Errors
    /// As for [`Running::wait`].
    pub fn wait_with_timeout(self, timeout: Duration) -> Result<Exit> {
        self.wait_at_most(Some(timeout))
    }

    /// Kills the program and everything it started, and waits for that.
    ///
    /// # Errors
    /// As for [`Running::wait`].
    pub fn end(self) -> Result<Exit> {
        self.stopper()();
        self.wait()
    }

    fn wait_at_most(mut self, limit: Option<Duration>) -> Result<Exit> {
        let control = self.control.take().ok_or_else(|| Error::new("there is no helper"))?;
        let (mut exit, mut told) = (Exit::default(), false);
        let mut reader = Reports { control, limit };
        loop {
            match reader.next_line()? {
                Some(line) if line == "end" => break,
                Some(line) => exit.add(&line),
                None if !told => {
                    told = true;
                    let _ = reader.control.get_ref().shutdown(Shutdown::Write);
                    let _ = kill(Pid::from_raw(self.helper.id().cast_signed()), Signal::SIGCONT);
                    exit.timed_out = reader.limit.replace(GRACE);
                }
                None => return Err(Error::new("the helper doesn't answer")),
            }
        }
        self.helper.wait().context("wait for the helper")?;
        Ok(exit)
    }
}

/// The lines that the helper sends.
struct Reports {
    control: BufReader<UnixStream>,
    limit: Option<Duration>,
}

impl Reports {
    /// Returns the next line, or nothing if it doesn't come in time.
    fn next_line(&mut self) -> Result<Option<String>> {
        use std::io::ErrorKind::{ConnectionReset, TimedOut, WouldBlock};
        let limit = self.limit.map(|limit| limit + MARGIN);
        self.control.get_ref().set_read_timeout(limit).context("setsockopt")?;
        let mut line = String::new();
        match self.control.read_line(&mut line) {
            Ok(0) => Err(Error::new("the program killed its supervisor")),
            Err(error) if error.kind() == ConnectionReset => {
                Err(Error::new("the program killed its supervisor"))
            }
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => Ok(None),
            Err(error) => Err(error).context("read from the helper"),
            Ok(_) => Ok(Some(line.trim_end_matches('\n').to_owned())),
        }
    }
}

impl Drop for Running {
    /// Leaves nothing running, even after an error. The helper kills everything when its socket closes; if it
    /// can't, because it was killed or stopped, we do.
    fn drop(&mut self) {
        if let Some(mut control) = self.control.take() {
            let stream = control.get_mut();
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(GRACE));
            let mut line = String::new();
            while control.read_line(&mut line).is_ok_and(|read| read > 0) {
                line.clear();
            }
        }
        if let Ok(None) = self.helper.try_wait() {
            let pid = self.helper.id().cast_signed();
            for process in procfs::descendants(pid).unwrap_or_default() {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            let _ = self.helper.kill();
            let _ = self.helper.wait();
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
