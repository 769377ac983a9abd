//! What the learner sees.

use harness::Result;

use super::Round;
use crate::print::print;
use crate::render;
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::bar;
use crate::{done, starter};

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

/// Clears the screen, and shows it.
pub(super) fn show(step: &Step, round: &Round, screen: &Screen) -> Result {
    let body = match screen {
        Screen::Checks => checks(step, round)?,
        Screen::Failures => failures(round),
        Screen::Text(text) => text.clone(),
        Screen::AsItIs => return print(format!("\n{}\n", keys(step, round, screen)?)),
    };
    let keys = keys(step, round, screen)?;
    print(format!("\u{1b}[2J\u{1b}[H{}\n\n{body}\n{keys}\n", head(step, round)))
}

fn head(step: &Step, round: &Round) -> String {
    let passed = round.grades.iter().filter(|grade| grade.failure.is_none()).count();
    let state = match (&round.program, round.finished) {
        (None, false) => "building…".to_owned(),
        (None, true) => paint(Style::Bad, "doesn't compile"),
        (Some(_), true) => format!("{} checks passed", bar(passed, round.total)),
        (Some(_), false) => {
            format!("checking {} of {}…  {passed} passed", round.grades.len() + 1, round.total)
        }
    };
    format!("{}  {state}", paint(Style::Bold, &format!("watching work/{}", step.label())))
}

/// Returns the failures in one line each, and the first one in full. Passed checks share a line, so that everything
/// fits a small screen.
fn checks(step: &Step, round: &Round) -> Result<String> {
    if let Some(error) = &round.error {
        return Ok(error.clone());
    }
    if round.is_done() {
        return Ok(done::message(step)?.0);
    }
    let mut text = String::new();
    let passed = round.grades.iter().filter(|grade| grade.failure.is_none()).count();
    if passed > 0 {
        text += &format!("{} {passed} passed\n", paint(Style::Good, "✓"));
    }
    let failed: Vec<_> = round.grades.iter().filter(|grade| grade.failure.is_some()).collect();
    if let Some((first, others)) = failed.split_first() {
        text += &format!("\n{}\n", render::failure(first, true));
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
    let failed: Vec<_> = failed.map(|grade| render::failure(grade, true)).collect();
    if failed.is_empty() { "No check has failed.\n".to_owned() } else { failed.join("\n") }
}

/// Returns the keys that do something now.
fn keys(step: &Step, round: &Round, screen: &Screen) -> Result<String> {
    let mut keys = Vec::new();
    if round.is_done() && done::next_step(step)?.is_some() {
        keys.push("n next step");
    }
    if round.first_failure().is_some() {
        keys.extend(["h hint", "a all failures"]);
    }
    keys.push("d diff to finished");
    if round.program.is_some() {
        keys.push("s slow motion");
    }
    if !matches!(screen, Screen::Checks) {
        keys.push("Enter back");
    }
    keys.push("q quit");
    Ok(paint(Style::Faint, &keys.join("  ")))
}
