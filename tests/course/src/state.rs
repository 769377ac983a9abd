//! What is kept about a learner's step from one command to the next: the last score, whether the step compiled,
//! and how many hints were given. It's in `work/02/progress.json`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use harness::{Context, Result};
use serde_json::{Value, json};

use crate::sources;
use crate::workspace::relative_path;

const FILE: &str = "progress.json";

/// How many of how many checks passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// How many passed.
    pub passed: u64,
    /// How many there are.
    pub total: u64,
}

/// What is kept.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last score of the whole step.
    pub score: Option<Score>,
    /// The fingerprint of the sources that had this score.
    graded: String,
    /// The fingerprint of sources that didn't compile.
    broken: String,
    /// How many hints were given for each check.
    hints: BTreeMap<String, u64>,
}

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
    /// Reads what is kept, or begins anew if that isn't readable.
    pub fn load(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let score =
            || Some(Score { passed: value["passed"].as_u64()?, total: value["total"].as_u64()? });
        let hints = value["hints"].as_object().into_iter().flatten();
        let hints = hints.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        State {
            score: score(),
            graded: word("graded"),
            broken: word("broken"),
            hints: hints.collect(),
        }
    }

    /// Writes a new file and renames it, so that there's always a whole one.
    fn save(&self, directory: &Path) -> Result {
        let mut value =
            json!({ "graded": self.graded, "broken": self.broken, "hints": self.hints });
        if let Some(score) = self.score {
            value["passed"] = score.passed.into();
            value["total"] = score.total.into();
        }
        let (new, path) = (directory.join(".progress.json.new"), directory.join(FILE));
        fs::write(&new, format!("{value:#}\n"))
            .context(format!("write {}", relative_path(&new)))?;
        fs::rename(&new, &path).context(format!("rename {}", relative_path(&path)))
    }

    /// Keeps a score, and the fingerprint that the sources had before the build.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_score(directory: &Path, score: Score, graded: String) -> Result {
        let broken = String::new();
        State { score: Some(score), graded, broken, ..State::load(directory) }.save(directory)
    }

    /// Keeps that these sources don't compile. The score stays.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_broken(directory: &Path, broken: String) -> Result {
        State { broken, ..State::load(directory) }.save(directory)
    }

    /// Returns how many hints were given for a check.
    pub fn hints_given(&self, check: &str) -> usize {
        let count = self.hints.get(check).copied().unwrap_or_default();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Keeps how many hints were given.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_hints(directory: &Path, check: &str, count: usize) -> Result {
        let mut state = State::load(directory);
        state.hints.insert(check.to_owned(), count as u64);
        state.save(directory)
    }

    /// Whether the score holds for the sources as they are.
    pub fn freshness(&self, directory: &Path) -> Freshness {
        let now = fingerprint(directory);
        if now == self.broken {
            Freshness::Broken
        } else if now == self.graded {
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
