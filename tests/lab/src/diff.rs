//! What one step adds to the step before.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use similar::{ChangeTag, TextDiff};

use crate::workspace::root;

/// The difference between the sources of two steps, in the form of a unified diff. The lines that mark
/// where the book cuts (`// ANCHOR`) are no part of it; the head of a hunk names the function that it
/// is in, not line numbers.
///
/// # Errors
/// The sources cannot be read.
pub fn steps(old: &str, new: &str) -> Result<String> {
    let directory = |step: &str| root().join("steps").join(step).join("src");
    let name = |step: &str| format!("{step}/src");
    between((&directory(old), &name(old)), (&directory(new), &name(new)))
}

fn between(old: (&Path, &str), new: (&Path, &str)) -> Result<String> {
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

/// The lines by which two texts differ, `-` or `+` in front.
pub fn lines(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let changes = diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal);
    changes
        .map(|change| format!("{}{}", change.tag(), change.value()).trim_end().to_owned())
        .collect()
}

/// The same for the sources in any two directories, `src` in both names.
///
/// # Errors
/// The sources cannot be read.
pub fn directories(old: &Path, new: &Path) -> Result<String> {
    let name = |path: &Path| {
        let path = path.strip_prefix(root()).unwrap_or(path);
        path.display().to_string()
    };
    between((old, &name(old)), (new, &name(new)))
}

fn sources(directory: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn source(directory: &Path, name: &str) -> Result<Option<String>> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lines =
        text.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("// ANCHOR"));
    Ok(Some(lines.collect()))
}
