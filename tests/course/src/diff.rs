//! What one version of a step adds to another.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use harness::Result;
use similar::{ChangeTag, TextDiff};

use crate::sources;
use crate::step::Step;
use crate::style::{self, Style};
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

/// Colors a diff for standard output.
pub fn paint(diff: &str) -> String {
    let color = |line: &str| match line.chars().next() {
        _ if line.starts_with("+++") || line.starts_with("---") => style::paint(Style::Bold, line),
        Some('+') => style::paint(Style::Good, line),
        Some('-') => style::paint(Style::Bad, line),
        Some('@') => style::paint(Style::Faint, line),
        _ => line.to_owned(),
    };
    diff.lines().flat_map(|line| [color(line), "\n".to_owned()]).collect()
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
        let _ = writeln!(text, "--- {}", side(old.1, before));
        let _ = writeln!(text, "+++ {}", side(new.1, after));
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
        let _ = writeln!(text, "{}", format!("@@ {head}").trim_end());
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let _ = writeln!(text, "{}", format!("{sign}{}", change.value()).trim_end());
        }
    }
}
