//! A frame as text.

use super::frames::{Frame, Kind};
use super::rows::{Change, Row};
use crate::print::{WIDTH, fill};

/// Renders a finished frame.
pub fn text(frame: &Frame) -> String {
    let mut text = format!("{}. {}\n", frame.number, heading(frame));
    let call = hanging(&frame.described.call, WIDTH - 3);
    let sentence = wrap(&frame.described.sentence, WIDTH - 3);
    let result = frame.result.iter().flat_map(|result| wrap(result, WIDTH - 3));
    let printed = printed(frame, WIDTH - 5);
    let body = call.chain(sentence).chain(result).chain(printed);
    for line in body.chain(lines(&frame.rows)) {
        text += &format!("   {}\n", cut(&line, WIDTH - 3));
    }
    text
}

/// Renders what was printed, in lines of at most `width` columns after the bar.
pub(super) fn printed(frame: &Frame, width: usize) -> impl Iterator<Item = String> {
    let lines = frame.printed.iter().flat_map(move |line| hanging(line, width));
    lines.map(|line| format!("| {line}"))
}

/// Says who does what: `init (PID 4711, inside 1) calls`.
pub fn heading(frame: &Frame) -> String {
    let caller = &frame.caller;
    let inside = caller.inside.map_or(String::new(), |pid| format!(", inside {pid}"));
    let who = format!("{} (PID {}{inside})", caller.name, frame.pid);
    match frame.kind {
        Kind::Call => format!("{who} calls"),
        Kind::Return => format!("{who} returns from"),
        Kind::Signal => format!("{who} gets"),
        Kind::Sent => format!("You send to {who}"),
    }
}

/// Renders the processes as a table. `*` marks a process that the call created or changed, and `-` one that is gone.
pub fn lines(rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["No process is left.".to_owned()];
    }
    let mut all = vec![["  PID", "inside", "own namespaces", "process"].map(str::to_owned)];
    all.extend(rows.iter().map(|row| {
        let mark = match row.change {
            Change::Same => ' ',
            Change::New => '*',
            Change::Gone => '-',
        };
        let inside = row.inside.map_or("-".to_owned(), |pid| pid.to_string());
        let namespaces = if row.namespaces.is_empty() { "-" } else { &row.namespaces };
        let process = match row.change {
            Change::Gone => "(gone)".to_owned(),
            _ => format!("{}{}", row.branch, row.process),
        };
        [format!("{mark} {}", row.pid), inside, namespaces.to_owned(), process]
    }));
    let width = |column: usize| all.iter().map(|cells| cells[column].chars().count()).max();
    let [first, second, third] = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let line = |[pid, inside, namespaces, process]: &[String; 4]| {
        let line = format!("{pid:first$}  {inside:second$}  {namespaces:third$}  {process}");
        line.trim_end().to_owned()
    };
    let legend = rows.iter().any(|row| row.namespaces.contains('('));
    let legend = legend.then(|| "  (in parentheses: for future children)".to_owned());
    all.iter().map(line).chain(legend).collect()
}

/// Breaks a text at spaces, so that each line has at most `width` columns even if `hanging` indents it.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    fill("", "", text.trim_start_matches(' '), width - 3)
}

/// Does the same, and indents every line but the first.
pub(super) fn hanging(text: &str, width: usize) -> impl Iterator<Item = String> + use<> {
    let lines = wrap(text, width).into_iter().enumerate();
    lines.map(|(index, line)| if index == 0 { line } else { format!("   {line}") })
}

/// Cuts a line that is too long, and takes out what would move the cursor.
pub(super) fn cut(line: &str, width: usize) -> String {
    let line = line.replace(char::is_control, " ");
    match line.char_indices().nth(width) {
        Some(_) => line.chars().take(width - 1).chain(['…']).collect(),
        None => line,
    }
}
