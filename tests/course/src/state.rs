//! The state of a learner's step, kept from one command to the next in `work/02/progress.json`: the checks that
//! passed last, whether the step compiled, and how many hints were given.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use harness::{Context, Result};
use serde_json::{Value, json};

use crate::sources;
use crate::workspace::relative_path;

const FILE: &str = "progress.json";

/// The state, as the JSON object in the file.
#[derive(Clone, Debug)]
pub struct State(Value);

/// Whether a score still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The sources are those that were graded.
    Current,
    /// The sources have changed since.
    Outdated,
    /// The sources don't compile.
    Broken,
}

impl State {
    /// Reads the state, or returns an empty one if the file can't be read.
    pub fn load(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let kept = serde_json::from_str(&text).ok().filter(Value::is_object);
        State(kept.unwrap_or_else(|| json!({})))
    }

    /// Returns the last score of the whole step: how many checks passed, and how many there are.
    pub fn score(&self) -> Option<(u64, u64)> {
        Some((self.0["passed"].as_u64()?, self.0["total"].as_u64()?))
    }

    /// Changes the file by renaming a new one, so that a reader never sees a part of it.
    fn change(directory: &Path, change: impl FnOnce(&mut Value)) -> Result {
        let State(mut kept) = State::load(directory);
        change(&mut kept);
        let (new, path) = (directory.join(".progress.json.new"), directory.join(FILE));
        fs::write(&new, format!("{kept:#}\n")).context(format!("write {}", relative_path(&new)))?;
        fs::rename(&new, &path).context(format!("rename {}", relative_path(&path)))
    }

    /// Whether a check passed when the whole step was graded last, and the sources were others than those of this
    /// fingerprint.
    pub fn has_passed_before(&self, check: &str, sources: &str) -> bool {
        let names = self.0["passed_checks"].as_array();
        self.0["graded"] != sources
            && names.is_some_and(|names| names.iter().any(|name| name == check))
    }

    /// Keeps which of how many checks passed, and the fingerprint that the sources had before the build.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_score(directory: &Path, passed: &[&str], total: usize, graded: String) -> Result {
        State::change(directory, |kept| {
            (kept["passed"], kept["total"]) = (passed.len().into(), total.into());
            kept["passed_checks"] = passed.into();
            (kept["graded"], kept["broken"]) = (graded.into(), "".into());
        })
    }

    /// Keeps that these sources don't compile. The score stays.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_broken(directory: &Path, broken: String) -> Result {
        State::change(directory, |kept| kept["broken"] = broken.into())
    }

    /// Returns how many hints were given for a check.
    pub fn hints_given(&self, check: &str) -> usize {
        let count = self.0["hints"][check].as_u64().unwrap_or_default();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Keeps how many hints were given.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_hints(directory: &Path, check: &str, count: usize) -> Result {
        State::change(directory, |kept| {
            if !kept["hints"].is_object() {
                kept["hints"] = json!({});
            }
            kept["hints"][check] = count.into();
        })
    }

    /// Whether the score holds for the sources as they are.
    pub fn freshness(&self, directory: &Path) -> Freshness {
        let now = fingerprint(directory);
        if self.0["broken"] == now.as_str() {
            Freshness::Broken
        } else if self.0["graded"] == now.as_str() {
            Freshness::Current
        } else {
            Freshness::Outdated
        }
    }
}

/// Returns a number that changes with the sources and the manifest, but not with their times.
pub fn fingerprint(directory: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    sources::read_with_anchors(&directory.join("src")).unwrap_or_default().hash(&mut hasher);
    fs::read(directory.join("Cargo.toml")).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
