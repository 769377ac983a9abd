//! Prints, without a panic when no one reads it.

use std::io::{ErrorKind, IsTerminal, Write, stdout};
use std::mem;
use std::sync::OnceLock;

use harness::{Context, Error, Result};

use crate::style::{Style, paint};
use crate::terminal;
use crate::workspace::called_as;

/// Prints to standard output.
///
/// # Errors
/// It can't be written. If the reader is gone (`| head`), [`is_broken_pipe`] tells.
pub fn print(text: impl AsRef<str>) -> Result {
    let mut stdout = stdout();
    let written = stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush());
    written.context("write to standard output")
}

/// The width of the longest line, in columns.
pub const WIDTH: usize = 80;

/// The width of the longest line at this terminal, in columns: a narrow one would break longer lines inside words.
pub fn width() -> usize {
    static AT_START: OnceLock<usize> = OnceLock::new();
    *AT_START
        .get_or_init(|| terminal::size().map_or(WIDTH, |(_, columns)| columns.clamp(40, WIDTH)))
}

/// Writes `text` after `start`, broken between words so that it fits. The other lines are indented by the width of
/// `start`.
pub fn wrap(start: &str, text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    fill(start, &" ".repeat(start.chars().count()), &text, width()).join("\n")
}

/// Breaks a text between words into lines of at most `width` columns. The first begins with `start`, and the others
/// with `more`.
pub fn fill(start: &str, more: &str, text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut is_empty) = (Vec::new(), start.to_owned(), true);
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(mem::replace(&mut line, more.to_owned()));
            is_empty = true;
        }
        line += if is_empty { "" } else { " " };
        line += word;
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// Returns the lines below `[name]` in a text with such sections.
pub fn section<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("[{name}]");
    let lines = text.lines().skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('['))
}

/// Prints the last line of an answer: what to do next.
///
/// # Errors
/// As for `print`.
pub fn print_next(text: impl AsRef<str>) -> Result {
    // A command stays in one line: its first two words, and then the options and names of checks.
    const GLUE: char = '\u{e000}';
    let command = called_as();
    let glued = command.replace(' ', &GLUE.to_string());
    let mut parts = text.as_ref().split(&*command);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for arguments in parts {
        text += &glued;
        let mut in_command = true;
        for (index, word) in arguments.split(' ').enumerate() {
            in_command &= index <= 2 || word.contains('_') || word.starts_with("--");
            match index {
                0 => {}
                _ if in_command => text.push(GLUE),
                _ => text.push(' '),
            }
            text += word;
            in_command &= !word.ends_with([',', ':', ')']);
        }
    }
    let text = wrap("Next: ", &text).replace(GLUE, " ");
    print(format!("\n{}\n", text.replacen("Next:", &paint(Style::Bold, "Next:"), 1)))
}

/// Prints what to do next, if a person reads it and not a program.
///
/// # Errors
/// As for `print`.
pub fn suggest(text: impl AsRef<str>) -> Result {
    if stdout().is_terminal() { print_next(text) } else { Ok(()) }
}

/// Whether the reader of our output is gone, which ends a command, and is no mistake.
pub fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Call { source, .. } if source.kind() == ErrorKind::BrokenPipe)
}

/// Cuts a line so that it has at most `width` columns. A last word in parentheses stays, because in a process tree it can
/// say that a process is stopped or a zombie.
pub fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let end = line.rfind(" (").filter(|_| line.ends_with(')')).map_or("", |at| &line[at..]);
    let end = if end.chars().count() < width / 2 { end } else { "" };
    let kept = line.chars().take(width - 1 - end.chars().count());
    kept.chain(['…']).chain(end.chars()).collect()
}

/// Returns the first lines of a text, none of them longer than a screen.
pub fn truncate(text: &str) -> String {
    const LINES: usize = 8;
    let shorten = |line| cut(line, 101);
    let text = text.trim_end();
    let mut lines: Vec<_> = text.lines().take(LINES).map(shorten).collect();
    if text.lines().count() > LINES {
        lines.push("…".to_owned());
    }
    lines.join("\n")
}
