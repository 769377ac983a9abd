//! A frame on a terminal, and the keys.

use std::io::{IsTerminal, PipeReader, pipe, stdin, stdout};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Context, Result, procfs, wait_readable};
use nix::sys::signal::Signal;

use super::frames::{Frame, Kind};
use super::render::{cut, hanging, heading, lines, printed, wrap};
use crate::keyboard::{CTRL_C, CTRL_D, Keyboard, read_key};
use crate::print::{WIDTH, print};
use crate::style::{Style, is_dumb, paint};
use crate::terminal;

/// The lines of a screen, if the terminal doesn't say how many it has.
const HEIGHT: usize = 24;
/// The widest table. Sentences stay narrower, because long lines are hard to read.
const WIDEST: usize = 120;
/// The time after which the key that kills the program is shown.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait between two rounds of killing. A process may be created during a round.
const AGAIN: Duration = Duration::from_millis(20);

/// The learner's choice of what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The next frame.
    Next,
    /// Everything that is left, without stopping.
    RunOn,
    /// No further frame.
    Quit,
}

/// A terminal that gives us single keys.
pub struct Screen {
    title: String,
    /// The effect of `q`, as the screen names it.
    leave: &'static str,
    // Without Ctrl-Z, because after it the shell's settings would be ours.
    _keyboard: Keyboard,
}

impl Screen {
    /// Switches to single keys, of which `q` does what `leave` says. Returns `None` if this isn't a terminal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn open(title: String, leave: &'static str) -> Result<Option<Self>> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(None);
        }
        Ok(Some(Screen { title, leave, _keyboard: Keyboard::new(false)? }))
    }

    /// Shows a frame, and waits for a key. A frame without a result is a call that is about to happen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn ask(&self, frame: &Frame) -> Result<Key> {
        // Narrower than this, nothing would be readable.
        let (height, width) = terminal::size().unwrap_or((HEIGHT, WIDTH));
        let (height, width) = (height.max(8), width.max(30));
        let start = if is_dumb() { "\n" } else { "\x1b[H\x1b[2J" };
        print(format!("{start}{}", self.render(frame, height, width)))?;
        Ok(read_wanted())
    }

    /// Shows keys, and waits for one that would leave a frame.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn wait(&self, keys: &[(&str, &str)]) -> Result<Key> {
        print(terminal::keys("", keys, WIDTH) + " ")?;
        Ok(read_wanted())
    }

    /// Starts a screen without frames, in place of the last one.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn leave_frames(&self) -> Result {
        let start = if is_dumb() { "\n" } else { "\x1b[H\x1b[2J" };
        print(format!("{start}{}\n\n", self.title))
    }

    /// Lets the step run, and meanwhile takes the key that ends it. Below what is printed, `line` shows this key after
    /// half a second. Returns `None` if the key has ended the step.
    ///
    /// # Errors
    /// There can't be another thread, or `run` failed.
    pub fn while_running<T>(
        &self,
        line: &str,
        run: impl FnOnce(&Below) -> Result<T>,
    ) -> Result<Option<T>> {
        let (is_done, done) = pipe().context("pipe")?;
        let below = Below { line: format!("{line}[q] end the step "), is_shown: Mutex::default() };
        let is_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let (below, is_ended) = (&below, &is_ended);
            let end = move || end_on_key(&is_done, below, is_ended);
            thread::Builder::new().spawn_scoped(scope, end).context("start a thread")?;
            // The other thread ends when this is closed, however we end.
            let done = done;
            let result = run(below);
            drop(done);
            below.hide();
            if is_ended.load(Ordering::Relaxed) { Ok(None) } else { result.map(Some) }
        })
    }

    /// Takes away the keys, so that what comes next isn't below keys that no longer do anything.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn close(&self) -> Result {
        print(if is_dumb() { "\n" } else { "\r\x1b[K" })
    }

    /// Renders a frame for a terminal of this height and width. The cursor is in the last line, which has the keys.
    fn render(&self, frame: &Frame, height: usize, width: usize) -> String {
        let (table_width, width) = (width.min(WIDEST), width.min(WIDTH));
        let mut text = vec![cut(&self.title, table_width - 1), String::new()];
        text.push(cut(&format!("{}. {}", frame.number, heading(frame)), width - 1));
        text.push(String::new());
        let call = hanging(&frame.described.call, width - 6).take(4);
        let call = call.map(|line| format!("   {}", cut(&line, width - 4)));
        text.extend(call.map(|line| paint(Style::Bold, &line)));
        text.push(String::new());
        let longest = if width < WIDTH { 4 } else { 2 };
        let sentence = wrap(&frame.described.sentence, width - 3).into_iter().take(longest);
        text.extend(sentence.map(|line| format!("   {line}")));
        text.push(String::new());
        if let Some(result) = &frame.result {
            let style = if result.starts_with("= -1 ") { Style::Changed } else { Style::Bold };
            let lines = wrap(result, width - 3).into_iter().take(2);
            text.extend(lines.map(|line| paint(style, &cut(&format!("   {line}"), width - 1))));
        } else {
            // An empty line keeps its place, so that the table doesn't jump.
            text.push(String::new());
        }
        let lines_printed: Vec<_> = printed(frame, width - 6).collect();
        for line in lines_printed.iter().rev().take(3).rev() {
            text.push(paint(Style::Faint, &cut(&format!("   {line}"), width - 1)));
        }
        text.push(String::new());
        // The table gets what is left, with room for an empty line and the keys.
        let keys = self.keys(frame, width - 1);
        let below = 1 + keys.lines().count();
        if text.len() + 2 + frame.rows.len() + below > height {
            text.retain(|line| !line.is_empty());
        }
        // On a small screen, a line of the table is more important than the title.
        if text.len() + 1 + below > height {
            text.remove(0);
        }
        let room = height.saturating_sub(text.len() + below).max(1);
        let table = lines(&frame.rows);
        // The first line of the table has the headings.
        let caller = frame.rows.iter().position(|row| row.pid == frame.pid).map(|row| row + 1);
        let shown = if table.len() > room { room - 1 } else { room };
        for (index, line) in table.iter().enumerate().take(shown) {
            let line = cut(line, table_width - 1);
            text.push(match line.starts_with(['*', '-']) {
                true => paint(Style::Changed, &line),
                false if Some(index) == caller => paint(Style::Bold, &line),
                false => line,
            });
        }
        if table.len() > room {
            text.push(format!("  ... and {} more", table.len() - room + 1));
        }
        text.push(String::new());
        text.push(keys + " ");
        text.join("\n")
    }

    fn keys(&self, frame: &Frame, width: usize) -> String {
        let enter = match (&frame.result, frame.kind) {
            (Some(_), _) => "next",
            (None, Kind::Call) => "make the call",
            (None, Kind::Sent) => "send the signal",
            (None, _) => "deliver the signal",
        };
        terminal::keys("", &[("Enter", enter), ("c", "run to the end"), ("q", self.leave)], width)
    }
}

/// The keys below what a program prints.
#[derive(Debug)]
pub struct Below {
    line: String,
    is_shown: Mutex<bool>,
}

impl Below {
    /// Prints above the keys.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn print(&self, text: &str) -> Result {
        let is_shown = self.is_shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_shown || text.is_empty() || is_dumb() {
            return print(text);
        }
        print(format!("\r\x1b[K{text}{}", self.line))
    }

    fn show(&self) {
        let mut is_shown = self.is_shown.lock().unwrap_or_else(PoisonError::into_inner);
        *is_shown = true;
        let (start, end) = if is_dumb() { ("", "\n") } else { ("\r\x1b[K", "") };
        let _ = print(format!("{start}{}{end}", self.line));
    }

    fn hide(&self) {
        let mut is_shown = self.is_shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_shown && !is_dumb() {
            let _ = print("\r\x1b[K");
        }
        *is_shown = false;
    }
}

/// Kills every process of the step after the key, until the other side says that all of them are gone.
fn end_on_key(is_done: &PipeReader, below: &Below, is_ended: &AtomicBool) {
    // A key that is pressed earlier belongs to the next frame.
    let Ok([false]) = wait_readable([is_done.as_fd()], Some(Instant::now() + PATIENCE)) else {
        return;
    };
    below.show();
    loop {
        let Ok([_, false]) = wait_readable([stdin().as_fd(), is_done.as_fd()], None) else {
            return;
        };
        if matches!(read_key(), Some(b'q' | b'Q' | CTRL_C | CTRL_D) | None) {
            break;
        }
    }
    is_ended.store(true, Ordering::Relaxed);
    loop {
        let descendants = procfs::own_descendants().unwrap_or_default();
        descendants.iter().for_each(|process| process.signal(Signal::SIGKILL));
        match wait_readable([is_done.as_fd()], Some(Instant::now() + AGAIN)) {
            Ok([false]) => {}
            _ => return,
        }
    }
}

fn read_wanted() -> Key {
    loop {
        match read_key() {
            Some(b'\n' | b'\r' | b' ') => return Key::Next,
            Some(b'c' | b'C') => return Key::RunOn,
            Some(b'q' | b'Q' | CTRL_C | CTRL_D) | None => return Key::Quit,
            Some(_) => {}
        }
    }
}
