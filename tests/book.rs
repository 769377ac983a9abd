//! The book and the README show what the repository holds, and say it so that readers don't stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use course::patch::{Patch, PatchKind};
use course::step::Step;
use harness::{Requirement, ScratchDir};
use regex_lite::Regex;

mod book {
    pub(crate) mod patterns;
    pub(crate) mod prose;
}

use book::patterns::{ALLOWED, NEGATIVES, PATTERNS};
use book::prose::{self, Place};

/// Words of running text per page. A page may differ by 20 %.
const WORDS: &[(&[&str], usize)] = &[
    (&["introduction.md"], 600),
    (&["set-up.md"], 500),
    (&["01-exec-vs-command.md"], 1200),
    (&["02-init-pid1.md"], 1900),
    (&["03-proc-mount.md"], 1500),
    (&["04-reap-zombies.md"], 1200),
    (&["05-forward-signals.md"], 1500),
    (&["06-job-control.md"], 1200),
    (&["07-proc-limits.md"], 1600),
    (&["under-the-hood/01-exec-vs-command.md"], 600),
    (&["under-the-hood/02-init-pid1.md"], 600),
    (&["under-the-hood/03-proc-mount.md"], 600),
    (&["under-the-hood/04-reap-zombies.md"], 600),
    (&["under-the-hood/05-forward-signals.md"], 600),
    (&["under-the-hood/06-job-control.md"], 600),
    (&["under-the-hood/07-proc-limits.md"], 600),
    (&["from-go-to-rust.md", "other-inits.md", "instructors.md", "further-reading.md"], 1500),
];

/// Reference pages, which are as long as necessary.
const ANY_LENGTH: &[&str] =
    &["docker-podman.md", "errors.md", "exit-statuses.md", "glossary.md", "overview.md"];

/// The documents outside the book, which visitors of the repository read.
const DOCUMENTS: &[&str] =
    &["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "tests/hosts/README.md"];

/// Snapshots that no page shows, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("01_exec_vs_command__command_tree", "the diagram beside it shows the same processes"),
    ("slow__02_root", ROOT_FRAMES),
    ("slow__03_root", ROOT_FRAMES),
    ("slow__04_root", ROOT_FRAMES),
    ("slow__05_root", ROOT_FRAMES),
    ("slow__05_signal_root", ROOT_FRAMES),
    ("slow__06_root", ROOT_FRAMES),
    ("slow__07_root", ROOT_FRAMES),
];
const ROOT_FRAMES: &str = "an ordinary user's frames have the user namespace as well";

/// Names in the book that look like a test or a function of ours, and are the kernel's or a library's.
const FOREIGN_NAMES: &[&str] = &["apparmor_restrict_unprivileged_userns", "cap_last_cap"];

fn root() -> PathBuf {
    course::workspace::root().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compiles a pattern once, because it's compared with thousands of sentences.
fn regex(pattern: &str) -> Arc<Regex> {
    static KNOWN: Mutex<BTreeMap<String, Arc<Regex>>> = Mutex::new(BTreeMap::new());
    let compile = || Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let known = KNOWN.lock().expect("no pattern is wrong").get(pattern).cloned();
    known.unwrap_or_else(|| {
        let regex = Arc::new(compile());
        KNOWN.lock().expect("no pattern is wrong").insert(pattern.to_owned(), Arc::clone(&regex));
        regex
    })
}

fn files(directory: &str) -> BTreeSet<String> {
    files_below(&root().join(directory))
}

/// Returns the files below a directory, as paths relative to it.
fn files_below(top: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let path = path.strip_prefix(top).expect("a path below the directory");
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    found
}

/// Returns the pages by their paths in book/src.
fn pages() -> BTreeMap<String, String> {
    let names = files("book/src").into_iter();
    let names = names.filter(|name| name.ends_with(".md") && name != "SUMMARY.md");
    let pages: BTreeMap<_, _> =
        names.map(|name| (name.clone(), read(&format!("book/src/{name}")))).collect();
    assert!(pages.len() > 20, "a book");
    pages
}

/// Returns the targets of a page's includes, with their paths from the top of the repository.
fn includes(page: &str, text: &str) -> Vec<(String, String)> {
    let directive = regex(r"\{\{ *#([a-z_]+) +([^}]*)\}\}");
    let found = directive.captures_iter(text).map(|found| {
        assert_eq!(&found[1], "include", "{page}: {}", &found[0]);
        let target = found[2].trim();
        let (path, part) = target.split_once(':').unwrap_or((target, ""));
        let mut place: Vec<_> = format!("book/src/{page}").split('/').map(str::to_owned).collect();
        place.pop();
        for name in path.split('/') {
            if name == ".." {
                place.pop();
            } else {
                place.push(name.to_owned());
            }
        }
        (place.join("/"), part.to_owned())
    });
    found.collect()
}

/// Returns the lines that mdBook shows of an include, or what's wrong with it.
fn included(path: &str, part: &str) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    if let Some(from) = part.strip_suffix(':') {
        let from: usize = from.parse().map_err(|_| format!("{path}: no line number: {part}"))?;
        return Ok(lines.get(from - 1..).unwrap_or_default().to_vec());
    }
    if part.is_empty() {
        return Ok(lines);
    }
    let mark = |word: &str| {
        let mark = format!("{word}: {part}");
        lines.iter().position(|line| line.trim_end().ends_with(&mark))
    };
    let (Some(start), Some(end)) = (mark("ANCHOR"), mark("ANCHOR_END")) else {
        return Err(format!("{path} has no anchor {part}"));
    };
    // mdBook leaves out the marks of other anchors.
    let shown = lines[start + 1..end].iter().filter(|line| !line.contains("// ANCHOR"));
    Ok(shown.cloned().collect())
}

/// mdBook shows nothing for a missing anchor, and doesn't report it.
#[test]
fn every_include_shows_something() {
    let (mut shown, mut faults) = (0, Vec::new());
    for (page, text) in pages() {
        for (path, part) in includes(&page, &text) {
            let place = format!("{page}: {path}:{part}");
            match included(&path, &part) {
                Err(fault) => faults.push(format!("{page}: {fault}")),
                Ok(lines) if lines.iter().all(|line| line.trim().is_empty()) => {
                    faults.push(format!("{place} is empty"));
                }
                Ok(lines) if lines.iter().any(|line| line.contains("ANCHOR")) => {
                    faults.push(format!("{place} shows an anchor"));
                }
                Ok(_) => shown += 1,
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(shown > 50, "the book includes what it shows");
}

/// The pages include output and code from snapshots and sources.
#[test]
fn no_output_or_code_is_typed() {
    for (page, text) in pages() {
        let mut block: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let place = format!("book/src/{page}:{}: {line}", number + 1);
            if let Some(info) = line.trim_start().strip_prefix("```") {
                if block.take().is_none() {
                    assert!(!info.is_empty(), "{place}: name the language");
                    block = Some(info.split([',', ' ']).next().unwrap_or_default().to_owned());
                }
            } else if let Some(info) = &block {
                let typed = !line.trim().is_empty() && !line.trim().starts_with("{{#include ");
                match info.as_str() {
                    // Commands for the reader.
                    "sh" => {
                        assert!(!regex(r"^[$#] ").is_match(line), "{place}: is this a transcript?");
                    }
                    "console" | "text" | "diff" | "rust" => assert!(!typed, "{place}: typed"),
                    _ => panic!("{place}: unexpected language {info}"),
                }
            }
        }
        assert_eq!(block, None, "{page}: a block doesn't end");
    }
}

#[test]
fn every_snapshot_is_shown_or_excused() {
    let mut shown = BTreeSet::new();
    for (page, text) in pages() {
        for (path, part) in includes(&page, &text) {
            if let Some(name) = path.strip_prefix("tests/snapshots/") {
                assert_eq!(part, "4:", "{page}: {name}: a snapshot starts at its fourth line");
                shown.insert(name.trim_end_matches(".snap").to_owned());
            }
        }
    }
    for (name, reason) in NOT_SHOWN {
        assert!(!reason.is_empty(), "{name}: give a reason");
        assert!(shown.insert((*name).to_owned()), "{name} is shown, so it needs no excuse");
    }
    let all = files("tests/snapshots").into_iter();
    let all: BTreeSet<_> = all.map(|file| file.trim_end_matches(".snap").to_owned()).collect();
    // A page names three of the tests that a break makes fail. The whole list is the proof.
    let lists = |name: &&String| name.starts_with("breaks__") && name.ends_with("_tests");
    let hidden: Vec<_> = all.difference(&shown).filter(|name| !lists(name)).collect();
    assert!(hidden.is_empty(), "no page shows {hidden:#?}");
}

/// A chapter or its page under the hood invites readers to try each break before it shows the patch.
#[test]
fn every_patch_is_shown_after_an_invitation() {
    let (pages, mut faults) = (pages(), Vec::new());
    for step in Step::all().expect("the steps") {
        let number = step.to_string().split('-').next().unwrap_or_default().to_owned();
        let step_pages = [format!("{step}.md"), format!("under-the-hood/{step}.md")];
        for kind in [PatchKind::Break, PatchKind::Exercise] {
            for patch in Patch::all(&step, kind).expect("patches") {
                let path = format!("steps/{step}/{}/{}.patch", kind.directory(), patch.name);
                let Some(page) = step_pages.iter().find(|page| pages[*page].contains(&path)) else {
                    faults.push(format!("no page shows {path}"));
                    continue;
                };
                let command = format!("just break {number} {}", patch.name);
                let (shown, invited) = (pages[page].find(&path), pages[page].find(&command));
                if kind == PatchKind::Break && (invited.is_none() || invited > shown) {
                    faults.push(format!("{page}: say `{command}` before {path}"));
                }
                let parts = includes(page, &pages[page]);
                let part = parts.iter().find(|(target, _)| *target == path);
                let lines = part.and_then(|(_, part)| included(&path, part).ok());
                let first = lines.and_then(|lines| lines.into_iter().next()).unwrap_or_default();
                if !first.starts_with("--- ") {
                    faults.push(format!("{page}: {path} starts with {first:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Everything that the kernel refused in a test has an entry.
#[test]
fn errors_page_has_every_refusal() {
    let shown = includes("errors.md", &read("book/src/errors.md"));
    for file in files("tests/snapshots") {
        if file.starts_with("refusals__") || file.contains("__refused_") {
            let path = format!("tests/snapshots/{file}");
            assert!(
                shown.iter().any(|(target, _)| *target == path),
                "errors.md doesn't show {file}"
            );
        }
    }
}

/// A name like `run_exits_128_plus_signal_of_init` is one of our tests, checks, or functions.
#[test]
fn named_tests_exist() {
    let mut sources = String::new();
    for directory in ["tests", "steps"] {
        for file in files(directory) {
            if file.ends_with(".rs") || file.ends_with(".patch") {
                sources += &read(&format!("{directory}/{file}"));
            }
        }
    }
    let name = regex(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`");
    let mut unknown = Vec::new();
    for (page, text) in pages() {
        for found in name.captures_iter(&text) {
            if !FOREIGN_NAMES.contains(&&found[1]) && !sources.contains(&found[1]) {
                unknown.push(format!("{page}: there is no {}", &found[1]));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn summary_lists_every_page() {
    let summary = read("book/src/SUMMARY.md");
    for page in pages().keys() {
        assert!(summary.contains(&format!("({page})")), "{page} isn't in SUMMARY.md");
    }
    for step in Step::all().expect("the steps") {
        for page in [format!("{step}.md"), format!("under-the-hood/{step}.md")] {
            assert!(summary.contains(&format!("({page})")), "{page} isn't in SUMMARY.md");
        }
    }
}

/// `mdbook build` exits with 0 even if it warns.
#[test]
fn book_builds_and_its_links_resolve() {
    // Cargo installs mdbook in a directory that the callers of the steps may not search.
    let version = Command::new("mdbook").arg("--version").output();
    if version.is_err() && !Requirement::Tool("mdbook").is_met_or_skip() {
        return;
    }
    let directory = ScratchDir::new("book").expect("a temporary directory");
    let output = directory.path().canonicalize().expect("its real path");
    let mut build = Command::new("mdbook");
    build.args(["build", "--dest-dir"]).arg(&output).arg(root().join("book"));
    let build = build.output().expect("start mdbook");
    let log = String::from_utf8_lossy(&build.stderr).into_owned();
    assert!(build.status.success(), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");

    let names = files_below(&output).into_iter().filter(|name| name.ends_with(".html"));
    let pages: BTreeMap<PathBuf, String> = names
        .map(|name| output.join(name))
        .map(|page| (page.clone(), fs::read_to_string(&page).expect("a page")))
        .collect();
    // A page is searched once, because hundreds of links lead to it.
    let id = |part: &str| part.split('"').next().map(str::to_owned);
    let ids: BTreeMap<&PathBuf, BTreeSet<String>> = pages
        .iter()
        .map(|(page, text)| (page, text.split(" id=\"").skip(1).filter_map(id).collect()))
        .collect();
    let link = regex(r#"<[^>]*? (?:href|src)="([^"]*)""#);
    let mut followed = 0;
    for (page, text) in &pages {
        for found in link.captures_iter(text) {
            let target = &found[1];
            if regex("^[a-z]+:").is_match(target) {
                continue;
            }
            let place = format!("{}: {target}", page.display());
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let directory = page.parent().expect("a directory");
            let path = if path.is_empty() {
                Ok(page.clone())
            } else {
                directory.join(path).canonicalize()
            };
            let path = path.unwrap_or_else(|error| panic!("{place}: {error}"));
            if !fragment.is_empty() {
                let ids = ids.get(&path).unwrap_or_else(|| panic!("{place} isn't a page"));
                assert!(ids.contains(fragment), "{place}: no such fragment");
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "links of the book");
}

/// A comment names the snapshot that the next block repeats.
#[test]
fn readme_shows_what_tests_saw() {
    let readme = read("README.md");
    let block = regex(r"(?s)<!-- (tests/snapshots/[^ ]+\.snap) -->\n```console\n(.*?)```");
    let blocks: Vec<_> = block.captures_iter(&readme).collect();
    assert_eq!(blocks.len(), readme.matches("```console").count(), "each block names its snapshot");
    assert!(blocks.len() >= 2, "a transcript and a tree");
    for found in blocks {
        let body = included(&found[1], "4:").expect("a snapshot").join("\n");
        assert_eq!(found[2].trim_end(), body.trim_end(), "{}", &found[1]);
    }
}

/// Returns the fragments that link to a page's headings.
fn fragments(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let words = |line: &str| line.trim_start_matches('#').trim().to_lowercase();
    let is_kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    let kept = |line: &str| words(line).chars().filter(is_kept).collect::<String>();
    headings.map(|line| kept(line).replace(' ', "-")).collect()
}

#[test]
fn documents_link_to_places_that_exist() {
    for document in DOCUMENTS {
        let directory = root().join(Path::new(document).parent().expect("a directory"));
        for link in read(document).split("](").skip(1) {
            let target = link.split(')').next().expect("a target");
            // On GitHub, the second leads from a file's page to the repository's issues.
            if target.contains("://") || target.starts_with("../../issues/") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { root().join(document) } else { directory.join(path) };
            assert!(file.exists(), "{document}: {target}");
            if !fragment.is_empty() {
                let page = fs::read_to_string(&file).expect("a page");
                assert!(fragments(&page).contains(fragment), "{document}: {target}: no heading");
            }
        }
    }
}

/// Each option makes a container less safe, so no place proposes more than the steps need.
#[test]
fn container_options_agree() {
    let option = regex(r"security-opt[= ]+([a-z]+=[A-Za-z]+)");
    let needed: BTreeSet<_> =
        ["apparmor=unconfined", "seccomp=unconfined", "systempaths=unconfined"].into();
    let options = |file| -> BTreeSet<_> {
        let text = read(file);
        let values = option.captures_iter(&text).map(|found| found[1].to_owned());
        values.filter(|value| value != "unmask=ALL").collect() // rootless Podman's
    };
    for file in [
        ".devcontainer/devcontainer.json",
        "book/src/docker-podman.md",
        "tests/course/src/doctor/advice.rs",
        "tests/hosts/hosts",
    ] {
        assert!(options(file).iter().eq(&needed), "{file}: {:?}", options(file));
    }
    for file in
        ["book/src/docker-podman.md", "tests/course/src/doctor/advice.rs", "tests/hosts/hosts"]
    {
        assert!(read(file).contains("--security-opt unmask=ALL"), "{file}: Podman's option");
    }
}

/// Returns everything that speaks to a reader: the book, the documents, comments, hints, and questions.
fn texts() -> BTreeMap<String, String> {
    let mut texts: BTreeMap<_, _> =
        pages().into_iter().map(|(page, text)| (format!("book/src/{page}"), text)).collect();
    for document in DOCUMENTS {
        texts.insert((*document).into(), read(document));
    }
    if root().join("tests/course/hints.txt").exists() {
        texts.insert("tests/course/hints.txt".into(), read("tests/course/hints.txt"));
    }
    let recipes: String = read("justfile")
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .fold(String::new(), |text, line| text + line + "\n\n");
    texts.insert("justfile".into(), recipes);
    for file in files("steps") {
        let path = format!("steps/{file}");
        if file.ends_with(".rs") {
            texts.insert(path.clone(), prose::comments(&read(&path)));
        } else if file.ends_with(".patch") {
            let first = read(&path).lines().next().unwrap_or_default().to_owned();
            texts.insert(path, first);
        }
    }
    texts
}

/// A statement that opens with one of these has a clause as its subject.
fn opens_with_a_clause(sentence: &prose::Sentence) -> bool {
    let opening = regex(r#"(?i)^["(]*(what|who|whoever|whatever|where)\b"#);
    let text = sentence.text.trim_end_matches(['"', ')', ' ']);
    let whole = match sentence.place {
        Place::Text | Place::Footnote => true,
        Place::Cell => text.ends_with('.'),
        Place::Heading => false,
    };
    whole && !text.ends_with('?') && opening.is_match(text)
}

/// Returns what's wrong with a sentence.
fn faults(sentence: &prose::Sentence) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if opens_with_a_clause(sentence) {
        faults.push("start with the subject");
    }
    for pattern in PATTERNS {
        let text = pattern
            .except
            .iter()
            .fold(sentence.text.clone(), |text, except| text.replace(except, ""));
        if regex(&format!("(?i){}", pattern.regex)).is_match(&text) {
            faults.push(pattern.name);
        }
    }
    let unquoted = regex("\"[^\"]*\"|“[^”]*”").replace_all(&sentence.text, "");
    if regex(&format!("(?i){NEGATIVES}")).find_iter(&unquoted).count() > 1 {
        faults.push("use one negative per sentence");
    }
    faults
}

#[test]
fn prose_avoids_constructions_that_stop_readers() {
    let mut hits = Vec::new();
    let mut used = BTreeSet::new();
    for (file, text) in texts() {
        for sentence in prose::sentences(&text) {
            let faults = faults(&sentence);
            let allowed = ALLOWED.iter().position(|(place, words, reason)| {
                *place == file && sentence.text.contains(words) && !reason.is_empty()
            });
            match allowed {
                _ if faults.is_empty() => {}
                Some(index) => _ = used.insert(index),
                None => hits.push(format!("{file}: {}\n    {}", faults.join("; "), sentence.text)),
            }
        }
    }
    assert!(hits.is_empty(), "{} sentences:\n{}", hits.len(), hits.join("\n"));
    assert_eq!(used.len(), ALLOWED.len(), "an exception that isn't needed any more");
}

/// The comments of the tests, the harness, and the learner's tool say first which thing they're about.
#[test]
fn comments_of_tests_name_their_subject_first() {
    let (mut read_files, mut hits) = (0, Vec::new());
    for file in files("tests").into_iter().filter(|file| file.ends_with(".rs")) {
        let comments = prose::comments(&read(&format!("tests/{file}")));
        for sentence in prose::sentences(&comments).iter().filter(|it| opens_with_a_clause(it)) {
            hits.push(format!("tests/{file}: {}", sentence.text));
        }
        read_files += 1;
    }
    assert!(read_files > 100, "the sources of the tests");
    assert!(hits.is_empty(), "{} sentences:\n{}", hits.len(), hits.join("\n"));
}

#[test]
fn patterns_find_what_they_are_for() {
    for (bad, good) in [
        (
            "What stands after an exec never runs.",
            "If exec succeeds, the code after it never runs.",
        ),
        ("Where the kernel has it, it works.", "Where does the status come from?"),
        ("The shell is in a frame of its own.", "The shell is in its own frame."),
        ("Nobody waits for it.", "Its parent doesn't wait for it."),
        ("It is not there, and no error is printed.", "The line is missing."),
        ("The mask is to be restored.", "Restore the mask."),
        ("It is 0, for it has no child.", "It is 0, because it has no child."),
        ("It sends the signal to the command alone.", "It sends the signal only to the command."),
    ] {
        let check = |text: &str| {
            let sentences = prose::sentences(text);
            sentences.iter().flat_map(faults).collect::<Vec<_>>()
        };
        assert!(!check(bad).is_empty(), "{bad}");
        assert_eq!(check(good), [""; 0], "{good}");
    }
}

/// Those who type a path of a program must have built it.
#[test]
fn program_is_built_before_its_path_is_typed() {
    let pages = pages();
    for name in ["introduction.md", "02-init-pid1.md"] {
        let (before, _) = pages[name].split_once("target/debug/02").expect("a path");
        let builds = |text: &str| text.contains("builds") || text.contains("built");
        let says = |text: &str| text.contains("`just run 02") && builds(text);
        assert!(before.split("\n\n").any(says), "{name}: `just run 02` builds the program");
    }
}

#[test]
fn pages_have_their_length() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (names, target) in WORDS {
        // Under the hood, a table explains the lines of the step.
        let count =
            |name: &&str| prose::count_words(&pages[*name], name.starts_with("under-the-hood/"));
        let words: usize = names.iter().map(count).sum();
        if words * 10 < target * 8 || words * 10 > target * 12 {
            wrong.push(format!("{}: {words} words instead of {target}", names.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed = WORDS.iter().flat_map(|(names, _)| names.iter()).chain(ANY_LENGTH);
    let listed: BTreeSet<_> = listed.map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, pages.into_keys().collect(), "each page has a length");
}
