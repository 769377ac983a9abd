//! Prose, taken out of Markdown and source code, sentence by sentence.

use crate::regex;

/// The place of a sentence. Headings and table cells often aren't full sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Heading,
    Text,
    Cell,
    Footnote,
}

/// A sentence, without markup. Each piece of inline code is a single word, `x`.
#[derive(Clone, Debug)]
pub struct Sentence {
    pub place: Place,
    pub text: String,
}

/// Returns a page's sentences.
pub fn sentences(markdown: &str) -> Vec<Sentence> {
    let blocks = blocks(markdown).into_iter();
    blocks
        .flat_map(|(place, text)| {
            split(&text).into_iter().map(move |text| Sentence { place, text })
        })
        .collect()
}

/// Counts the words of running text, lists, and folded answers, and of tables if asked to. Headings, code, and
/// footnotes don't count.
pub fn count_words(markdown: &str, with_tables: bool) -> usize {
    let counts = |place: Place| place == Place::Text || (with_tables && place == Place::Cell);
    let text = blocks(markdown).into_iter().filter(|(place, _)| counts(*place));
    text.map(|(_, text)| text.split_whitespace().filter(is_word).count()).sum()
}

fn is_word(text: &&str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// Returns the comments of a Rust file as one Markdown text.
pub fn comments(rust: &str) -> String {
    let line = regex(r"^\s*//[/!]? ?(.*)$");
    let mut text = String::new();
    for source in rust.lines() {
        match line.captures(source) {
            Some(found) if !found[1].starts_with("ANCHOR") => text += &found[1],
            _ => {}
        }
        text.push('\n');
    }
    text
}

/// Splits a page into paragraphs, list items, headings, and cells.
fn blocks(markdown: &str) -> Vec<(Place, String)> {
    let mut blocks: Vec<(Place, String)> = Vec::new();
    let (mut in_code, mut in_comment, mut in_svg, mut open) = (false, false, false, false);
    for line in markdown.lines() {
        let trimmed = line.trim().trim_start_matches(['>', ' ']);
        if trimmed.starts_with("```") {
            (in_code, open) = (!in_code, false);
            continue;
        }
        in_comment |= trimmed.starts_with("<!--");
        in_svg |= trimmed.starts_with("<svg");
        if in_code || in_comment || in_svg {
            in_comment &= !trimmed.contains("-->");
            in_svg &= !trimmed.contains("</svg>");
            open = false;
            continue;
        }
        let item = regex(r"^([-*+]|\d+\.|:|\[\^[^\]]*\]:) +");
        if trimmed.is_empty() || trimmed.starts_with("{{#") || trimmed.starts_with("[!") {
            open = false;
        } else if let Some(heading) = trimmed.strip_prefix('#') {
            blocks.push((Place::Heading, plain(heading.trim_start_matches('#'))));
            open = false;
        } else if trimmed.starts_with('|') {
            let cells = trimmed.trim_matches('|').split(" | ");
            blocks.extend(cells.map(|cell| (Place::Cell, plain(cell))));
            open = false;
        } else if let Some(marker) = item.find(trimmed) {
            let place = if trimmed.starts_with("[^") { Place::Footnote } else { Place::Text };
            blocks.push((place, plain(&trimmed[marker.end()..])));
            open = true;
        } else if trimmed.starts_with("<summary>") {
            blocks.push((Place::Heading, plain(trimmed)));
            open = false;
        } else if open {
            let last = &mut blocks.last_mut().expect("a block").1;
            *last += " ";
            *last += &plain(trimmed);
        } else {
            blocks.push((Place::Text, plain(trimmed)));
            // A tag on a line of its own ends a paragraph.
            open = !trimmed.starts_with('<');
        }
    }
    blocks.retain(|(_, text)| !text.trim().is_empty());
    blocks
}

/// Removes links, tags, footnote marks, and emphasis.
fn plain(markdown: &str) -> String {
    let rules = [
        (r"``[^`]+``|`[^`]*`", "`x`"),
        (r"<[^>]*>", ""),
        (r"\[\^[^\]]*\]", ""),
        (r"\[([^\]]*)\]\([^)]*\)", "$1"),
        (r"\*+", ""),
        (r"\\(.)", "$1"),
    ];
    rules.iter().fold(markdown.trim().to_owned(), |text, (pattern, replacement)| {
        let pattern = regex(pattern);
        pattern.replace_all(&text, *replacement).into_owned()
    })
}

/// Splits text after a full stop, question mark, or exclamation mark that a new sentence follows.
fn split(text: &str) -> Vec<String> {
    let end = regex(r#"[.!?]["”')]*\s+"#);
    let (mut sentences, mut start) = (Vec::new(), 0);
    for found in end.find_iter(text) {
        let next = text[found.end()..].chars().next();
        if next.is_some_and(|next| !next.is_lowercase()) {
            sentences.push(text[start..found.end()].trim().to_owned());
            start = found.end();
        }
    }
    sentences.push(text[start..].trim().to_owned());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}
