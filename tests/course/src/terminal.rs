//! The terminal's size, and lines that fit it.

use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::process::Command;

/// Returns the height and the width of the terminal at standard output. stty(1) asks it.
pub fn size() -> Option<(usize, usize)> {
    let stdout = stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let terminal = stdout.as_fd().try_clone_to_owned().ok()?;
    let output = Command::new("stty").arg("size").stdin(terminal).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (height, width) = text.trim().split_once(' ')?;
    // stty(1) reports 0 if the terminal's size is unknown.
    Some((height.parse().ok()?, width.parse().ok()?)).filter(|size| size.0 > 0 && size.1 > 0)
}

/// Counts the columns that a line takes up. A color takes up none.
pub fn columns(line: &str) -> usize {
    let mut pieces = line.trim_end().split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().chars().count();
    let after = |piece: &str| piece.split_once('m').map_or(0, |(_, text)| text.chars().count());
    first + pieces.map(after).sum::<usize>()
}

/// Writes keys after `start`, each with what it does, in lines of at most `width` columns.
pub fn keys(start: &str, keys: &[(&str, &str)], width: usize) -> String {
    let mut lines = vec![start.to_owned()];
    for (key, what) in keys {
        let key = format!("[{key}] {what}");
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            *line = key;
        } else if columns(line) + 2 + columns(&key) > width {
            lines.push(key);
        } else {
            *line += &format!("  {key}");
        }
    }
    lines.join("\n")
}
