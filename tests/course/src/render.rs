//! How grades are shown.

use similar::{ChangeTag, TextDiff};

use crate::checks::{AND, CheckFailure};
use crate::grading::Grade;
use crate::print::{cut, fill, truncate, width};
use crate::style::{Style, paint};

/// Returns the line of one check.
pub fn line(grade: &Grade) -> String {
    let mark = match grade.failure {
        None => paint(Style::Good, "✓"),
        Some(_) => paint(Style::Bad, "✗"),
    };
    format!("{mark} {}\n", grade.check.title())
}

/// Returns a failed check's title, what it expected, and what happened.
pub fn failure(grade: &Grade, in_full: bool) -> String {
    let Some(failure) = &grade.failure else { return String::new() };
    let mut text = titled(&grade.check.title(), failure, in_full);
    if grade.passed_before {
        text += "  This check passed before your last change.\n";
    }
    text
}

/// Returns why most checks failed, and what to do about it first.
pub fn cause(failure: &CheckFailure, in_full: bool) -> String {
    let title = "most checks fail, because even the simplest command does";
    let advice = "  Make this command work before you look at the checks.\n";
    titled(title, failure, in_full) + advice
}

fn titled(title: &str, failure: &CheckFailure, in_full: bool) -> String {
    let title = paint(Style::Bold, title);
    format!("{} {title}\n{}", paint(Style::Bad, "✗"), details(failure, in_full))
}

/// Returns what a failed check expected and what happened, with the difference marked. `in_full` cuts nothing.
pub fn details(failure: &CheckFailure, in_full: bool) -> String {
    let shorten = |text: &str| {
        let text = if text.trim().is_empty() { "nothing" } else { text.trim_end() };
        if in_full { text.to_owned() } else { truncate(text) }
    };
    let expected = shorten(&failure.expected);
    // The doctor looks at the machine, and here it's more likely the code.
    let is_hint = |line: &&str| line.trim() == "hint: run 'just doctor'; it finds out why";
    let keeps = failure.expected.contains("hint: ");
    let lines = failure.actual.lines().filter(|line| keeps || !is_hint(line));
    let actual = shorten(&lines.collect::<Vec<_>>().join("\n"));
    let (expected, actual) = mark(&expected, &actual);
    let tried = tried(&failure.command);
    format!("  tried:    {tried}\n  expected: {expected}\n  seen:     {actual}\n")
}

/// A line break, and the indentation of a command line that continues on the next line.
const MARGIN: &str = "\n            ";

/// Returns a whole command line, broken so that a shell can read it, and below it what else was done.
fn tried(command: &str) -> String {
    let (line, and) = command.split_at(command.find(AND).unwrap_or(command.len()));
    let mut lines = command_lines(line, width() + 1 - MARGIN.len());
    if let Some(and) = and.strip_prefix(AND) {
        lines.extend(fill("# ", "# ", and, width() + 1 - MARGIN.len()));
    }
    lines.join(MARGIN)
}

/// Breaks a command line into lines of at most `width` columns, where a shell allows that: with a backslash between two
/// words, and in a quoted script after `;`, `&` or `|`. A word that is longer stays whole.
pub fn command_lines(line: &str, width: usize) -> Vec<String> {
    let (mut lines, mut start, mut column, mut last) = (Vec::new(), 0, 0, None);
    let (mut quote, mut escaped) = (None, false);
    for (index, character) in line.char_indices() {
        column += 1;
        if character == ' ' {
            let ends_command = line[start..index].ends_with([';', '&', '|']);
            let end = match quote {
                None => Some(" \\"),
                Some(_) if ends_command => Some(""),
                Some(_) => None,
            };
            last = end.map(|end| (index, end)).or(last);
        }
        match (character, quote) {
            _ if escaped => escaped = false,
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            _ => {}
        }
        if column + 2 > width
            && let Some((at, end)) = last.take()
        {
            lines.push(format!("{}{end}", &line[start..at]));
            start = at + 1;
            column = line[start..=index].chars().count();
        }
    }
    lines.push(line[start..].to_owned());
    lines
}

/// Returns the lines of a text. Those that are too wide for the screen beside the margin are broken between words.
fn wrapped(text: &str) -> Vec<String> {
    text.lines().flat_map(|line| fill("", "", line, width() + 1 - MARGIN.len())).collect()
}

/// Does the same, but cuts the lines of a process tree, because broken lines would lose their columns.
fn beside_margin(text: &str) -> Vec<String> {
    let width = width() + 1 - MARGIN.len();
    let is_row = |line: &str| line.trim_start().contains("   ") && line.chars().count() > width;
    let lines = |line| if is_row(line) { vec![cut(line, width)] } else { wrapped(line) };
    text.lines().flat_map(lines).collect()
}

/// Marks the difference: in one line with `^` below it, in several lines with `>` in front of those that only one
/// side has. If one line is expected, what follows the actual one explains it. Texts of different kinds have no marks.
fn mark(expected: &str, actual: &str) -> (String, String) {
    if expected.contains('\n') {
        return mark_lines(expected, actual);
    }
    let (first, rest) = actual.split_once('\n').unwrap_or((actual, ""));
    let rest: String = beside_margin(rest).iter().map(|line| format!("{MARGIN}{line}")).collect();
    // In a line that the screen breaks, a mark would point nowhere.
    let fits = [expected, first].iter().all(|line| wrapped(line).len() <= 1);
    let Some((start, [end, other_end])) = difference(expected, first).filter(|_| fits) else {
        let in_lines = |text: &str, style: Style| -> String {
            let lines: Vec<_> = wrapped(text).iter().map(|line| paint(style, line)).collect();
            lines.join(MARGIN)
        };
        return (in_lines(expected, Style::Good), in_lines(first, Style::Bad) + &rest);
    };
    let paint_part = |style, text: &str, end: usize| {
        let chars: Vec<_> = text.chars().collect();
        let part = |range: &[char]| range.iter().collect::<String>();
        part(&chars[..start]) + &paint(style, &part(&chars[start..end])) + &part(&chars[end..])
    };
    let carets = paint(Style::Bad, &"^".repeat((other_end - start).max(1)));
    let below = format!("{MARGIN}{}{carets}", " ".repeat(start));
    let actual = paint_part(Style::Bad, first, other_end) + &below + &rest;
    (paint_part(Style::Good, expected, end), actual)
}

fn mark_lines(expected: &str, actual: &str) -> (String, String) {
    let diff = TextDiff::from_lines(expected, actual);
    let side = |left_out: ChangeTag, style: Style| {
        let changes = diff.iter_all_changes().filter(|change| change.tag() != left_out);
        let lines = changes.flat_map(|change| {
            let is_same = change.tag() == ChangeTag::Equal;
            let line = change.value().trim_end_matches('\n');
            let start = if is_same { "  " } else { "> " };
            let lines = fill(start, "  ", line, width() + 1 - MARGIN.len()).into_iter();
            lines.map(move |line| if is_same { line } else { paint(style, &line) })
        });
        lines.collect::<Vec<_>>().join(MARGIN)
    };
    (side(ChangeTag::Insert, Style::Good), side(ChangeTag::Delete, Style::Bad))
}

/// Finds where two lines begin to differ, and where each is the same again. A number differs as a whole. There's nothing
/// to mark if the lines have little in common.
fn difference(one: &str, other: &str) -> Option<(usize, [usize; 2])> {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let same = |(one, other): &(&char, &char)| one == other;
    let mut start = one.iter().zip(&other).take_while(same).count();
    let left = [one.len() - start, other.len() - start];
    let end = one.iter().rev().zip(other.iter().rev()).take_while(same).count();
    let end = end.min(left[0]).min(left[1]);
    let is_close = (start + end) * 3 >= one.len().min(other.len()) && (start > 0 || end > 0);
    let mut ends = [one.len() - end, other.len() - end];
    let is_digit = |line: &[char], at: usize| line.get(at).is_some_and(char::is_ascii_digit);
    let splits_number = is_digit(&one, start) || is_digit(&other, start);
    while splits_number && start > 0 && is_digit(&one, start - 1) {
        start -= 1;
    }
    let ends_with_digit = |line, end| end > start && is_digit(line, end - 1);
    if ends_with_digit(&one, ends[0]) || ends_with_digit(&other, ends[1]) {
        while is_digit(&one, ends[0]) {
            ends = ends.map(|end| end + 1);
        }
    }
    is_close.then_some((start, ends))
}
