//! Tells rust-analyzer about the learner's packages. They're in no workspace, so an editor that is opened at the root
//! of the checkout wouldn't find them.

use std::fs;

use harness::{Context, Result};
use serde_json::{Value, json};

use crate::step::Step;
use crate::workspace::root;

const FILE: &str = ".vscode/settings.json";
const KEY: &str = "rust-analyzer.linkedProjects";

/// Lists the workspace and the learner's packages in `.vscode/settings.json`, if git ignores that. Returns what the
/// learner has to do, if we can't.
///
/// # Errors
/// The file can't be written.
pub fn link_projects() -> Result<Option<String>> {
    let root = root()?;
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    if !ignored.lines().any(|line| line.trim_end() == "/.vscode") {
        return Ok(None);
    }
    let mut projects = vec!["Cargo.toml".to_owned()];
    for step in Step::all()? {
        let manifest = format!("work/{}/Cargo.toml", step.label());
        if root.join(&manifest).exists() {
            projects.push(manifest);
        }
    }
    let path = root.join(FILE);
    let text = if path.exists() { fs::read(&path).unwrap_or_default() } else { b"{}".to_vec() };
    let projects = json!(projects);
    // A file with comments isn't JSON, and it's the learner's own, as is one that can't be read.
    let Ok(Value::Object(mut settings)) = serde_json::from_slice(&text) else {
        let line = format!("For rust-analyzer, add this to {FILE}: \"{KEY}\": {projects}\n");
        return Ok(Some(line));
    };
    if settings.get(KEY) != Some(&projects) {
        settings.insert(KEY.to_owned(), projects);
        fs::create_dir_all(root.join(".vscode")).context("mkdir .vscode")?;
        let text = format!("{:#}\n", Value::Object(settings));
        fs::write(&path, text).context(format!("write {FILE}"))?;
    }
    Ok(None)
}
