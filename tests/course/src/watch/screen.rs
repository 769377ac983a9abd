//! What the learner sees.

use std::process::{Command, Stdio};

use harness::Result;

use super::Round;
use crate::print::print;
use crate::render;
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::bar;
use crate::{checks, done, starter};

/// What is shown.
#[derive(Debug)]
pub(super) enum Screen {
    /// The checks, and the first failure in full.
    Checks,
    /// Every failure in full.
    Failures,
    /// Something else, until a key or a save.
    Text(String),
    /// What another program left.
    AsItIs,
}

/// Clears the screen, and shows a page of it. Returns how many pages there are.
pub(super) fn show(step: &Step, round: &Round, screen: &Screen, page: usize) -> Result<usize> {
    let body = match screen {
        Screen::Checks => verdict(step, round)?,
        Screen::Failures => failures(round),
        Screen::Text(text) => text.clone(),
        Screen::AsItIs => {
            print(format!("\n{}\n", keys(step, round, screen, 1)?))?;
            return Ok(1);
        }
    };
    let pages = pages(&body);
    let keys = keys(step, round, screen, pages.len())?;
    let body = pages.get(page % pages.len().max(1)).cloned().unwrap_or_default();
    print(format!("\u{1b}[2J\u{1b}[H{}\n\n{body}\n{keys}\n", head(step, round)))?;
    Ok(pages.len())
}

fn head(step: &Step, round: &Round) -> String {
    let passed = round.grades.iter().filter(|grade| grade.failure.is_none()).count();
    let state = match (&round.program, round.finished) {
        (None, false) => "building…".to_owned(),
        (None, true) => paint(Style::Bad, "doesn't compile"),
        (Some(_), true) => format!("{} checks passed", bar(passed, round.total)),
        (Some(_), false) => {
            // When the last one is through, its score is still to be written.
            let number = (round.grades.len() + 1).min(round.total);
            let running =
                checks::for_step(step).get(number.saturating_sub(1)).map(|check| check.title());
            format!("checking {number} of {}: {}…", round.total, running.unwrap_or_default())
        }
    };
    format!("{}  {state}", paint(Style::Bold, &format!("watching work/{}", step.label())))
}

/// Returns the failures in one line each, and the first one in full. Passed checks share a line, so that everything
/// fits a small screen.
fn verdict(step: &Step, round: &Round) -> Result<String> {
    if let Some(error) = &round.error {
        return Ok(error.clone());
    }
    if round.is_done() {
        let warnings = match round.warnings {
            0 => String::new(),
            1 => format!("\nThe compiler has a warning: `{}` shows it.\n", step.recipe("work")),
            more => format!(
                "\nThe compiler has {more} warnings: `{}` shows them.\n",
                step.recipe("work")
            ),
        };
        return Ok(done::message(step)?.0 + &warnings);
    }
    let mut text = String::new();
    let passed = round.grades.iter().filter(|grade| grade.failure.is_none()).count();
    if passed > 0 {
        text += &format!("{} {passed} passed\n", paint(Style::Good, "✓"));
    }
    let failed: Vec<_> = round.grades.iter().filter(|grade| grade.failure.is_some()).collect();
    if let Some((first, others)) = failed.split_first() {
        let gap = if passed > 0 { "\n" } else { "" };
        text += &format!("{gap}{}", render::failure(first, false));
        if !others.is_empty() {
            text.push('\n');
        }
        const SHOWN: usize = 6;
        others.iter().take(SHOWN).for_each(|grade| text += &render::line(grade));
        if others.len() > SHOWN {
            text += &format!("… and {} more\n", others.len() - SHOWN);
        }
    } else if !round.finished
        && round.program.is_none()
        && let Some(todo) = starter::first_todo(&step.work_dir()?)
    {
        text += &format!("The first TODO is at {todo}.\n");
    }
    Ok(text)
}

fn failures(round: &Round) -> String {
    let failed = round.grades.iter().filter(|grade| grade.failure.is_some());
    let failed: Vec<_> = failed.map(|grade| render::failure(grade, false)).collect();
    if failed.is_empty() { "No check has failed.\n".to_owned() } else { failed.join("\n") }
}

/// Cuts a text into what fits the screen. The first error and the first failure are the ones to begin with, so they
/// mustn't scroll away.
fn pages(text: &str) -> Vec<String> {
    // With the head, the keys, two empty lines and the cursor, that fits any terminal.
    const SMALL: usize = 19;
    let lines: Vec<_> = text.lines().map(|line| format!("{line}\n")).collect();
    if lines.iter().map(|line| rows(line, 80)).sum::<usize>() <= SMALL {
        return vec![text.to_owned()];
    }
    let (height, width) = size().unwrap_or((24, 80));
    let room = height.saturating_sub(24 - SMALL).max(1);
    let (mut pages, mut left) = (vec![], 0);
    for line in lines {
        let rows = rows(&line, width);
        if rows > left {
            pages.push(String::new());
            left = room;
        }
        left = left.saturating_sub(rows);
        if let Some(page) = pages.last_mut() {
            *page += &line;
        }
    }
    pages
}

/// Counts the rows of a terminal that a line takes up. A color takes up none.
fn rows(line: &str, width: usize) -> usize {
    let mut pieces = line.trim_end().split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().chars().count();
    let after = |piece: &str| piece.split_once('m').map_or(0, |(_, text)| text.chars().count());
    (first + pieces.map(after).sum::<usize>()).div_ceil(width.max(1)).max(1)
}

/// Returns the height and the width of the terminal. stty(1) asks it.
fn size() -> Option<(usize, usize)> {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (height, width) = text.trim().split_once(' ')?;
    // A terminal that doesn't know says 0.
    Some((height.parse().ok()?, width.parse().ok()?)).filter(|size| size.0 > 0 && size.1 > 0)
}

/// Returns the keys that do something now.
fn keys(step: &Step, round: &Round, screen: &Screen, pages: usize) -> Result<String> {
    let mut keys = Vec::new();
    if pages > 1 {
        keys.push("Space more");
    }
    if round.is_done() && done::next_step(step)?.is_some() {
        keys.push("n next step");
    }
    if round.first_failure().is_some() {
        keys.extend(["h hint", "a all failures"]);
    }
    keys.push("d diff to ours");
    if round.program.is_some() {
        keys.push(if pages > 1 { "s slow" } else { "s slow motion" });
    }
    if !matches!(screen, Screen::Checks) {
        keys.push("Enter checks");
    } else if round.finished {
        keys.push("r again");
    }
    keys.push("q quit");
    Ok(paint(Style::Faint, &keys.join("  ")))
}
