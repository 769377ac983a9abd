//! The events that `watch` waits for: keys, saves, signals, and reports of the thread that builds and grades.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Context, Result, wait_readable};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCONT, SIGTERM, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::Round;
use crate::checks;
use crate::grading::{self, grade_all, try_simplest};
use crate::keyboard::read_key;
use crate::starter;
use crate::state::{State, fingerprint};
use crate::step::Step;

/// An editor saves in several calls. Changes within this time after the first belong to the same save.
const ONE_SAVE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) enum Event {
    Key(u8),
    Saved,
    /// How far the thread that builds and grades is.
    Progress(Round),
    /// After Ctrl-Z and `fg`, or if the terminal has another size now.
    Resumed,
    Quit,
}

pub(super) struct Events {
    saves: Inotify,
    directory: PathBuf,
    /// The signals, and with them what wakes us when the other thread has news.
    signals: SignalDelivery<UnixStream, SignalOnly>,
    wake: UnixStream,
    sender: Sender<(u64, Round)>,
    progress: Receiver<(u64, Round)>,
    /// The number of the current round. A thread of an earlier round gives up.
    round: Arc<AtomicU64>,
    ready: VecDeque<Event>,
}

impl Events {
    /// Waits for the events of this step.
    pub(super) fn of(step: &Step) -> Result<Self> {
        let (woken, wake) = UnixStream::pair().context("socketpair")?;
        wake.set_nonblocking(true).context("fcntl")?;
        let (to_us, wanted) = (wake.try_clone().context("dup")?, [SIGCONT, SIGWINCH, SIGTERM]);
        let signals = SignalDelivery::with_pipe(woken, to_us, SignalOnly, wanted);
        // If the process that cleans up is killed, we bring back the terminal's settings ourselves.
        set_pdeathsig(Signal::SIGTERM).context("prctl(PR_SET_PDEATHSIG)")?;
        let (sender, progress) = channel();
        let events = Events {
            saves: inotify()?,
            directory: step.work_dir()?,
            signals: signals.context("sigaction")?,
            wake,
            sender,
            progress,
            round: Arc::default(),
            ready: VecDeque::new(),
        };
        events.watch_directories();
        Ok(events)
    }

    /// Waits for the events of another step from now on. The signal handlers stay, and so does a request to quit.
    pub(super) fn change_to(&mut self, step: &Step) -> Result {
        (self.saves, self.directory) = (inotify()?, step.work_dir()?);
        self.ready.retain(|event| matches!(event, Event::Quit));
        self.watch_directories();
        Ok(())
    }

    /// Watches the step's directory and its sources, and `work`, where `start --again` creates a new one. A directory
    /// that is watched already stays so, and one that's gone is none.
    fn watch_directories(&self) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        let add = |path: &Path| self.saves.add_watch(path, flags);
        let _ = add(self.directory.parent().unwrap_or(&self.directory));
        let _ = add(&self.directory);
        let mut below = vec![self.directory.join("src")];
        while let Some(path) = below.pop() {
            if add(&path).is_ok() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                let paths = entries.map(|entry| entry.path());
                below.extend(paths.filter(|path| path.is_dir() && !path.is_symlink()));
            }
        }
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let keyboard = stdin();
            let files = [keyboard.as_fd(), self.saves.as_fd(), self.signals.get_read().as_fd()];
            let [key, saved, woken] = wait_readable(files, None)?;
            if woken {
                self.take_in();
            }
            if key {
                self.ready.push_back(read_key().map_or(Event::Quit, Event::Key));
            }
            if saved && self.is_save()? {
                self.watch_directories();
                self.ready.push_back(Event::Saved);
            }
        }
    }

    /// Collects the events of the other thread and of the signal handlers.
    fn take_in(&mut self) {
        let event = |signal| if signal == SIGTERM { Event::Quit } else { Event::Resumed };
        self.ready.extend(self.signals.pending().map(event));
        let now = self.round.load(Ordering::Relaxed);
        let news = self.progress.try_iter().filter(|(round, _)| *round == now);
        self.ready.extend(news.map(|(_, round)| Event::Progress(round)));
    }

    /// Whether a source was saved, and not only a file that cargo, an editor, or we keep beside it. Waits until the
    /// editor is through with it.
    fn is_save(&self) -> Result<bool> {
        let mut saved = false;
        loop {
            match self.saves.read_events() {
                Ok(events) => {
                    saved |= events.iter().any(|event| {
                        let is_new = event.mask.contains(AddWatchFlags::IN_ISDIR);
                        is_new || event.name.as_deref().is_none_or(is_source)
                    });
                }
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno).context("read from inotify"),
            }
            let quiet = if saved { ONE_SAVE } else { Duration::ZERO };
            if wait_readable([self.saves.as_fd()], Some(Instant::now() + quiet))? == [false] {
                return Ok(saved);
            }
        }
    }

    /// Builds and grades the step as it is now. Later reports of an earlier round are dropped.
    pub(super) fn begin_round(&mut self, step: &Step) -> Result {
        let number = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        self.ready.retain(|event| !matches!(event, Event::Progress(_)));
        let (current, step) = (Arc::clone(&self.round), step.clone());
        let (sender, wake) = (self.sender.clone(), self.wake.try_clone().context("dup")?);
        let work = move || {
            let tell = |round: &Round| {
                let _ = sender.send((number, round.clone()));
                // If the socket is full, the other side is about to wake up.
                let _ = (&wake).write_all(b".");
                current.load(Ordering::Relaxed) == number
            };
            let mut round = Round::default();
            let result = build_and_grade(&step, &mut round, tell);
            round.error = result.err().map(|error| error.to_string());
            round.finished = true;
            tell(&round);
        };
        thread::Builder::new().spawn(work).map(drop).context("start a thread")
    }
}

fn inotify() -> Result<Inotify> {
    let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
    Inotify::init(flags).context("inotify_init")
}

/// Whether a saved file is a source. Every build changes Cargo.lock, and every round the state of the step.
fn is_source(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    !hidden && (name == "Cargo.toml" || Path::new(name).extension() == Some(OsStr::new("rs")))
}

/// Builds and grades the step, and reports the progress until `tell` returns false.
fn build_and_grade(step: &Step, round: &mut Round, tell: impl Fn(&Round) -> bool) -> Result {
    let directory = step.work_dir()?;
    let sources = fingerprint(&directory);
    let (program, warnings) = starter::build_quietly(step, &directory)?;
    let checks = checks::for_step(step);
    (round.warnings, round.total) = (warnings, checks.len());
    round.program = Some(program.clone());
    if !tell(round) {
        return Ok(());
    }
    let timeout = grading::timeout()?;
    round.grades.simplest = try_simplest(step, &program, timeout)?;
    if round.grades.simplest.is_some() && !tell(round) {
        return Ok(());
    }
    let before = State::load(&directory);
    let timeout = round.grades.shorten(timeout);
    for mut grade in grade_all(step, checks, &program, timeout)? {
        grade.passed_before = before.has_passed_before(grade.check.name, &sources);
        round.grades.checks.push(grade);
        if !tell(round) {
            return Ok(());
        }
    }
    State::keep_score(&directory, &round.grades.names_of_passed(), round.total, sources)
}
