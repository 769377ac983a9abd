//! The screens of `watch`.

use harness::Result;

use super::Round;
use crate::print::print;
use crate::render;
use crate::step::Step;
use crate::style::{Style, paint};
use crate::waiting::bar;
use crate::{checks, done, starter, terminal};

/// A screen.
#[derive(Debug)]
pub(super) enum Screen {
    /// The checks, and the first failure or the cause of most in full.
    Checks,
    /// Every failure in full.
    Failures,
    /// Something else, until a key or a save.
    Text(String),
    /// Every hint for the failure to fix first, until a key or a save.
    LastHint(String),
    /// How the learner's sources differ from ours, until a key or a save.
    Diff(String),
    /// The output of another program, with the keys below it.
    AsItIs,
}

/// Shows a page of a screen in place of what was there. Returns how many pages there are.
pub(super) fn show(step: &Step, round: &Round, screen: &Screen, page: usize) -> Result<usize> {
    let (height, width) = terminal::size().unwrap_or((24, 80));
    let body = match screen {
        Screen::Checks => verdict(step, round)?,
        Screen::Failures => failures(round),
        Screen::Text(text) | Screen::LastHint(text) | Screen::Diff(text) => text.clone(),
        Screen::AsItIs => {
            print(format!("\n{}\n", keys(step, round, screen, (0, 1), width)?))?;
            return Ok(1);
        }
    };
    let mut head = head(step, round, bar);
    if rows(&head, width) > 1 {
        head = self::head(step, round, |done, total| format!("{done} of {total}"));
    }
    let keys_of = |page, count| keys(step, round, screen, (page, count), width);
    // The keys of the last of many pages are the longest. Two lines are empty, and the cursor has one.
    let around = rows(&head, width) + keys_of(98, 99)?.lines().count() + 3;
    let pages = pages(&body, height.saturating_sub(around).max(1), width);
    let page = page % pages.len().max(1);
    let body = pages.get(page).cloned().unwrap_or_default();
    let text = format!("{head}\n\n{body}\n{}\n", keys_of(page, pages.len())?);
    // Line by line, because a screen that is cleared first flickers.
    print(format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n")))?;
    Ok(pages.len())
}

fn head(step: &Step, round: &Round, bar: impl Fn(usize, usize) -> String) -> String {
    let passed = round.grades.passed();
    let state = match (&round.program, round.finished) {
        (None, false) => "building…".to_owned(),
        (None, true) if starter::is_begun(step) => paint(Style::Bad, "doesn't compile"),
        (None, true) => paint(Style::Bad, "isn't there"),
        (Some(_), true) => format!("{} checks passed", bar(passed, round.total)),
        (Some(_), false) => {
            // When the last one is through, its score is still to be written.
            let number = (round.grades.checks.len() + 1).min(round.total);
            let running =
                checks::for_step(step).get(number.saturating_sub(1)).map(|check| check.title());
            format!("checking {number} of {}: {}…", round.total, running.unwrap_or_default())
        }
    };
    format!("{}  {state}", paint(Style::Bold, &format!("watching work/{}", step.label())))
}

/// Returns the failures in one line each. The cause of most of them, or else the first one, is in full. Passed checks
/// share a line, so that everything fits a small screen.
fn verdict(step: &Step, round: &Round) -> Result<String> {
    if let Some(error) = &round.error {
        return Ok(error.clone());
    }
    if round.is_done() {
        let check = step.recipe("check");
        let warnings = match round.warnings {
            0 => String::new(),
            1 => format!("\nThe compiler has a warning: `{check}` shows it.\n"),
            more => format!("\nThe compiler has {more} warnings: `{check}` shows them.\n"),
        };
        return Ok(done::message(step)?.0 + &warnings);
    }
    let mut text = String::new();
    let passed = round.grades.passed();
    if passed > 0 {
        text += &format!("{} {passed} passed\n", paint(Style::Good, "✓"));
    }
    let failed: Vec<_> = round.grades.failed().collect();
    let (first, others) = match (round.grades.cause(), &*failed) {
        (Some(cause), others) => (render::cause(cause, false), others),
        (None, [first, others @ ..]) => (render::failure(first, false), others),
        (None, []) => (String::new(), &[] as &[_]),
    };
    if !first.is_empty() {
        let gap = if passed > 0 { "\n" } else { "" };
        text += &format!("{gap}{first}");
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
    let cause = round.grades.cause().map(|cause| render::cause(cause, false));
    let failed = round.grades.failed().map(|grade| render::failure(grade, false));
    let failed: Vec<_> = cause.into_iter().chain(failed).collect();
    if failed.is_empty() { "No check has failed.\n".to_owned() } else { failed.join("\n") }
}

/// Cuts a text into pages of so many rows. The first error and the first failure are the ones to begin with, so they
/// mustn't scroll away. A page ends between paragraphs, if it's at least half full then.
fn pages(text: &str, room: usize, width: usize) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let (mut pages, mut left) = (vec![String::new()], room);
    for paragraph in lines.split_inclusive(|line| line.is_empty()) {
        let needed = |lines: &[&str]| lines.iter().map(|line| rows(line, width)).sum::<usize>();
        // The empty line at its end may go.
        let height = needed(paragraph) - usize::from(paragraph.ends_with(&[""]));
        let mut begins = height > left && left <= room / 2;
        for line in paragraph {
            if begins || rows(line, width) > left && !line.is_empty() {
                pages.push(String::new());
                (begins, left) = (false, room);
            }
            left = left.saturating_sub(rows(line, width));
            if let Some(page) = pages.last_mut() {
                *page += &format!("{line}\n");
            }
        }
    }
    pages.iter().map(|page| format!("{}\n", page.trim_end_matches('\n'))).collect()
}

/// Counts the rows of a terminal that a line takes up.
fn rows(line: &str, width: usize) -> usize {
    terminal::columns(line).div_ceil(width.max(1)).max(1)
}

/// Returns the page, if there are several, and the keys that do something now.
fn keys(
    step: &Step,
    round: &Round,
    screen: &Screen,
    (page, count): (usize, usize),
    width: usize,
) -> Result<String> {
    let mut keys = Vec::new();
    let mut start = String::new();
    if count > 1 {
        start = format!("page {} of {count}", page + 1);
        keys.push(("Space", if page + 1 < count { "next page" } else { "first page" }));
    }
    if round.is_done() && done::next_step(step)?.is_some() {
        keys.push(("n", "next step"));
    }
    if round.has_failure() {
        if !matches!(screen, Screen::LastHint(_)) {
            keys.push(("h", "hint"));
        }
        if !matches!(screen, Screen::Failures) {
            keys.push(("a", "failures"));
        }
    }
    if !matches!(screen, Screen::Diff(_)) {
        keys.push(("d", "solution"));
    }
    if round.program.is_some() {
        keys.push(("s", if count > 1 { "slow" } else { "slow motion" }));
    }
    if !matches!(screen, Screen::Checks) {
        keys.push(("Enter", "back"));
    } else if round.finished {
        keys.push(("r", "again"));
    }
    keys.push(("q", "quit"));
    Ok(terminal::keys(&start, &keys, width))
}
