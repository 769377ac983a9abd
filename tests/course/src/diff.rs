//! What one version of a step adds to another.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use harness::{Context, Result};
use similar::{ChangeTag, TextDiff};

use crate::step::Step;
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

/// Compares the sources in two directories.
///
/// # Errors
/// They can't be read.
pub fn between_directories(old: &Path, new: &Path) -> Result<String> {
    compare((old, &relative_path(old)), (new, &relative_path(new)))
}

/// Returns a unified diff without the lines that mark where the book cuts (`// ANCHOR`). The head of a hunk
/// names the function it is in, not line numbers.
fn compare(old: (&Path, &str), new: (&Path, &str)) -> Result<String> {
    let mut names = sources(old.0)?;
    names.extend(sources(new.0)?);
    names.sort();
    names.dedup();
    let mut text = String::new();
    for name in names {
        let (before, after) = (source(old.0, &name)?, source(new.0, &name)?);
        if before == after {
            continue;
        }
        let side = |directory: &str, source: &Option<String>| match source {
            Some(_) => format!("{directory}/{name}"),
            None => "/dev/null".to_owned(),
        };
        let _ = writeln!(text, "--- {}", side(old.1, &before));
        let _ = writeln!(text, "+++ {}", side(new.1, &after));
        hunks(&before.unwrap_or_default(), &after.unwrap_or_default(), &mut text);
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

fn sources(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).context(format!("read {}", directory.display()))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    Ok(entries.flatten().map(name).collect())
}

fn source(directory: &Path, name: &str) -> Result<Option<String>> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).context(format!("read {}", path.display()))?;
    Ok(Some(without_anchors(&text)))
}

/// Leaves out the lines that mark where the book cuts.
pub fn without_anchors(text: &str) -> String {
    let is_anchor = |line: &&str| line.trim_start().starts_with("// ANCHOR");
    text.split_inclusive('\n').filter(|line| !is_anchor(line)).collect()
}
