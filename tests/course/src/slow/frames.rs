//! Slow motion as a list of frames: one for each call of the lesson.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use harness::placeholders::Placeholders;
use harness::procfs::has_signal;
use harness::tracee::SystemCall;
use harness::{Event, Process, ProcessTree, Result, Stepper, procfs};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pids::{Caller, Pids, file_id};
use super::printed::Printed;
use super::rows::{Row, rows};
use super::words::{self, Described};
use super::{Scene, calls, deaths, mounts, signals};

/// The kind of event that a frame shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process makes a call.
    Call,
    /// A call that lasted has returned.
    Return,
    /// A signal is delivered.
    Signal,
    /// We send a signal from outside.
    Sent,
}

/// A call, before it happens and after.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number, from 1.
    pub number: usize,
    /// The kind of event.
    pub kind: Kind,
    /// The process that it's about.
    pub caller: Caller,
    /// How the caller's PID on the host is written.
    pub pid: String,
    /// The call or the signal as in the manual, and what it will do.
    pub described: Described,
    /// The call's result. `None` until [`Film::finish`], unless the call has returned already.
    pub result: Option<String>,
    /// The lines that were printed since the last frame. Those of the call itself come with [`Film::finish`].
    pub printed: Vec<String>,
    /// The processes. None until [`Film::finish`], or if all of them are gone.
    pub tree: Option<ProcessTree>,
    /// The processes as rows. Those before the call until [`Film::finish`], then those after it.
    pub rows: Vec<Row>,
}

/// A program under way.
pub struct Film {
    stepper: Stepper,
    host: ProcessTree,
    /// The device and inode of the program.
    program: Option<(u64, u64)>,
    /// The parts of the processes that run the program's own code. The others run the command's.
    parts: BTreeMap<Pid, String>,
    /// The calls that have begun and not returned yet. Repetitions are no frames so far.
    open: BTreeMap<Pid, Described>,
    /// The processes that restart a call which only ptrace(2) interrupted.
    restarting: BTreeSet<Pid>,
    /// The processes of the last frame.
    callers: BTreeMap<Pid, Caller>,
    /// The parent of each process then.
    parents: BTreeMap<Pid, Pid>,
    /// An event that belongs to the next frame.
    kept: Option<Event>,
    signal: Option<Signal>,
    pids: Pids,
    printed: Printed,
    rows: Vec<Row>,
    frames: usize,
    pid_1_exits: bool,
    status: Option<String>,
}

impl Film {
    /// Starts a program and stops it before its first call.
    ///
    /// # Errors
    /// ptrace(2) isn't allowed, or the program can't be started.
    pub fn start(scene: &Scene) -> Result<Self> {
        let printed = Printed::new()?;
        let [stdout, stderr] = printed.outputs()?;
        let Scene { program, name, args, user, .. } = scene;
        let stepper = Stepper::start(program, name, args, *user, |command| {
            command.stdin(std::process::Stdio::null()).stdout(stdout).stderr(stderr);
        })?;
        let host = ProcessTree::of(stepper.pid().as_raw())?;
        let part = scene.args.first().map_or("run".into(), |word| word.to_string_lossy());
        let parts = BTreeMap::from([(stepper.pid(), part.into_owned())]);
        let pids = Pids(scene.redacted.then(Placeholders::default));
        let mut film = Film {
            stepper,
            host,
            program: file_id(program),
            parts,
            open: BTreeMap::new(),
            restarting: BTreeSet::new(),
            callers: BTreeMap::new(),
            parents: BTreeMap::new(),
            kept: None,
            signal: scene.signal,
            pids,
            printed,
            rows: Vec::new(),
            frames: 0,
            pid_1_exits: false,
            status: None,
        };
        film.look();
        film.rows.iter_mut().for_each(Row::settle);
        Ok(film)
    }

    /// Goes on until a process is about to make a call of the lesson. Returns `None` once every process is gone.
    ///
    /// # Errors
    /// ptrace(2) or waitpid(2) failed, or the program printed too much.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        while let Some(event) = self.event()? {
            self.printed.ensure_limit()?;
            let (kind, caller, described, result) = match event {
                Event::Enter(pid, call) => {
                    let caller = self.caller(pid);
                    let Some(described) = calls::describe(&caller, call, &mut self.pids) else {
                        continue;
                    };
                    let is_exit = call.number == libc::SYS_exit_group;
                    self.pid_1_exits |= is_exit && caller.is_pid_1();
                    self.open.insert(pid, described.clone());
                    if described.is_repetition {
                        continue;
                    }
                    (Kind::Call, caller, described, None)
                }
                Event::Return(pid, call, value) => {
                    let Some(mut described) = self.open.remove(&pid) else { continue };
                    // A repetition is a frame only if the kernel refuses it.
                    let is_refused = value < 0
                        && ![libc::ENOTDIR, libc::ENOENT].map(i64::from).contains(&-value);
                    if described.is_repetition && !is_refused {
                        continue;
                    }
                    let caller = self.caller(pid);
                    let result = self.result(&caller, call, value);
                    let mut kind = Kind::Call;
                    if !described.is_repetition {
                        kind = Kind::Return;
                        described.sentence =
                            format!("{} was waiting in this call, and continues now.", caller.name);
                    }
                    (kind, caller, described, Some(result))
                }
                Event::Signal(pid, signal) => {
                    let caller = self.caller(pid);
                    // A shell's children are of no interest.
                    if caller.is_command && signal == Signal::SIGCHLD {
                        continue;
                    }
                    let described = signals::signal(&caller, signal);
                    (Kind::Signal, caller, described, None)
                }
                Event::Killed(pid, signal) => {
                    let caller = self.caller(pid);
                    let described = deaths::killed(&caller, signal, self.pid_1_exits);
                    let result = deaths::dead(&caller);
                    (Kind::Signal, caller, described, Some(result))
                }
                Event::Exited(..) | Event::Created(..) => continue,
                Event::AllSleep => {
                    let Some(signal) = self.signal else { continue };
                    let caller = self.caller(self.stepper.pid());
                    let sentence =
                        format!("Every process waits. {} gets the signal first.", caller.name);
                    (Kind::Sent, caller, Described::new(signal.to_string(), sentence), None)
                }
            };
            self.frames += 1;
            let pid = self.pids.host(caller.pid.as_raw());
            // These lines were printed before this call.
            let printed = self.new_lines()?;
            return Ok(Some(Frame {
                number: self.frames,
                kind,
                caller,
                pid,
                described,
                result,
                printed,
                tree: None,
                rows: self.rows.clone(),
            }));
        }
        Ok(None)
    }

    /// Lets the call of a frame happen, and fills in what it returned, and the processes after it.
    ///
    /// # Errors
    /// ptrace(2) or waitpid(2) failed.
    pub fn finish(&mut self, frame: &mut Frame) -> Result {
        let caller = frame.caller.pid;
        if frame.result.is_none() {
            frame.result = Some(match (frame.kind, self.signal) {
                (Kind::Sent, Some(signal)) => {
                    let _ = kill(caller, signal);
                    self.signal = None;
                    signals::sent(&frame.caller, signal)
                }
                _ => self.happen(frame)?,
            });
        }
        let parents = mem::take(&mut self.parents);
        frame.tree = self.look();
        frame.rows = self.rows.clone();
        let is_dead = frame.result.as_ref() == Some(&deaths::dead(&frame.caller));
        // After PID 1 has exited, the kernel kills and reaps the others.
        if is_dead && (frame.kind == Kind::Call || !self.pid_1_exits) {
            let is_zombie = frame.rows.iter().any(|row| !row.is_gone() && row.pid == frame.pid);
            let adopters = deaths::adopters(caller, &parents, &self.parents);
            let adopters: Vec<_> =
                adopters.iter().filter_map(|pid| self.callers.get(pid)).collect();
            frame.result = Some(deaths::with_effects(&frame.caller, is_zombie, &adopters));
        }
        self.rows.retain(|row| !row.is_gone());
        self.rows.iter_mut().for_each(Row::settle);
        frame.printed.extend(self.new_lines()?);
        Ok(())
    }

    fn new_lines(&mut self) -> Result<Vec<String>> {
        let lines = self.printed.new_lines()?;
        Ok(lines.iter().map(|line| self.pids.redact_line(line)).collect())
    }

    /// Returns how the program itself ended.
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Returns the signal that wasn't sent, because there was no moment for it so far.
    pub fn unsent(&self) -> Option<Signal> {
        self.signal
    }

    /// Takes the event that answers a frame, or keeps it.
    fn happen(&mut self, frame: &Frame) -> Result<String> {
        let caller = frame.caller.pid;
        let event = self.event()?;
        Ok(match event {
            Some(Event::Return(pid, call, value)) if pid == caller && frame.kind == Kind::Call => {
                self.open.remove(&pid);
                self.result(&frame.caller, call, value)
            }
            Some(Event::Created(pid, _, child)) if pid == caller => {
                // vfork(2) returns much later, and its return needs no separate frame.
                self.open.remove(&pid);
                let child = match frame.caller.inside {
                    Some(_) => procfs::pids(child.as_raw()).last().copied().unwrap_or_default(),
                    None => child.as_raw(),
                };
                format!("= {}, the child's PID", self.pids.seen_by(&frame.caller, child))
            }
            Some(Event::Exited(pid, _) | Event::Killed(pid, _)) if pid == caller => {
                deaths::dead(&frame.caller)
            }
            event => {
                self.kept = event;
                let name = &frame.caller.name;
                match frame.kind {
                    Kind::Call => format!("{name} waits."),
                    _ => format!("{name} continues."),
                }
            }
        })
    }

    fn result(&mut self, caller: &Caller, call: SystemCall, value: i64) -> String {
        let result = words::result(caller, call, value, &mut self.pids);
        match (call.number, value) {
            (libc::SYS_execve, 0) => {
                self.recast(caller.pid);
                result
            }
            (libc::SYS_mount, 0) if mounts::is_proc(caller.pid, call) => {
                match mounts::listed(caller.pid) {
                    Some(1) => format!("{result}: /proc now lists 1 process"),
                    Some(count) => format!("{result}: /proc now lists {count} processes"),
                    None => result,
                }
            }
            _ => result,
        }
    }

    /// Takes the event that was kept, or waits for the next, and updates the names of the processes.
    fn event(&mut self) -> Result<Option<Event>> {
        if let Some(event) = self.kept.take() {
            return Ok(Some(event));
        }
        let mut event = self.stepper.next_event()?;
        while event.is_some_and(|event| self.is_artifact(event)) {
            event = self.stepper.next_event()?;
        }
        match event {
            Some(Event::Created(creator, _, child)) => {
                if let Some(part) = self.parts.get(&creator) {
                    self.parts.insert(child, format!("{part}'s child"));
                }
            }
            Some(Event::Exited(pid, status)) => self.gone(pid, format!("exit status {status}")),
            Some(Event::Killed(pid, signal)) => self.gone(pid, format!("{signal} killed it")),
            _ => {}
        }
        Ok(event)
    }

    /// Whether an event happens only under ptrace(2). If a process has no handler for SIGCHLD and doesn't block it, the
    /// kernel otherwise discards the signal as soon as a child dies, so it interrupts no call.
    fn is_artifact(&mut self, event: Event) -> bool {
        let discards = |pid: Pid| !has_signal(pid.as_raw(), "SigCgt", Signal::SIGCHLD);
        match event {
            Event::Signal(pid, Signal::SIGCHLD) => discards(pid),
            Event::Return(pid, _, value) if words::is_restarted(value) => {
                let mask = |field| procfs::signal_mask(pid.as_raw(), field);
                let arriving = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk");
                let is_only = arriving == 1 << (Signal::SIGCHLD as u32 - 1);
                is_only && discards(pid) && self.restarting.insert(pid)
            }
            Event::Enter(pid, _) => self.restarting.remove(&pid),
            _ => false,
        }
    }

    fn gone(&mut self, pid: Pid, how: String) {
        self.open.remove(&pid);
        self.restarting.remove(&pid);
        self.parts.remove(&pid);
        if pid == self.stepper.pid() {
            self.status = Some(how);
        }
    }

    fn caller(&self, pid: Pid) -> Caller {
        let Some(stat) = procfs::Stat::of(pid.as_raw()).filter(|stat| stat.state != 'Z') else {
            let unknown = || Caller::new(pid, "the process".to_owned(), true);
            return self.callers.get(&pid).cloned().unwrap_or_else(unknown);
        };
        let part = self.parts.get(&pid).cloned();
        let is_command = part.is_none();
        Caller::new(pid, part.unwrap_or(stat.comm), is_command)
    }

    /// After an execve: it's the next stage of the step, or the command.
    fn recast(&mut self, pid: Pid) {
        let is_ours = self.program.is_some() && file_id(format!("/proc/{pid}/exe")) == self.program;
        match &procfs::arguments(pid.as_raw())[..] {
            [_, part, ..] if is_ours && self.parts.contains_key(&pid) => {
                self.parts.insert(pid, part.clone());
            }
            _ => drop(self.parts.remove(&pid)),
        }
    }

    fn look(&mut self) -> Option<ProcessTree> {
        self.stepper.settle();
        let mut tree = ProcessTree::of(self.stepper.pid().as_raw()).ok();
        if let Some(tree) = &mut tree {
            self.name_zombies(&mut tree.root);
        }
        self.rows = rows(tree.as_ref(), &self.host.root, &self.rows, &mut self.pids);
        self.parents.clear();
        for process in tree.iter().flat_map(ProcessTree::processes) {
            let pid = Pid::from_raw(process.pids[0]);
            self.callers.insert(pid, self.caller(pid));
            let children = process.children.iter().map(|child| Pid::from_raw(child.pids[0]));
            self.parents.extend(children.map(|child| (child, pid)));
        }
        tree
    }

    /// Gives each zombie the name that it had in earlier frames. The kernel calls a zombie of `init` `exe`, after
    /// `/proc/self/exe`, and has forgotten its arguments.
    fn name_zombies(&self, process: &mut Process) {
        let pid = Pid::from_raw(process.pids[0]);
        if let Some(caller) = self.callers.get(&pid).filter(|_| process.state == 'Z') {
            process.comm.clone_from(&caller.name);
        }
        process.children.iter_mut().for_each(|child| self.name_zombies(child));
    }
}
