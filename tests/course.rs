//! The course about itself: that the steps are one lesson apart, that one thing has one name, and that
//! what is read is what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use lab::breaks::{Break, breaks, exercises};
use lab::{Ability, Hostile, root, snapshots, steps};
use regex_lite::Regex;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the files in a directory.
fn files(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(directory));
    let entries = entries.unwrap_or_else(|error| panic!("{directory}: {error}"));
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

/// `02-init-pid1` and `03-proc-mount`: the pairs of neighbours.
fn neighbours() -> Vec<(String, String)> {
    let steps = steps().expect("steps/");
    steps.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn number(step: &str) -> &str {
    step.split_once('-').expect("a number and a name").0
}

/// A snapshot without its header, as the book shows it.
fn body(snapshot: &str) -> String {
    read(&format!("tests/snapshots/{snapshot}.snap"))
        .splitn(4, '\n')
        .nth(3)
        .expect("a body")
        .to_owned()
}

#[test]
fn each_step_is_one_lesson_away_from_the_step_before() {
    for (old, new) in neighbours() {
        let diff = lab::diff::steps(&old, &new).expect("the sources");
        assert!(diff.contains("\n+"), "{new} adds nothing to {old}");
        let name = format!("diff_{}_{}", number(&old), number(&new));
        snapshots(|| assert_snapshot!(name, diff));
    }
}

/// Between 02 and 03 only what PID 1 does has changed.
#[test]
fn a_proc_of_ones_own_is_inits_affair() {
    let diff = lab::diff::steps("02-init-pid1", "03-proc-mount").expect("the sources");
    let files: Vec<_> = diff.lines().filter(|line| line.starts_with("+++ ")).collect();
    assert_eq!(files, ["+++ 03-proc-mount/src/init.rs"]);
}

#[test]
fn whoever_knows_one_name_of_a_step_knows_them_all() {
    let steps = steps().expect("steps/");
    let mut tests: BTreeSet<_> =
        ["breaks.rs", "course.rs", "doctor.rs", "hosts", "lab", "snapshots"]
            .map(str::to_owned)
            .into();
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(number(step), format!("{:02}", index + 1), "steps are numbered without a gap");
        let manifest = read(&format!("steps/{step}/Cargo.toml"));
        let test = step.replace('-', "_");
        for line in [
            format!("[package]\nname = \"step-{step}\"\n"),
            format!("[[bin]]\nname = \"{step}\"\n"),
            format!("[[test]]\nname = \"{test}\"\npath = \"../../tests/{test}.rs\"\n"),
        ] {
            assert!(manifest.contains(&line), "steps/{step}/Cargo.toml lacks:\n{line}");
        }
        tests.insert(format!("{test}.rs"));
    }
    tests.extend(files("tests").into_iter().filter(|name| name == "browser"));
    assert_eq!(files("tests"), tests);
}

#[test]
fn a_step_depends_on_nix_and_clap_and_nothing_else() {
    for step in steps().expect("steps/") {
        let manifest = read(&format!("steps/{step}/Cargo.toml"));
        let dependencies = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
        let dependencies = dependencies.split("\n\n").next().expect("a section");
        assert_eq!(dependencies, "clap.workspace = true\nnix.workspace = true", "{step}");
        assert!(
            manifest.contains("\n[lints]\nworkspace = true\n"),
            "{step}: `unsafe` is forbidden"
        );
    }
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
}

#[test]
fn each_source_file_says_first_who_runs_it() {
    for step in steps().expect("steps/") {
        for file in files(&format!("steps/{step}/src")) {
            let text = read(&format!("steps/{step}/src/{file}"));
            assert!(text.starts_with("//! Run by "), "steps/{step}/src/{file}");
        }
    }
}

#[test]
fn every_snapshot_belongs_to_a_test_that_exists() {
    let diffs: Vec<_> = neighbours()
        .iter()
        .map(|(old, new)| format!("course__diff_{}_{}.snap", number(old), number(new)))
        .collect();
    let mut patches = Vec::new();
    for step in steps().expect("steps/") {
        let name = |kind, patch: &Break| {
            format!("{}{kind}_{}", number(&step), patch.name.replace('-', "_"))
        };
        patches.extend(breaks(&step).expect("breaks").iter().map(|patch| name("", patch)));
        patches.extend(
            exercises(&step).expect("exercises").iter().map(|patch| name("_exercise", patch)),
        );
    }
    let snapshots = files("tests/snapshots");
    assert!(snapshots.len() > diffs.len());
    for file in snapshots {
        let (test, name) =
            file.split_once("__").unwrap_or_else(|| panic!("{file}: no test's name"));
        let name = name.strip_suffix(".snap").unwrap_or_else(|| panic!("{file}: is it pending?"));
        if test == "course" && name.starts_with("diff_") {
            assert!(diffs.contains(&file), "{file}: no such pair of steps");
        } else if test == "breaks" {
            assert!(patches.contains(&name.to_owned()), "{file}: no such patch");
        } else {
            let test = read(&format!("tests/{test}.rs"));
            assert!(
                test.contains(&format!("assert_snapshot!(\"{name}\"")),
                "{file}: no test makes it"
            );
        }
    }
}

/// `{file}` is named in a comment, and the block after it says the same as the file.
#[test]
fn the_readme_shows_what_the_tests_saw() {
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
fn the_readme_names_only_files_that_exist() {
    let readme = read("README.md");
    let mut named = 0;
    for link in readme.split("](").skip(1) {
        let target = link.split([')', '#']).next().expect("a target");
        if target.is_empty() || target.contains("://") {
            continue;
        }
        assert!(Path::new(root()).join(target).exists(), "README.md: {target}");
        named += 1;
    }
    assert!(named > 10, "the table from idea to file");
}

/// Snapshots that no chapter shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[];

/// The chapters by their file names, SUMMARY.md among them.
fn chapters() -> BTreeMap<String, String> {
    let names = files("book/src").into_iter().filter(|name| name.ends_with(".md"));
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
fn every_include_of_the_book_shows_something() {
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
fn every_snapshot_is_shown_in_the_book_or_excused() {
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
    let all = files("tests/snapshots").into_iter();
    let all: BTreeSet<_> = all.map(|file| file.trim_end_matches(".snap").to_owned()).collect();
    assert_eq!(all, shown);
}

/// Who shows a patch shows what it does, and asks first.
#[test]
fn every_break_is_in_its_chapter() {
    let chapters = chapters();
    for step in steps().expect("steps/") {
        let chapter = &chapters[&format!("{step}.md")];
        for (kind, patches) in [("breaks", breaks(&step)), ("exercises", exercises(&step))] {
            for patch in patches.expect("patches") {
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

/// The promises that a learner's program is graded by are those that the steps are tested by.
#[test]
fn learners_and_steps_are_held_to_the_same() {
    let contract = read("tests/lab/src/contract.rs");
    let list = contract.split("$program =>\n").nth(1).expect("the list of tests");
    let list = list.split('}').next().expect("an end of the list");
    let tests: BTreeSet<_> = list.split_whitespace().collect();
    assert!(tests.len() > 10);
    for step in &steps().expect("steps/")[1..] {
        let graded = lab::grade::behaviours(step).into_iter().map(|behaviour| behaviour.name);
        let graded: BTreeSet<_> = graded.collect();
        let missing: Vec<_> =
            tests.difference(&graded).filter(|name| !UNGRADED.contains(name)).collect();
        assert!(missing.is_empty(), "{step} is not graded by {missing:?}");
    }
}

/// Promises that no learner is graded by.
const UNGRADED: &[&str] = &[];

/// What a program printed, and what a source says, comes from the repository.
#[test]
fn nothing_in_the_book_is_typed_by_hand() {
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
    for step in steps().expect("steps/") {
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
fn the_book_is_built_without_a_warning_and_all_its_links_lead_somewhere() {
    // Cargo installs it where not every caller of the steps would find it, but who runs the tests does.
    let found = Command::new("mdbook").arg("--version").output();
    if !(found.is_ok() || Ability::Tool("mdbook").or_report()) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
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

/// The tests in a file, each with its body.
fn tests_in(text: &str) -> Vec<&str> {
    text.split("#[test]\n").skip(1).collect()
}

/// The text from `start` on, to the next line that is `end`.
fn part<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let text = &text[text.find(start).unwrap_or_else(|| panic!("no {start}"))..];
    &text[..text.find(end).unwrap_or_else(|| panic!("no {end}"))]
}

/// How many tests need what a machine may lack, by file: what the book shows. A test that is made for
/// root and for an ordinary user is made for the one where the other is lacking.
#[test]
fn each_test_says_what_it_needs() {
    let contract = read("tests/lab/src/contract.rs");
    let promises = part(&contract, "contract_tests! { $program =>\n", "\n            }\n");
    let promises: Vec<_> = promises.lines().skip(1).map(str::trim).collect();
    let hostile = read("tests/lab/src/hostile.rs");
    let refusals = part(&hostile, "refusal_tests! { $program =>\n", "\n            }\n");
    let refusals = refusals.lines().skip(1).filter_map(|line| line.rsplit(' ').next());
    let refusals: Vec<Hostile> = refusals
        .map(|name| *Hostile::ALL.iter().find(|place| format!("{place:?}") == name).expect(name))
        .collect();
    assert_eq!(refusals, Hostile::ALL, "each place is a test");
    let last = read("tests/05_proc_limits.rs");
    for place in Hostile::CLOCK_AND_MASKS {
        assert!(last.contains(&format!("in_place({place:?},")), "{place:?} is in no test");
    }

    let mut names: Vec<String> =
        steps().expect("steps/").iter().map(|step| step.replace('-', "_")).collect();
    names.push("doctor".into());
    let mut counts: BTreeMap<(bool, String), Vec<usize>> = BTreeMap::new();
    for (column, name) in names.iter().enumerate() {
        let callers: &[_] = match name.split('_').next() {
            Some("01" | "02") => &["root", "userns"],
            _ => &["root", "userns", "root-proc", "userns-proc"],
        };
        let mut count = |ability: &str| {
            let caller = ability.starts_with("root") || ability.starts_with("userns");
            let row = counts.entry((!caller, ability.to_owned())).or_default();
            row.resize(names.len(), 0);
            row[column] += 1;
        };
        let mut needs = |body: &str| {
            let mut abilities = BTreeSet::new();
            if body.contains("callers(") || body.contains("&Step") || name == "doctor" {
                abilities.extend(callers);
            }
            for tools in body.split("tools(&[").skip(1) {
                let tools = tools.split(']').next().expect("an end");
                abilities.extend(tools.split(", ").map(|tool| tool.trim_matches('"')));
            }
            if body.contains(".trace(") {
                abilities.insert("strace");
            }
            for tool in body.split("Ability::Tool(\"").skip(1) {
                abilities.extend(tool.split('"').next());
            }
            for place in Hostile::ALL.into_iter().chain(Hostile::CLOCK_AND_MASKS) {
                let named = format!("{place:?}");
                if [format!("Hostile::{named}"), format!("in_place({named},")]
                    .iter()
                    .any(|words| body.contains(words))
                {
                    abilities.extend(place.needs().iter().map(|ability| ability.name()));
                }
            }
            abilities.into_iter().for_each(&mut count);
        };
        let text = read(&format!("tests/{name}.rs"));
        tests_in(&text).into_iter().for_each(&mut needs);
        if text.contains("contract_tests!") {
            for promise in &promises {
                needs(part(&contract, &format!("pub fn {promise}("), "\n}\n"));
            }
        }
        if text.contains("refusal_tests!") {
            for place in &refusals {
                callers.iter().copied().for_each(&mut count);
                place.needs().iter().for_each(|ability| count(ability.name()));
            }
        }
    }
    let heads: Vec<_> = names.iter().map(|name| name.split('_').next().expect("a name")).collect();
    let mut table =
        format!("| Ability | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for ((_, ability), row) in counts {
        let cells: Vec<_> = row.iter().map(usize::to_string).collect();
        table += &format!("| `{ability}` | {} |\n", cells.join(" | "));
    }
    snapshots(|| assert_snapshot!("abilities", table));
}

/// Each hint that a step gives was given to a test, in a place that provokes it, word for word.
#[test]
fn each_hint_was_provoked() {
    let snapshots: Vec<_> = files("tests/snapshots")
        .iter()
        .map(|file| read(&format!("tests/snapshots/{file}")))
        .collect();
    for step in steps().expect("steps/").iter().filter(|step| number(step) != "01") {
        let source = read(&format!("steps/{step}/src/hint.rs"));
        let hints = source.split('"').skip(1).step_by(2).filter(|words| words.contains(' '));
        let hints: Vec<_> = hints.collect();
        assert!(hints.len() >= 10, "{step}: {hints:?}");
        for hint in hints {
            let line = format!("\nhint: {hint}\n");
            assert!(snapshots.iter().any(|text| text.contains(&line)), "{step}: {hint}");
        }
    }
}

/// Each refusal that a test saw is in the chapter "Explain this error", and each test that the chapter
/// names is one.
#[test]
fn the_chapter_on_errors_has_each_refusal_and_its_test() {
    let chapter = read("book/src/errors.md");
    for file in files("tests/snapshots").iter().filter(|file| file.contains("__refused_")) {
        assert!(chapter.contains(&format!("/{file}:4:}}}}")), "{file}");
    }
    let mut sources: String = files("tests")
        .iter()
        .filter(|file| file.ends_with(".rs"))
        .map(|file| read(&format!("tests/{file}")))
        .collect();
    sources += &read("tests/lab/src/hostile.rs");
    let names = chapter.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 2);
    let names = names.filter(|word| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    let names: BTreeSet<_> = names.chain(["inside_runc"]).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let made = [format!("fn {name}("), format!(" {name} ")];
        assert!(made.iter().any(|words| sources.contains(words)), "there is no test {name}");
    }
}
