//! Diffs between two steps, and between the learner's step and ours.

use std::collections::BTreeSet;
use std::path::Path;

use harness::Result;
use similar::{ChangeTag, TextDiff};

use crate::print::fill;
use crate::sources;
use crate::step::Step;
use crate::style::{self, Style};
use crate::terminal;
use crate::workspace::relative_path;

/// Compares the sources of two steps.
///
/// # Errors
/// They can't be read.
pub fn between_steps(old: &Step, new: &Step) -> Result<String> {
    let name = |step: &Step| format!("{step}/src");
    let (old_sources, new_sources) = (old.dir()?.join("src"), new.dir()?.join("src"));
    compare((&old_sources, &name(old)), (&new_sources, &name(new)))
}

/// The answer if nothing differs.
pub const SAME: &str = "Your code is the same as ours.\n";

/// Compares the learner's sources with ours, in color. Says so if they're the same.
///
/// # Errors
/// They can't be read.
pub fn with_ours(step: &Step) -> Result<String> {
    let (mine, ours) = (step.work_dir()?.join("src"), step.dir()?.join("src"));
    let text = compare((&mine, &relative_path(&mine)), (&ours, &relative_path(&ours)))?;
    if text.is_empty() {
        return Ok(SAME.to_owned());
    }
    Ok(paint(&text))
}

/// Colors a diff for standard output. At a terminal, lines that are too long for it are broken between words.
pub fn paint(diff: &str) -> String {
    let width = terminal::size().map_or(usize::MAX, |(_, width)| width);
    let color = |line: &str| match line.chars().next() {
        _ if line.starts_with("+++") || line.starts_with("---") => style::paint(Style::Bold, line),
        Some('+') => style::paint(Style::Good, line),
        Some('-') => style::paint(Style::Bad, line),
        Some('@') => style::paint(Style::Faint, line),
        _ => line.to_owned(),
    };
    fit(diff, width).iter().flat_map(|line| [color(line), "\n".to_owned()]).collect()
}

/// Breaks lines that are too long between words. Comments are filled anew, and what else is continued is indented.
fn fit(diff: &str, width: usize) -> Vec<String> {
    let mut fitting = Vec::new();
    let mut lines = diff.lines().peekable();
    while let Some(line) = lines.next() {
        let (start, mut text) = split_start(line);
        let is_comment = start.ends_with("/ ") || start.ends_with("! ");
        let mut paragraph = vec![line];
        // A line continues the one before if its first word didn't fit there. Ours are at least 75 columns wide.
        while let Some(next) = lines.next_if(|next| {
            let (next_start, next_text) = split_start(next);
            let word = next_text.split(' ').next().unwrap_or_default();
            let last = paragraph.last().map_or(0, |last| last.chars().count());
            is_comment && next_start == start && last + word.chars().count() >= 75
        }) {
            paragraph.push(next);
            text = format!("{text} {}", split_start(next).1);
        }
        if paragraph.iter().all(|line| line.chars().count() <= width) {
            fitting.extend(paragraph.into_iter().map(str::to_owned));
        } else {
            let more = if is_comment { start.clone() } else { format!("{start}    ") };
            fitting.extend(fill(&start, &more, &text, width));
        }
    }
    fitting
}

/// Splits off the sign, the indentation, and what begins a comment. A list's `- ` begins no word.
fn split_start(line: &str) -> (String, String) {
    let is_space = |c: char| c == ' ';
    let code = line.trim_start_matches(['+', '-', ' ']);
    let text = ["//! ", "/// ", "// "].into_iter().find_map(|start| code.strip_prefix(start));
    let text = text.unwrap_or(code);
    let inner = text.trim_start_matches(is_space);
    let start = line.len() - inner.len();
    (line[..start].to_owned(), inner.to_owned())
}

/// Returns a unified diff. The head of a hunk names the function it is in, not line numbers.
fn compare(old: (&Path, &str), new: (&Path, &str)) -> Result<String> {
    let (before, after) = (sources::read(old.0)?, sources::read(new.0)?);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut text = String::new();
    for name in names {
        let (before, after) = (before.get(name), after.get(name));
        if before == after {
            continue;
        }
        let side = |directory: &str, source: Option<&String>| match source {
            Some(_) => format!("{directory}/{name}"),
            None => "/dev/null".to_owned(),
        };
        text += &format!("--- {}\n+++ {}\n", side(old.1, before), side(new.1, after));
        let text_of = |source: Option<&String>| source.cloned().unwrap_or_default();
        hunks(&text_of(before), &text_of(after), &mut text);
    }
    Ok(text)
}

fn hunks(before: &str, after: &str, text: &mut String) {
    let diff = TextDiff::from_lines(before, after);
    let lines: Vec<_> = before.lines().collect();
    for group in diff.grouped_ops(3) {
        let start = group.first().map_or(0, |first| first.old_range().start);
        let heads = |line: &&&str| !line.starts_with([' ', '}', '/', '#']) && line.contains("fn ");
        let head = lines[..start.min(lines.len())].iter().rev().find(heads).unwrap_or(&"");
        text.extend([format!("@@ {head}").trim_end(), "\n"]);
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            text.extend([format!("{sign}{}", change.value()).trim_end(), "\n"]);
        }
    }
}
