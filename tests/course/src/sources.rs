//! The sources of a step.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::{Context, Result};

use crate::workspace::relative_path;

/// Reads the Rust files as [`read_with_anchors`] does, without the lines that mark where the book cuts (`// ANCHOR`).
///
/// # Errors
/// The directory can't be read.
pub fn read(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = read_with_anchors(directory)?;
    let is_anchor = |line: &&str| line.trim_start().starts_with("// ANCHOR");
    for text in files.values_mut() {
        *text = text.split_inclusive('\n').filter(|line| !is_anchor(line)).collect();
    }
    Ok(files)
}

/// Reads the Rust files in a directory and below it, by their relative paths. An editor's backups, locks, and swap
/// files aren't Rust files, and are left out.
///
/// # Errors
/// The directory can't be read.
pub fn read_with_anchors(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut below = vec![String::new()];
    while let Some(prefix) = below.pop() {
        let path = directory.join(&prefix);
        let entries = fs::read_dir(&path).context(format!("read {}", relative_path(&path)))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let (path, name) = (entry.path(), format!("{prefix}{name}"));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below.push(format!("{name}/"));
            } else if !entry.file_name().as_encoded_bytes().starts_with(b".")
                && name.ends_with(".rs")
                && path.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.insert(name, text.replace("\r\n", "\n"));
            }
        }
    }
    Ok(found)
}
