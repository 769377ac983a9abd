use std::fs::File;
use std::io::{BufRead, BufReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::tree::ProcessTree;
use crate::watch::{Ended, Watch, Watched};

/// How long an answer may take before the test gives up. It is no pause: an answer that is there is
/// taken at once.
pub(crate) fn patience() -> Duration {
    // Less for steps that are broken on purpose: they are known not to answer.
    let seconds = std::env::var("LAB_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or_else(|| *PATIENCE.get_or_init(|| Duration::from_secs(30)), Duration::from_secs)
}

static PATIENCE: OnceLock<Duration> = OnceLock::new();

/// Less patience, for as long as this process lives: somebody looks on, and what is not finished yet often
/// does not answer.
pub(crate) fn somebody_looks_on() {
    let _ = PATIENCE.set(Duration::from_secs(5));
}

/// A step that runs a shell, and holds still between two questions to it.
pub struct Session {
    watched: Watched,
    input: Option<PipeWriter>,
    answers: Receiver<String>,
    errors: JoinHandle<String>,
    asked: usize,
}

impl Session {
    /// Starts it, and waits until the shell answers.
    ///
    /// # Panics
    /// No shell answers.
    pub fn start(watch: Watch) -> Self {
        let mut session = Session::open(watch, false);
        session.ask(":");
        session
    }

    /// With standard error in the answers, too; and what came before the first question.
    pub(crate) fn merged(watch: Watch) -> (Self, String) {
        let mut session = Session::open(watch, true);
        let before = session.ask(":");
        (session, before)
    }

    /// A command that need not be a shell. It says when it is ready to be looked at, by a line of its own
    /// on standard output.
    ///
    /// # Panics
    /// Another line comes, or none.
    pub fn ready(watch: Watch, line: &str) -> Self {
        let session = Session::open(watch, false);
        assert_eq!(session.line(), line);
        session
    }

    fn open(watch: Watch, merged: bool) -> Self {
        let (stdin, input) = pipe().expect("make a pipe");
        let (stdout, to_stdout) = pipe().expect("make a pipe");
        let (mut stderr, mut to_stderr) = pipe().expect("make a pipe");
        if merged {
            to_stderr = to_stdout.try_clone().expect("one pipe for both streams");
        }
        let watched = watch.start(stdin.into(), to_stdout.into(), to_stderr.into());
        let (line, answers) = channel();
        spawn(move || {
            for bytes in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let _ = line.send(String::from_utf8_lossy(&bytes).into_owned());
            }
        });
        let errors = spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Session { watched, input: Some(input), answers, errors, asked: 0 }
    }

    /// The next line on standard output.
    ///
    /// # Panics
    /// There is none in 30 seconds.
    pub fn line(&self) -> String {
        self.answers.recv_timeout(patience()).expect("a line on standard output")
    }

    /// The next line on standard output, if it comes soon enough.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.answers.recv_timeout(time).ok()
    }

    /// Gives the shell a command line and waits for what it prints on standard output, to the last
    /// line. The shell waits for the next question when this returns.
    ///
    /// # Panics
    /// The shell is gone, or does not answer in 30 seconds.
    pub fn ask(&mut self, question: &str) -> String {
        self.ask_status(question).0
    }

    /// The same, with the exit status of the command line.
    ///
    /// # Panics
    /// The shell is gone, or does not answer in 30 seconds.
    pub fn ask_status(&mut self, question: &str) -> (String, String) {
        self.asked += 1;
        let mark = format!("lab: answer {} ends with ", self.asked);
        self.tell(&format!("{question}\necho \"{mark}$?\"\n"));
        let mut answer = String::new();
        loop {
            let line = self.answers.recv_timeout(patience());
            let line =
                line.unwrap_or_else(|_| panic!("no shell answers on standard input: {answer}"));
            if let Some((before, status)) = line.split_once(&mark) {
                answer += before;
                return (answer.trim_end().to_owned(), status.to_owned());
            }
            answer += &line;
            answer.push('\n');
        }
    }

    /// Gives the shell its input, and waits for nothing.
    ///
    /// # Panics
    /// The shell is gone.
    pub fn tell(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the session is open");
        input.write_all(text.as_bytes()).expect("write to the shell");
    }

    /// The PID, on the host, of the process that was started.
    pub fn pid(&self) -> i32 {
        self.watched.pid()
    }

    /// The tree from that process down.
    ///
    /// # Panics
    /// The process is gone.
    pub fn tree(&self) -> ProcessTree {
        ProcessTree::of(self.pid()).expect("the step runs")
    }

    /// The tree, as soon as it is as it should be. There is no event to wait for when a process has been
    /// reaped, or has stopped, somewhere below our children: so it is looked at again and again.
    ///
    /// # Panics
    /// It does not become so in 30 seconds.
    pub fn tree_when(&self, so: impl Fn(&ProcessTree) -> bool) -> ProcessTree {
        tree_when(self.pid(), so)
    }

    /// Sends a signal to that process.
    ///
    /// # Panics
    /// The process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("send a signal");
    }

    /// Waits for the end of all, the shell's input still open.
    ///
    /// # Panics
    /// The lab failed.
    pub fn wait(self) -> (Ended, String) {
        let Session { watched, input, errors, .. } = self;
        let ended = watched.end_soon();
        drop(input);
        (ended, errors.join().expect("read standard error"))
    }

    /// Closes the shell's input, by which it ends, and waits for the end of all. The text is what came on
    /// standard error.
    ///
    /// # Panics
    /// The lab failed.
    pub fn end(mut self) -> (Ended, String) {
        self.input = None;
        self.wait()
    }
}

fn tree_when(pid: i32, so: impl Fn(&ProcessTree) -> bool) -> ProcessTree {
    let deadline = Instant::now() + patience();
    loop {
        let tree = ProcessTree::of(pid).expect("the step runs");
        if so(&tree) {
            return tree;
        }
        assert!(Instant::now() < deadline, "it is still so:\n{}", tree.text());
        sleep(Duration::from_millis(5));
    }
}

/// The tree of a program that ends up in a shell, seen while that shell waited for its input. Unlike a
/// session it needs no other program beside it, and it does not panic.
pub struct Held {
    /// The PID, on the host, of the process that was started.
    pub pid: i32,
    /// The tree from that process down.
    pub tree: ProcessTree,
}

impl Held {
    /// Starts the program, waits until a shell answers, looks, and ends it.
    ///
    /// # Errors
    /// The program does not start, or ends before a shell has answered. What it prints on standard
    /// error comes out on ours.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pid = i32::try_from(child.id())?;
        let mut input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let asked = input.write_all(b"echo ready\n");
        let lines = BufReader::new(output).lines();
        let answer = lines.map_while(Result::ok).find(|line| line == "ready");
        let tree = ProcessTree::of(pid);
        drop(input);
        let status = child.wait().context("wait for it")?;
        match (asked, answer) {
            (Ok(()), Some(_)) => Ok(Held { pid, tree: tree? }),
            _ => bail!("no shell answered, and it ended with {status}"),
        }
    }
}

/// A step in a pseudo-terminal, with the test for its typist.
pub struct Terminal {
    watched: Watched,
    /// The side on which keys are pressed.
    keys: File,
    /// The side of the programs, kept open so that there is something to read from to the end.
    far: File,
    shown: Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    /// Starts it.
    ///
    /// # Panics
    /// There is no pseudo-terminal to be had, or it does not start.
    pub fn start(watch: Watch) -> Self {
        // Not to be inherited: other tests start programs at the same time.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("open a pseudo-terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname_r(&master).expect("ptsname");
        let keys = File::from(master.as_fd().try_clone_to_owned().expect("dup"));
        let far = nix::fcntl::open(Path::new(&path), flags, nix::sys::stat::Mode::empty());
        let far = File::from(far.expect("open the other side"));
        let watch = watch.on_terminal(Path::new(&path));
        let watched = watch.start(Stdio::null(), Stdio::null(), Stdio::null());
        let (bytes, shown) = channel();
        let mut screen = keys.try_clone().expect("dup");
        spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                let _ = bytes.send(buffer[..read].to_vec());
            }
        });
        Terminal { watched, keys, far, shown, screen: String::new() }
    }

    /// Presses keys: `"ls\r"`, or `"\u{3}"` for Ctrl-C.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("write to the terminal");
    }

    /// Waits until `text` is on the screen, after whatever was waited for before; returns all that came.
    ///
    /// # Panics
    /// It is not there in 30 seconds.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.screen.find(text) {
                let rest = self.screen.split_off(at + text.len());
                return std::mem::replace(&mut self.screen, rest);
            }
            let bytes = self.shown.recv_timeout(patience());
            let bytes = bytes.unwrap_or_else(|_| panic!("{text:?} never came: {:?}", self.screen));
            self.screen += &String::from_utf8_lossy(&bytes);
        }
    }

    /// The PID, on the host, of the process that was started.
    pub fn pid(&self) -> i32 {
        self.watched.pid()
    }

    /// The tree from that process down.
    ///
    /// # Panics
    /// The process is gone.
    pub fn tree(&self) -> ProcessTree {
        ProcessTree::of(self.pid()).expect("the step runs")
    }

    /// The tree, as soon as it is as it should be.
    ///
    /// # Panics
    /// It does not become so in 30 seconds.
    pub fn tree_when(&self, so: impl Fn(&ProcessTree) -> bool) -> ProcessTree {
        tree_when(self.pid(), so)
    }

    /// Waits for the end of all; the text is what was on the screen since the last wait.
    ///
    /// # Panics
    /// The lab failed.
    pub fn end(self) -> (Ended, String) {
        let Terminal { watched, keys, far, shown, mut screen } = self;
        let ended = watched.end_soon();
        drop((keys, far));
        for bytes in shown {
            screen += &String::from_utf8_lossy(&bytes);
        }
        (ended, screen)
    }
}
