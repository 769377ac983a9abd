//! A frame on a terminal, and the keys.

use std::env;
use std::io::{IsTerminal, Read, stdin, stdout};

use harness::{Context, Result};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

use super::frames::{Frame, Kind};
use super::render::{WIDTH, cut, hang, heading, lines, printed, wrap};
use crate::print::print;

/// The lines of a screen.
const HEIGHT: usize = 24;
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
/// Bold magenta, which can be read on black and on white.
const CHANGED: &str = "\x1b[1;35m";
const PLAIN: &str = "\x1b[0m";

/// What a learner wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The next frame.
    Next,
    /// Everything that is left, without stopping.
    RunOn,
    /// No more.
    Quit,
}

/// A terminal's settings, which it gets back when this is dropped.
pub struct Settings(Option<Termios>);

impl Settings {
    /// Keeps the settings of standard input, if that's a terminal.
    pub fn keep() -> Self {
        Settings(tcgetattr(stdin()).ok())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
        }
    }
}

/// A terminal that gives us single keys.
pub struct Screen {
    title: String,
    colored: bool,
    clears: bool,
    _settings: Settings,
}

impl Screen {
    /// Switches to single keys. None: this isn't a terminal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn open(title: String) -> Result<Option<Self>> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(None);
        }
        let kept = Settings::keep();
        let mut keys = tcgetattr(stdin()).context("tcgetattr")?;
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // No Ctrl-Z, because after it the shell's settings would be ours. Ctrl-C stays.
        keys.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
        tcsetattr(stdin(), SetArg::TCSANOW, &keys).context("tcsetattr")?;
        let clears = env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Some(Screen { title, colored: clears && !no_color, clears, _settings: kept }))
    }

    /// Shows a frame, and waits for a key. A frame without a result is a call that is about to happen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn ask(&self, frame: &Frame) -> Result<Key> {
        let start = if self.clears { "\x1b[H\x1b[2J" } else { "\n" };
        print(format!("{start}{}", self.render(frame)))?;
        read_key()
    }

    /// Waits for Enter, or any other key that would leave a frame.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn wait_for_enter(&self) -> Result {
        read_key().map(drop)
    }

    /// Renders a frame, with at most 23 lines and 80 columns. The cursor is in the last line.
    fn render(&self, frame: &Frame) -> String {
        let styled = |style: &str, line: &str| {
            if self.colored && !line.is_empty() && !style.is_empty() {
                format!("{style}{line}{PLAIN}")
            } else {
                line.to_owned()
            }
        };
        let title = cut(&format!("slow motion: {}", self.title), WIDTH - 1);
        let mut text = vec![styled(DIM, &title), String::new()];
        text.push(format!("{}. {}", frame.number, heading(frame)));
        text.push(String::new());
        let call = wrap(&frame.described.call, WIDTH - 6).into_iter().enumerate().map(hang);
        text.extend(
            call.take(4).map(|line| styled(BOLD, &format!("   {}", cut(&line, WIDTH - 4)))),
        );
        text.push(String::new());
        let sentence = wrap(&frame.described.sentence, WIDTH - 3).into_iter().take(2);
        text.extend(sentence.map(|line| format!("   {line}")));
        text.push(String::new());
        // Without a result, an empty line keeps its place, so that the table doesn't jump.
        if frame.result.is_none() {
            text.push(String::new());
        }
        if let Some(result) = &frame.result {
            let result = cut(&format!("   {result}"), WIDTH - 1);
            let refused = result.starts_with("   = -1 ");
            text.push(styled(if refused { CHANGED } else { BOLD }, &result));
        }
        let lines_printed: Vec<_> = printed(frame).collect();
        for line in lines_printed.iter().rev().take(3).rev() {
            text.push(styled(DIM, &cut(&format!("   {line}"), WIDTH - 1)));
        }
        text.push(String::new());
        // The table gets what is left, with room for an empty line and the keys.
        let room = HEIGHT - 2 - text.len();
        let table = lines(&frame.rows);
        // Below the line of heads.
        let caller = frame.rows.iter().position(|row| row.pid == frame.pid).map(|row| row + 1);
        let shown = if table.len() > room { room - 1 } else { room };
        for (index, line) in table.iter().enumerate().take(shown) {
            let style = match line.starts_with(['*', '-']) {
                true => CHANGED,
                false if Some(index) == caller => BOLD,
                false => "",
            };
            text.push(styled(style, &cut(line, WIDTH - 1)));
        }
        if table.len() > room {
            text.push(format!("  ... and {} more", table.len() - room + 1));
        }
        text.push(String::new());
        let enter = match (&frame.result, frame.kind) {
            (Some(_), _) => "next",
            (None, Kind::Call) => "make the call",
            (None, _) => "deliver the signal",
        };
        text.push(styled(DIM, &format!("[Enter] {enter}  [c] continue  [q] quit ")));
        text.join("\n")
    }
}

fn read_key() -> Result<Key> {
    loop {
        let mut key = [0];
        let read = stdin().read(&mut key).context("read a key")?;
        match key[0] {
            _ if read == 0 => return Ok(Key::Quit),
            b'\n' | b'\r' | b' ' => return Ok(Key::Next),
            b'c' | b'C' => return Ok(Key::RunOn),
            b'q' | b'Q' | 4 => return Ok(Key::Quit),
            _ => {}
        }
    }
}
