//! Slow motion in the page: the frames that course.js turns into a player. Without it they're a list.

use std::collections::{BTreeMap, HashMap};

use course::slow::{Change, Frame, Recording, Scene, heading, record};
use course::step::Step;
use course::test_support::{programs_for_each_caller, step_program};
use harness::placeholders::Placeholders;
use harness::test_support::inspectable;
use harness::{Caller, Highlights, Process, ProcessTree, Result, assert_snapshot, diagram, moment};
use nix::sys::signal::Signal;

#[test]
fn player_shows_each_frame() -> Result {
    let term = Some(Signal::SIGTERM);
    for (number, args, signal) in [
        ("01", &["command", "/bin/true"][..], None),
        ("02", &["run", "/bin/true"], None),
        ("03", &["run", "/bin/true"], None),
        ("04", &["run", "/bin/sh", "-c", "(/bin/true &) | /bin/cat"], None),
        ("05", &["run", "/bin/sleep", "100"], term),
        ("06", &["run", "/bin/true"], None),
        ("07", &["run", "/bin/true"], None),
    ] {
        let step: Step = number.parse()?;
        // The pictures are an ordinary user's, whichever users this machine has.
        let mut programs = inspectable(programs_for_each_caller(step_program(step.number)));
        let Some(program) = programs.find(|program| program.caller() != Caller::Root) else {
            continue;
        };
        assert!(term == signal || step.scenes()[0] == args, "{step}: as in a terminal");
        let args = args.iter().map(Into::into).collect();
        let mut scene = Scene::new(program.path().to_owned(), &step.bin(), args);
        (scene.redacted, scene.user) = (true, program.environment().uid());
        scene.signal = signal;
        let recording = record(&scene)?;
        let html = player(&recording);
        assert_eq!(html.matches("<li class=\"frame\">").count(), recording.frames.len());
        // A blank line would end the HTML in the middle of a page.
        assert!(html.lines().all(|line| !line.trim().is_empty()), "{html}");
        assert_snapshot!(number, html);
        if number == "02" {
            assert_snapshot!("02_stages", stages(&recording));
        }
    }
    Ok(())
}

fn player(recording: &Recording) -> String {
    let mut placeholders = Placeholders::default();
    let mut before = None;
    let mut text = format!(
        "<details>\n<summary>In slow motion: <code>{}</code></summary>\n<ol>\n",
        escape(&recording.command_line)
    );
    let mut known = BTreeMap::new();
    for frame in &recording.frames {
        let mut now = frame.tree.clone();
        if let Some(tree) = &mut now {
            keep_namespaces(&mut tree.root, &mut known);
        }
        let tree = with_the_gone(now.as_ref(), before.as_ref());
        text += &frame_in_html(frame, &tree, &mut placeholders);
        before = now;
    }
    text + "</ol>\n</details>\n"
}

fn frame_in_html(frame: &Frame, tree: &ProcessTree, placeholders: &mut Placeholders) -> String {
    let named = |change| {
        let rows = frame.rows.iter().filter(move |row| row.change == change);
        rows.map(|row| row.pid.clone()).collect()
    };
    let notes: BTreeMap<_, _> = frame
        .rows
        .iter()
        .filter(|row| !row.namespaces.is_empty())
        .map(|row| (row.pid.clone(), note(&row.namespaces)))
        .collect();
    let highlights = Highlights {
        caller: frame.pid.clone(),
        changed: named(Change::New),
        gone: named(Change::Gone),
        notes,
    };
    let title = format!("Frame {}: {} {}", frame.number, heading(frame), frame.described.call);
    let picture = moment(&title, false, tree, &highlights, placeholders);
    for row in &frame.rows {
        assert!(picture.contains(&format!("PID {}", row.pid)), "the text's names: {picture}");
    }
    let paragraphs = [
        ("doing", format!("{}. {}", frame.number, escape(&heading(frame)))),
        ("call", code(&frame.described.call)),
        ("meaning", escape(&frame.described.sentence)),
        ("result", escape(frame.result.as_deref().unwrap_or_default())),
    ]
    .into_iter();
    let printed =
        frame.printed.iter().map(|line| ("printed", format!("<samp>{}</samp>", escape(line))));
    let caption: String = paragraphs
        .chain(printed)
        .map(|(class, text)| format!("<p class=\"{class}\">{text}</p>\n"))
        .collect();
    format!(
        "<li class=\"frame\">\n<figure class=\"picture\">\n{picture}\
         <figcaption>\n{caption}</figcaption>\n</figure>\n</li>\n"
    )
}

/// Draws the child of `run` after each program that it becomes.
fn stages(recording: &Recording) -> String {
    let after = |call: &str| {
        let frame = recording.frames.iter().find(|frame| frame.described.call.starts_with(call));
        frame.and_then(|frame| frame.tree.as_ref()).expect("a frame")
    };
    let moments = [
        ("run creates a child", after("clone")),
        ("the child becomes init", after("execve(\"/proc/self/exe\"")),
        ("init becomes the command", after("execve(\"/bin/true\"")),
    ];
    diagram("One child runs three programs, and its PIDs stay the same", &moments)
}

/// Names the namespaces that aren't the host's. A table has parentheses around those of future children.
fn note(namespaces: &str) -> String {
    let names = |names: &[&str]| names.join(", ").replace(['(', ')'], "");
    let (future, own): (Vec<_>, Vec<_>) =
        namespaces.split(", ").partition(|name| name.starts_with('('));
    let note = match &future[..] {
        [] => names(&own),
        [one] => names(&[&own[..], &[&format!("{one} for its children")]].concat()),
        several => format!("{}; its children's: {}", names(&own), names(several)),
    };
    let note = format!("own namespaces: {note}");
    assert!(note.len() <= 48, "it's wider than its box: {note}");
    note
}

/// Gives each zombie the namespaces that it had when it was alive. A zombie has left most of them, and only root may
/// see the rest.
fn keep_namespaces(process: &mut Process, known: &mut BTreeMap<i32, HashMap<String, u64>>) {
    if process.state != 'Z' {
        known.insert(process.pids[0], process.namespaces.clone());
    } else if let Some(namespaces) = known.get(&process.pids[0]) {
        process.namespaces.clone_from(namespaces);
    }
    for child in &mut process.children {
        keep_namespaces(child, known);
    }
}

/// Returns a tree that also has the processes which were there `before`.
fn with_the_gone(now: Option<&ProcessTree>, before: Option<&ProcessTree>) -> ProcessTree {
    let (Some(now), Some(before)) = (now, before) else {
        return now.or(before).expect("a process").clone();
    };
    let alive: Vec<_> = now.processes().iter().map(|process| process.pids[0]).collect();
    let mut tree = now.clone();
    add_gone(&mut tree.root, &before.root, &alive);
    tree
}

fn add_gone(now: &mut Process, before: &Process, alive: &[i32]) {
    for child in &before.children {
        let same = now.children.iter_mut().find(|process| process.pids[0] == child.pids[0]);
        if let Some(process) = same {
            add_gone(process, child, alive);
        } else if !alive.contains(&child.pids[0]) {
            let mut gone = child.clone();
            // Dead, as in proc_pid_stat(5), and no longer a zombie.
            gone.state = 'X';
            now.children.push(gone);
        }
    }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
