//! The README and the book show what the repository holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use course::patch::{Patch, PatchKind};
use course::step::Step;
use course::test_support::{names_in, read};
use harness::test_support::Skip;
use harness::{Requirement, ScratchDir};
use regex_lite::Regex;

fn root() -> PathBuf {
    course::workspace::root().expect("a checkout")
}

fn steps() -> Vec<Step> {
    Step::all().expect("steps/")
}

/// A snapshot without its header, as the book shows it.
fn body(snapshot: &str) -> String {
    let text = read(&format!("tests/snapshots/{snapshot}.snap"));
    text.splitn(4, '\n').nth(3).expect("a body").to_owned()
}

/// `{file}` is named in a comment, and the block after it says the same as the file.
#[test]
fn readme_shows_snapshots() {
    let readme = read("README.md");
    let mut shown = 0;
    for (index, _) in readme.match_indices("```console\n") {
        let (before, after) = readme.split_at(index);
        let block = after["```console\n".len()..].split("```").next().expect("an end of the block");
        let source =
            before.trim_end().lines().last().and_then(|line| {
                line.strip_prefix("<!-- tests/snapshots/")?.strip_suffix(".snap -->")
            });
        let source = source.unwrap_or_else(|| panic!("which snapshot is this from?\n{block}"));
        assert_eq!(block.trim_end(), body(source).trim_end(), "{source}");
        shown += 1;
    }
    assert!(shown >= 2, "a transcript and a tree");
}

#[test]
fn readme_names_existing_files() {
    let readme = read("README.md");
    let mut named = 0;
    for link in readme.split("](").skip(1) {
        let target = link.split([')', '#']).next().expect("a target");
        if target.is_empty() || target.contains("://") {
            continue;
        }
        assert!(root().join(target).exists(), "README.md: {target}");
        named += 1;
    }
    assert!(named > 10, "the table from idea to file");
}

/// Snapshots that no chapter shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[];

/// The chapters by their file names, SUMMARY.md among them.
fn chapters() -> BTreeMap<String, String> {
    let names = names_in("book/src").into_iter().filter(|name| name.ends_with(".md"));
    let chapters: BTreeMap<_, _> =
        names.map(|name| (name.clone(), read(&format!("book/src/{name}")))).collect();
    assert!(chapters.len() > 3, "a book");
    chapters
}

/// The targets of a chapter's includes.
fn includes(text: &str) -> Vec<String> {
    let include = Regex::new(r"\{\{ *#([a-z_]+) +([^}]*)\}\}").expect("a regular expression");
    let found = include.captures_iter(text).map(|found| {
        assert_eq!(&found[1], "include", "{}", &found[0]);
        found[2].trim().to_owned()
    });
    found.collect()
}

/// mdBook shows nothing, and says nothing, where an anchor is missing.
#[test]
fn every_include_shows_something() {
    let mut shown = 0;
    for (chapter, text) in chapters() {
        for target in includes(&text) {
            let (path, part) = target.split_once(':').unwrap_or((&target, ""));
            let file = root().join("book/src").join(path);
            let text = fs::read_to_string(&file);
            let text = text.unwrap_or_else(|error| panic!("{chapter}: {target}: {error}"));
            let lines: Vec<_> = text.lines().collect();
            let part = match part.split_once(':') {
                Some((from, "")) => {
                    let from: usize = from.parse().expect("a line number");
                    lines.get(from - 1..).unwrap_or_default()
                }
                _ if part.is_empty() => &lines[..],
                _ => {
                    let mark = |word: &str| {
                        let mark = format!("{word}: {part}");
                        lines.iter().position(|line| line.trim_end().ends_with(&mark))
                    };
                    let (start, end) = (mark("ANCHOR"), mark("ANCHOR_END"));
                    let (Some(start), Some(end)) = (start, end) else {
                        panic!("{chapter}: {target}: no such anchor")
                    };
                    &lines[start + 1..end]
                }
            };
            assert!(
                part.iter().any(|line| !line.trim().is_empty()),
                "{chapter}: {target} is empty"
            );
            shown += 1;
        }
    }
    assert!(shown > 10, "the book includes what it shows");
}

#[test]
fn book_shows_every_snapshot() {
    let mut shown = BTreeSet::new();
    for target in chapters().values().flat_map(|text| includes(text)) {
        if let Some(snapshot) = target.strip_prefix("../../tests/snapshots/") {
            let name = snapshot.strip_suffix(".snap:4:");
            shown.insert(name.unwrap_or_else(|| panic!("{target}: from line 4")).to_owned());
        }
    }
    for (name, reason) in NOT_SHOWN {
        assert!(
            !reason.is_empty() && shown.insert((*name).to_owned()),
            "{name} is shown: no excuse"
        );
    }
    let all = names_in("tests/snapshots").into_iter();
    let all: BTreeSet<_> = all.map(|file| file.trim_end_matches(".snap").to_owned()).collect();
    assert_eq!(all, shown);
}

/// Who shows a patch shows what it does, and asks first.
#[test]
fn chapters_show_every_patch() {
    let chapters = chapters();
    for step in steps() {
        let chapter = &chapters[&format!("{step}.md")];
        for kind in [PatchKind::Break, PatchKind::Exercise] {
            for patch in Patch::all(&step, kind).expect("patches") {
                let kind = kind.directory();
                let question = chapter.find(&patch.question);
                let question =
                    question.unwrap_or_else(|| panic!("{step}.md asks not: {}", patch.question));
                let path = format!("{{{{#include ../../steps/{step}/{kind}/{}.patch:", patch.name);
                let shown = chapter.find(&path);
                let shown =
                    shown.unwrap_or_else(|| panic!("{step}.md does not show {}.patch", patch.name));
                let from = chapter[shown + path.len()..].split(':').next().expect("a line number");
                let text = read(&format!("steps/{step}/{kind}/{}.patch", patch.name));
                let from: usize = from.parse().expect("a line number");
                let first = text.lines().nth(from - 1).expect("a line");
                assert!(
                    first.starts_with("--- "),
                    "{step}.md: {}.patch begins with {first:?}",
                    patch.name
                );
                assert!(kind == "exercises" || question < shown, "{step}.md: first ask, then show");
            }
        }
    }
}

/// What a program printed, and what a source says, comes from the repository.
#[test]
fn chapters_type_no_output() {
    for (chapter, text) in chapters() {
        let mut block: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let place = format!("book/src/{chapter}:{}: {line}", number + 1);
            if let Some(info) = line.trim_start().strip_prefix("```") {
                if block.take().is_none() {
                    assert!(!info.is_empty(), "{place}: a block of what?");
                    block = Some(info.split([',', ' ']).next().unwrap_or_default().to_owned());
                }
            } else if let Some(info) = &block {
                let typed = !line.trim().is_empty() && !line.trim().starts_with("{{#include ");
                match info.as_str() {
                    // Commands for the reader to type.
                    "sh" => assert!(!line.starts_with("$ "), "{place}: what was printed?"),
                    "console" | "text" | "diff" | "rust" => {
                        assert!(!typed, "{place}: typed by hand")
                    }
                    _ => panic!("{place}: a block of {info}?"),
                }
            }
        }
        assert_eq!(block, None, "{chapter}: a block without an end");
    }
}

#[test]
fn every_step_has_a_chapter() {
    let chapters = chapters();
    for step in steps() {
        assert!(chapters.contains_key(&format!("{step}.md")), "{step}");
        assert!(
            chapters["SUMMARY.md"].contains(&format!("({step}.md)")),
            "{step} is not in SUMMARY.md"
        );
    }
    for chapter in chapters.keys().filter(|name| *name != "SUMMARY.md") {
        assert!(
            chapters["SUMMARY.md"].contains(&format!("({chapter})")),
            "{chapter} is not in SUMMARY.md"
        );
    }
}

/// `mdbook build` ends with 0 whatever it warns of.
#[test]
fn book_builds_without_dead_links() {
    // Cargo installs it where not every caller of the steps would find it, but who runs the tests does.
    let found = Command::new("mdbook").arg("--version").output();
    if !(found.is_ok() || Requirement::Tool("mdbook").is_met_or_skip()) {
        return;
    }
    let directory = ScratchDir::new("book").expect("a temporary directory");
    let build = Command::new("mdbook")
        .args(["build", "--dest-dir"])
        .arg(directory.path())
        .arg(root().join("book"))
        .output()
        .expect("start mdbook");
    let log = String::from_utf8_lossy(&build.stderr).into_owned();
    assert!(build.status.success(), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");

    let pages =
        fs::read_dir(directory.path()).expect("the book").map(|page| page.expect("a page").path());
    let pages: BTreeMap<PathBuf, String> = pages
        .filter(|page| page.extension().is_some_and(|extension| extension == "html"))
        .map(|page| (page.clone(), fs::read_to_string(page).expect("a page")))
        .collect();
    let link = Regex::new(r#"<[^>]*? (?:href|src)="([^"]*)""#).expect("a regular expression");
    let mut followed = 0;
    for (page, text) in &pages {
        for found in link.captures_iter(text) {
            let target = &found[1];
            if Regex::new("^[a-z]+:").expect("a regular expression").is_match(target) {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { page.clone() } else { directory.path().join(path) };
            let place = format!("{}: {target}", page.display());
            assert!(path.exists(), "{place} leads nowhere");
            if !fragment.is_empty() {
                let text = pages.get(&path).unwrap_or_else(|| panic!("{place}: no page"));
                assert!(text.contains(&format!(" id=\"{fragment}\"")), "{place}: no such place");
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "links of the book");
}

/// Each refusal that a test saw is in the chapter "Explain this error", and each test that the chapter
/// names is one.
#[test]
fn errors_chapter_names_every_refusal() {
    let chapter = read("book/src/errors.md");
    for file in names_in("tests/snapshots").iter().filter(|file| file.starts_with("refusals__")) {
        assert!(chapter.contains(&format!("/{file}:4:}}}}")), "{file}");
    }
    let sources: String = names_in("tests")
        .iter()
        .filter(|file| file.ends_with(".rs"))
        .map(|file| read(&format!("tests/{file}")))
        .collect();
    let names = chapter.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 2);
    let names = names.filter(|word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    let names: BTreeSet<_> = names.chain(["reports_runc_container"]).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let made = [format!("fn {name}("), format!(" {name}:")];
        assert!(made.iter().any(|words| sources.contains(words)), "there is no test {name}");
    }
}
