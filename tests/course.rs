//! The course about itself: that the steps are one lesson apart, that one thing has one name, and that
//! what is read is what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use lab::{Hostile, root, snapshots, steps};

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
        ["course.rs", "doctor.rs", "lab", "snapshots"].map(str::to_owned).into();
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
    let snapshots = files("tests/snapshots");
    assert!(snapshots.len() > diffs.len());
    for file in snapshots {
        let (test, name) =
            file.split_once("__").unwrap_or_else(|| panic!("{file}: no test's name"));
        let name = name.strip_suffix(".snap").unwrap_or_else(|| panic!("{file}: is it pending?"));
        if test == "course" && name.starts_with("diff_") {
            assert!(diffs.contains(&file), "{file}: no such pair of steps");
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
            for place in Hostile::ALL {
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
