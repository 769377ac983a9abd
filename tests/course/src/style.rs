//! Color at a terminal, unless NO_COLOR, TERM=dumb or `--color` says otherwise.

use std::env;
use std::io::{IsTerminal, stderr, stdout};
use std::sync::OnceLock;

use clap::ValueEnum;

/// When to print in color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// At a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

static CHOSEN: OnceLock<Color> = OnceLock::new();

/// Sets what `--color` says, once.
pub fn choose(color: Color) {
    let _ = CHOSEN.set(color);
}

fn is_colored(is_terminal: bool) -> bool {
    match CHOSEN.get().copied().unwrap_or_default() {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            is_terminal && !no_color && !is_dumb()
        }
    }
}

/// Whether the terminal can neither color nor erase a line.
pub fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty())
}

/// Whether to color what goes to standard error.
pub fn colors_stderr() -> bool {
    is_colored(stderr().is_terminal())
}

/// A color, or another way to stand out. All are readable on dark and on light backgrounds.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A check that passed, or an expected behavior.
    Good,
    /// A check that failed, or the behavior that was seen.
    Bad,
    /// A text to read first.
    Bold,
    /// A text to read last.
    Faint,
    /// New, or changed since the frame before.
    Changed,
}

/// Paints a text for standard output.
pub fn paint(style: Style, text: &str) -> String {
    if !is_colored(stdout().is_terminal()) || text.is_empty() {
        return text.to_owned();
    }
    let code = match style {
        Style::Good => "32",
        Style::Bad => "31",
        Style::Bold => "1",
        Style::Faint => "2",
        // Bold magenta.
        Style::Changed => "1;35",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
