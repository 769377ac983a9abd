//! Grades a learner's step on every save, and takes single keys.
//!
//! One thread waits in poll(2) for keys, saves, signals, and the work of another thread, which builds and grades. At
//! rest, both sleep. `events` has what it waits for, `screen` what it shows.

mod events;
mod screen;

use std::io::{IsTerminal, stdin};
use std::mem;
use std::path::PathBuf;
use std::process::Command;

use harness::{Context, Error, Result};

use crate::grading::Grades;
use crate::keyboard::Keyboard;
use crate::starter::{self, Begin};
use crate::step::Step;
use crate::workspace::relative_path;
use crate::{diff, done, hints};
use events::{Event, Events};
use screen::Screen;

/// How far the build and the checks of the sources as they were saved last are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// The program, once it's built.
    pub(crate) program: Option<PathBuf>,
    /// How many warnings the compiler has. A step that is done should have none.
    pub(crate) warnings: usize,
    /// How many checks there are.
    pub(crate) total: usize,
    /// The checks that are through.
    pub(crate) grades: Grades,
    /// Why it can't go on: the compiler's messages, for example.
    pub(crate) error: Option<String>,
    /// Whether it's at its end.
    pub(crate) finished: bool,
}

impl Round {
    /// Whether every check has passed.
    pub(crate) fn is_done(&self) -> bool {
        let passed = self.grades.passed();
        self.finished && self.error.is_none() && passed > 0 && passed == self.grades.checks.len()
    }

    fn has_failure(&self) -> bool {
        self.grades.failed().next().is_some()
    }
}

/// Watches a step, and the ones after it, until the learner quits.
///
/// # Errors
/// There's no terminal, or the step isn't begun.
pub fn watch(step: Step) -> Result<Step> {
    if !stdin().is_terminal() {
        let message = format!("watch needs a terminal; `{}` doesn't", step.recipe("check"));
        return Err(Error::new(message));
    }
    starter::ensure_begun(&step, &step.work_dir()?)?;
    // The first build may take long, so cargo shows its progress. If it fails, the first round says why.
    let _ = starter::build(&step, &step.work_dir()?);
    let keyboard = Keyboard::new(true)?;
    let events = Events::of(&step)?;
    let mut session = Session { step, keyboard, events, round: Round::default(), asked: false };
    session.run()?;
    Ok(session.step)
}

struct Session {
    step: Step,
    keyboard: Keyboard,
    events: Events,
    round: Round,
    /// Whether the last key asked for the solution.
    asked: bool,
}

impl Session {
    fn run(&mut self) -> Result {
        let (mut screen, mut page) = (Screen::Checks, 0);
        self.begin_round()?;
        loop {
            let pages = screen::show(&self.step, &self.round, &screen, page)?;
            let mut event = self.events.next()?;
            // Without another page, this key isn't offered.
            while pages <= 1 && matches!(event, Event::Key(b' ')) {
                event = self.events.next()?;
            }
            match event {
                Event::Saved => {
                    (screen, page) = (Screen::Checks, 0);
                    self.begin_round()?;
                }
                Event::Progress(round) => self.round = round,
                Event::Resumed => self.keyboard.apply()?,
                Event::Quit => return Ok(()),
                Event::Key(b' ') => page = (page + 1) % pages,
                Event::Key(key) => match self.press(key) {
                    Ok(Some(next)) => (screen, page) = (next, 0),
                    Ok(None) => return Ok(()),
                    // For example, the sources are gone, and may come back.
                    Err(error) => (screen, page) = (Screen::Text(error.to_string()), 0),
                },
            }
        }
    }

    fn begin_round(&mut self) -> Result {
        self.round = Round::default();
        self.events.begin_round(&self.step)
    }

    /// Returns what to show after a key, or nothing if it's the one to quit.
    fn press(&mut self, key: u8) -> Result<Option<Screen>> {
        let sees_solution = mem::take(&mut self.asked) || self.round.is_done();
        Ok(Some(match key {
            b'q' => return Ok(None),
            b'h' => match self.round.grades.first_to_fix() {
                Some(grade) => {
                    let count = hints::next(&self.step, grade.check)?;
                    hints::keep(&self.step, grade.check, count)?;
                    let text = hints::text(grade.check, count);
                    if count < hints::for_check(grade.check.name).len() {
                        Screen::Text(text)
                    } else {
                        let end = "\nThese are all its hints. The key d shows our solution.\n";
                        Screen::LastHint(text + end)
                    }
                }
                None => Screen::Checks,
            },
            b'a' if self.round.has_failure() => Screen::Failures,
            b'd' if sees_solution => Screen::Diff(diff::with_ours(&self.step)?),
            // The key for slow motion is beside it.
            b'd' => {
                self.asked = true;
                Screen::Text(
                    "This shows what your step lacks. Press d again to see it.\n".to_owned(),
                )
            }
            b'r' => {
                self.begin_round()?;
                Screen::Checks
            }
            b's' => self.slow_motion()?,
            b'n' if self.round.is_done() => self.next_step()?,
            _ => Screen::Checks,
        }))
    }

    /// Shows the learner's program in slow motion, which has the keyboard meanwhile.
    fn slow_motion(&mut self) -> Result<Screen> {
        let Some(program) = &self.round.program else { return Ok(Screen::Checks) };
        // There, Ctrl-C is meant for slow motion, but its signal would end us, too.
        self.keyboard.lend()?;
        let mut slow = Command::new("/proc/self/exe");
        slow.args(["slow", &self.step.label(), "--from-watch", "--bin"]).arg(program);
        let status = slow.status().context("start /proc/self/exe");
        self.keyboard.apply()?;
        // If it failed, it has said why.
        Ok(if status?.success() { Screen::Checks } else { Screen::AsItIs })
    }

    /// Goes on to the next step, and begins it if the learner hasn't yet.
    fn next_step(&mut self) -> Result<Screen> {
        let Some(next) = done::next_step(&self.step)? else { return Ok(Screen::Checks) };
        let directory = next.work_dir()?;
        let is_new = !directory.exists();
        if is_new {
            starter::lay_out(&next, &directory, Begin::WithStarter, false)?;
            crate::editor::link_projects()?;
        }
        self.events.change_to(&next)?;
        self.step = next;
        self.begin_round()?;
        let place = starter::first_todo(&directory).unwrap_or_else(|| relative_path(&directory));
        let mut text = format!(
            "{step} is next. The chapter is book/src/{step}.md.\nOpen {place}.\n",
            step = self.step
        );
        if let Some(mine) = starter::own_without_todos(&self.step).filter(|_| is_new) {
            let start = self.step.recipe("start");
            text += &format!(
                "\nThis starter contains our code up to here, and TODOs.\n\
                 Instead, you can start with {mine}:\n    {start} --from-mine --again\n"
            );
        }
        Ok(Screen::Text(text))
    }
}
