//! The course about itself: names, manifests, and the diffs between neighbors.

use std::collections::{BTreeMap, BTreeSet};

use course::patch::{Patch, PatchKind, apply};
use course::starter::{self, Begin};
use course::step::Step;
use course::test_support::{names_in, read, remove_comments, todo_patches};
use course::workspace::root;
use course::{checks, diff, hints, sources};
use harness::{Result, ScratchDir, assert_snapshot};
use regex_lite::Regex;

fn steps() -> Vec<Step> {
    Step::all().expect("steps/")
}

/// `02-init-pid1` and `03-proc-mount`: the pairs of neighbors.
fn neighbors() -> Vec<[Step; 2]> {
    steps().windows(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect()
}

#[test]
fn each_diff_is_one_lesson() -> Result {
    for [old, new] in neighbors() {
        let diff = diff::between_steps(&old, &new)?;
        assert!(diff.contains("\n+"), "{new} adds nothing to {old}");
        assert_snapshot!(format!("diff_{}_{}", old.label(), new.label()), diff);
    }
    Ok(())
}

/// A file that the next step only moves or renames would be noise in the lesson.
#[test]
fn mounting_proc_changes_init_only() -> Result {
    let diff = diff::between_steps(&"2".parse()?, &"3".parse()?)?;
    let files: Vec<_> = diff.lines().filter(|line| line.starts_with("+++ ")).collect();
    assert_eq!(files, ["+++ 03-proc-mount/src/init.rs"]);
    Ok(())
}

#[test]
fn step_names_are_consistent() {
    let mut files: BTreeSet<_> = [
        "book",
        "book.rs",
        "breaks.rs",
        "conventions.rs",
        "course",
        "doctor.rs",
        "errors.rs",
        "harness",
        "learn.rs",
        "linux-only",
        "player.rs",
        "refusals.rs",
        "slow.rs",
        "snapshots",
        "tool.rs",
    ]
    .map(str::to_owned)
    .into();
    for (step, number) in steps().iter().zip(1..) {
        assert_eq!(step.number, number, "steps are numbered without a gap");
        let manifest = read(&format!("steps/{step}/Cargo.toml"));
        let test = step.test();
        for lines in [
            format!("[package]\nname = \"{}\"\n", step.package()),
            format!("[[bin]]\nname = \"{}\"\n", step.bin()),
            format!("[[test]]\nname = \"{test}\"\npath = \"../../tests/{test}.rs\"\n"),
        ] {
            assert!(manifest.contains(&lines), "steps/{step}/Cargo.toml lacks:\n{lines}");
        }
        files.insert(format!("{test}.rs"));
    }
    // The sandbox has no copy of the browser and host's tests.
    files.extend(names_in("tests").into_iter().filter(|name| name == "browser" || name == "hosts"));
    assert_eq!(names_in("tests"), files);
}

#[test]
fn steps_depend_on_few_crates() {
    for step in steps() {
        let manifest = read(&format!("steps/{step}/Cargo.toml"));
        let dependencies = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
        let dependencies = dependencies.split("\n\n").next().expect("a section");
        // From step 04 on, `init` waits for any child. nix can't represent the death by a real-time signal.
        let rustix = if step.number >= 4 { "\nrustix.workspace = true" } else { "" };
        let expected = format!("clap.workspace = true\nnix.workspace = true{rustix}");
        assert_eq!(dependencies, expected, "{step}");
        assert!(
            manifest.contains("\n[lints]\nworkspace = true\n"),
            "{step}: `unsafe` is forbidden"
        );
    }
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
}

#[test]
fn source_files_say_which_process_runs_them() {
    for step in steps() {
        let sources = sources::read(&step.dir().expect("a checkout").join("src"));
        for (file, text) in sources.expect("the sources") {
            let says = [
                "//! You start ",
                "//! `run` starts ",
                "//! Both of our processes start ",
                "//! All of our processes start ",
                "//! Used by ",
            ]
            .iter()
            .any(|start| text.starts_with(start));
            assert!(says, "steps/{step}/src/{file}");
        }
    }
}

#[test]
fn every_snapshot_has_a_test() -> Result {
    let diffs: Vec<_> = neighbors()
        .iter()
        .map(|[old, new]| format!("conventions__diff_{}_{}", old.label(), new.label()))
        .collect();
    let mut patches = Vec::new();
    for step in steps() {
        for kind in [PatchKind::Break, PatchKind::Exercise] {
            patches.extend(
                Patch::all(&step, kind)?
                    .iter()
                    .map(|patch| format!("breaks__{}", patch.snapshot())),
            );
        }
    }
    // Without a container, the frames are the same for every caller.
    let frames = |step: Step| {
        if step.has_container() {
            ["root", "rootless"].map(|caller| format!("{}_{caller}", step.label())).to_vec()
        } else {
            vec![step.label()]
        }
    };
    let mut slow: Vec<_> = steps().into_iter().flat_map(frames).collect();
    slow.extend(["03_refused", "05_signal_root", "05_signal_rootless"].map(str::to_owned));
    let players = ["01", "02", "02_stages", "03", "04", "05", "06", "07"];
    let snapshots = names_in("tests/snapshots");
    assert!(snapshots.len() > diffs.len());
    for file in snapshots {
        let snapshot = file.strip_suffix(".snap").unwrap_or_else(|| panic!("{file}: a snapshot?"));
        let (test, name) = snapshot.split_once("__").expect("a test and a name");
        let made = match test {
            "breaks" => {
                let patch = snapshot.strip_suffix("_tests").unwrap_or(snapshot);
                patches.contains(&patch.to_owned())
            }
            "conventions" => diffs.contains(&snapshot.to_owned()),
            "player" => players.contains(&name),
            "slow" => slow.contains(&name.to_owned()),
            "refusals" => read("tests/refusals.rs").contains(&format!("=> \"{name}\"")),
            _ => {
                read(&format!("tests/{test}.rs")).contains(&format!("assert_snapshot!(\"{name}\""))
            }
        };
        assert!(made, "{file}: no test makes it");
    }
    Ok(())
}

/// The table of the steps names a file of the finished step, which a starter may lack.
#[test]
fn readme_says_which_files_starters_lack() -> Result {
    let directory = ScratchDir::new("readme")?;
    let readme = read("README.md");
    let mut lacking = Vec::new();
    for step in starter::steps()? {
        let work = directory.path().join(step.label());
        starter::lay_out(&step, &work, Begin::WithStarter, false)?;
        let link = Regex::new(&format!(r"\(steps/{step}/(src/\w+\.rs)\)")).expect("an expression");
        let files: Vec<_> = link.captures_iter(&readme).map(|found| found[1].to_owned()).collect();
        assert!(!files.is_empty(), "README.md links to no code of {step}");
        if files.iter().any(|file| !work.join(file).exists()) {
            lacking.push(step.label());
        }
    }
    let sentence = format!("except in steps {}", lacking.join(", ").replace(", 06", ", and 06"));
    assert!(readme.contains(&sentence), "README.md: {sentence}");
    Ok(())
}

/// `just test-breaks` grades a step after each of its TODOs, with these patches of its starter.
#[test]
fn todo_patches_follow_the_starters() -> Result {
    let directory = ScratchDir::new("todos")?;
    for step in starter::steps()? {
        let work = directory.path().join(step.label());
        starter::lay_out(&step, &work, Begin::WithStarter, false)?;
        let todo = Regex::new(r"// TODO (\d+)").expect("an expression");
        let sources = sources::read(&work.join("src"))?.into_values().collect::<String>();
        let todos: BTreeSet<_> =
            todo.captures_iter(&sources).map(|found| found[1].to_owned()).collect();
        let patches = todo_patches(&step);
        remove_comments(&work);
        assert_eq!(
            todos.len(),
            patches.len() + 1,
            "steps/{step}/todos: one for each TODO but the last"
        );
        for (number, patch) in (1..).zip(&patches) {
            let applied = apply(patch, &work);
            applied.unwrap_or_else(|error| panic!("steps/{step}/todos/{number}.patch: {error}"));
        }
    }
    Ok(())
}

#[test]
fn every_check_has_hints() {
    let checks: Vec<_> = checks::names().collect();
    for check in &checks {
        let hints = hints::for_check(check);
        assert!(!hints.is_empty(), "{check}");
        assert!(!hints.concat().contains('#'), "{check}: a comment is no hint: {hints:?}");
        let is_error = |hint: &String| hint.starts_with("error: ");
        assert!(!hints.iter().any(is_error), "{check}: an error is no hint: {hints:?}");
        assert!(check.len() <= 45, "{check}");
    }
    for section in hints::sections() {
        assert!(checks.contains(&section), "hints.txt: {section} is no check");
    }
}

/// Each error that `hints.txt` lists for a check can come from a step with this check.
#[test]
fn errors_in_hints_are_those_of_a_step() -> Result {
    let errors = |check| hints::errors(check).map(move |error| (check, error));
    let mut missing: BTreeSet<_> = checks::names().flat_map(errors).collect();
    assert!(!missing.is_empty());
    for step in Step::all()? {
        let source = sources::read(&step.dir()?.join("src"))?.into_values().collect::<String>();
        for check in checks::for_step(&step) {
            for error in hints::errors(check.name).filter(|error| source.contains(error)) {
                missing.remove(&(check.name, error));
            }
        }
    }
    // The checks say this one.
    missing.retain(|(_, error)| !checks::MOUNTS_CHANGED.starts_with(error));
    assert!(missing.is_empty(), "no step has {missing:?}");
    Ok(())
}

#[test]
fn changelog_has_this_version_and_its_date() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    let version = version.expect("the version of the packages").trim_end_matches('"');
    let changelog = read("CHANGELOG.md");
    let headings: Vec<_> =
        changelog.lines().filter_map(|line| line.strip_prefix("## ")).take(2).collect();
    let date = headings[1].strip_prefix(&format!("{version} - ")).unwrap_or_default();
    assert_eq!(headings[0], "Unreleased");
    assert_eq!(date.split('-').map(str::len).collect::<Vec<_>>(), [4, 2, 2], "{headings:?}");
}

/// A part of `.ci/run` that no job runs would be forgotten.
#[test]
fn every_part_of_ci_has_a_job() {
    let script = read(".ci/run");
    let parts = script.lines().filter_map(|line| {
        let list = line.strip_prefix("everything=(").or(line.strip_prefix("on_request=("))?;
        list.strip_suffix(')')
    });
    let parts: Vec<_> = parts.flat_map(str::split_whitespace).collect();
    assert!(parts.len() > 10, "two lists: {parts:?}");
    let jobs = read(".github/workflows/ci.yml") + &read(".github/workflows/book.yml");
    let run = jobs.lines().filter_map(|line| {
        let (_, parts) = line.split_once("parts: ").or(line.split_once("bash .ci/run "))?;
        Some(parts.split(['}', ',', '$']).next()?.split_whitespace())
    });
    let run: BTreeSet<_> = run.flatten().collect();
    for part in &parts {
        assert!(run.contains(part), "no job runs `bash .ci/run {part}`");
    }
    for part in run {
        assert!(parts.contains(&part), "a job runs {part}, and .ci/run has no such part");
    }
}

/// A shebang recipe fails if the directory for temporary files is mounted noexec, and a path in quotation marks
/// fails if it contains one.
#[test]
fn recipes_are_plain_lines() {
    let justfile = read("justfile");
    assert!(justfile.contains("\ncheck step *options: tool\n"), "the recipes");
    for line in justfile.lines() {
        assert!(!line.trim_start().starts_with("#!"), "{line}");
        assert!(!line.contains("'{{") && !line.contains("\"{{"), "use quote(): {line}");
    }
}

/// Files of at most 400 lines are easy to survey.
#[test]
fn harness_and_course_files_are_short() {
    for directory in ["tests/harness/src", "tests/course/src"] {
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            for name in names_in(&directory) {
                let path = format!("{directory}/{name}");
                if !name.ends_with(".rs") {
                    directories.push(path);
                } else {
                    assert!(read(&path).lines().count() <= 400, "{path}");
                }
            }
        }
    }
}

/// Repeatedly removes the modules that import no other. Only the modules of a cycle are left.
#[test]
fn modules_import_each_other_one_way() -> Result {
    let import = Regex::new(r"\bcrate::(?:(\w+)|\{([^}]*)\})").expect("a pattern");
    for package in ["harness", "course"] {
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in sources::read(&root()?.join(format!("tests/{package}/src")))? {
            let module = path.split(['/', '.']).next().unwrap_or_default();
            if ["lib", "main", "bin"].contains(&module) {
                continue;
            }
            let needed = needs.entry(module.to_owned()).or_default();
            for found in import.captures_iter(&text) {
                let names = found.get(1).or(found.get(2)).map_or("", |names| names.as_str());
                let names = names.split(',').filter_map(|name| name.trim().split("::").next());
                needed.extend(names.filter(|name| *name != module).map(str::to_owned));
            }
        }
        assert!(needs.len() > 20, "{needs:?}");
        loop {
            let modules: BTreeSet<_> = needs.keys().cloned().collect();
            needs.retain(|_, needed| !needed.is_disjoint(&modules));
            if needs.len() == modules.len() {
                break;
            }
        }
        assert!(needs.is_empty(), "{package}: a cycle among {:?}", needs.keys());
    }
    Ok(())
}

/// An error looks the same in every step.
#[test]
fn steps_with_a_container_share_error_rs() {
    let steps: Vec<_> = steps().into_iter().filter(Step::has_container).collect();
    let error = read(&format!("steps/{}/src/error.rs", steps[0]));
    for step in &steps[1..] {
        assert_eq!(read(&format!("steps/{step}/src/error.rs")), error, "{step}");
    }
}

/// One step, one idea: added lines of code, without comments and blank lines.
#[test]
fn a_step_adds_few_lines() {
    let limits = [(3, 25), (4, 45), (5, 130), (6, 110), (7, 110)];
    let steps = steps();
    for (number, limit) in limits {
        let [old, new] = [number - 1, number].map(|number| {
            steps.iter().find(|step| step.number == number).expect("a step of this number")
        });
        let diff = diff::between_steps(old, new).expect("the sources");
        let added = diff.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++"));
        let code = added.map(|line| line[1..].trim()).filter(|line| !line.is_empty());
        let count = code.filter(|line| !line.starts_with("//")).count();
        assert!(count <= limit, "{new} adds {count} lines, more than {limit}");
    }
}

#[test]
fn a_file_of_a_step_is_short() {
    for step in steps() {
        let directory = format!("steps/{step}/src");
        for file in names_in(&directory) {
            let source = read(&format!("{directory}/{file}"));
            let code = source.lines().map(str::trim).filter(|line| !line.is_empty());
            let count = code.filter(|line| !line.starts_with("//")).count();
            assert!(count <= 80, "{directory}/{file} has {count} lines of code");
        }
    }
}
