//! Draws process trees and their namespaces, for the book.

use std::collections::BTreeMap;
use std::mem;

use crate::placeholders::Placeholders;
use crate::process_tree::{Process, ProcessTree};

/// The kinds of namespace that a diagram shows, by their names in /proc/PID/ns. The user namespace isn't among
/// them, because whether there's a new one depends on the caller.
const KINDS: [(&str, &str); 3] =
    [("pid", "PID namespace"), ("mnt", "mount namespace"), ("time", "time namespace")];

const WIDTH: usize = 360;
const NODE: usize = 54;
const GAP: usize = 20;
const LINE: usize = 17;
/// The width of a 13 px monospace letter, rounded up.
const LETTER: usize = 8;

/// Draws one tree for each moment, as a `<figure>` of inline SVGs. A process is a box with its command line and
/// its PIDs, below its parent. Processes that share their namespaces share a frame. The PIDs on the host are
/// replaced, with the same name for the same process throughout the figure.
///
/// The first process's frame counts as the host's. Of the other kinds of namespace, a frame names only those that
/// aren't the host's, so a learner doesn't meet one before the step that creates it.
pub fn diagram(caption: &str, moments: &[(&str, &ProcessTree)]) -> String {
    let mut placeholders = Placeholders::default();
    let mut text = String::from("<figure class=\"picture\">\n");
    for (heading, tree) in moments {
        text += &moment(heading, true, tree, &Highlights::default(), &mut placeholders);
    }
    text + &format!("<figcaption>{}</figcaption>\n</figure>\n", escape(caption))
}

/// The processes that a picture of one moment points out. They are named after their PIDs on the host: `HOST_A`.
#[derive(Clone, Debug, Default)]
pub struct Highlights {
    /// The process that the moment is about.
    pub caller: String,
    /// Processes that are new, or changed.
    pub changed: Vec<String>,
    /// Processes that are dead, and that the tree still has from an earlier moment.
    pub gone: Vec<String>,
    /// A third line for some of the boxes.
    pub notes: BTreeMap<String, String>,
}

/// Draws one moment of several as an inline SVG, whose title is a visible heading if `shows_title` is set. The same
/// `placeholders` give a process the same name in all of them.
pub fn moment(
    title: &str,
    shows_title: bool,
    tree: &ProcessTree,
    highlights: &Highlights,
    placeholders: &mut Placeholders,
) -> String {
    let (frames, boxes, words) = (String::new(), String::new(), Vec::new());
    let host = &tree.root;
    let mut drawing =
        Drawing { host, highlights, placeholders, frames, boxes, words, framed: 0, y: 0 };
    drawing.frame(host, 0, &["PID namespace: the host's".to_owned()], false);
    let Drawing { frames, boxes, words, y, .. } = drawing;
    let (title, height) = (escape(title), y + if shows_title { 27 } else { 1 });
    let mut text = format!(
        "<svg role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>{title}</title>\n<desc>{}</desc>\n",
        escape(&words.join(" "))
    );
    if shows_title {
        text += &format!(
            "<text x=\"{}\" y=\"16\" font-size=\"15\" text-anchor=\"middle\" font-weight=\"bold\">{title}</text>\n\
             <g transform=\"translate(0 26)\">\n{frames}{boxes}</g>\n",
            WIDTH / 2
        );
    } else {
        text.extend([frames, boxes]);
    }
    text + "</svg>\n"
}

struct Drawing<'a> {
    host: &'a Process,
    highlights: &'a Highlights,
    placeholders: &'a mut Placeholders,
    frames: String,
    boxes: String,
    words: Vec<String>,
    /// The depth of the innermost frame. Boxes in it end at the same right edge.
    framed: usize,
    y: usize,
}

impl Drawing<'_> {
    /// Draws a frame around a process and those below it that share its namespaces.
    fn frame(&mut self, process: &Process, depth: usize, labels: &[String], own: bool) {
        let top = self.y + 1;
        self.y += 8;
        for label in labels {
            self.y += LINE;
            let class = if own && label.ends_with("its own") { "accent" } else { "quiet" };
            self.text(&format!(" class=\"{class}\""), depth * GAP + 13, self.y - 4, label);
        }
        self.y += 6;
        let place = self.frames.len();
        let around = mem::replace(&mut self.framed, depth);
        self.node(process, depth);
        self.framed = around;
        self.y += 2;
        let (class, dash) =
            if own { ("accent", "") } else { ("quiet", " stroke-dasharray=\"5 4\"") };
        let frame = format!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"8\" \
             fill=\"currentColor\" fill-opacity=\"0.05\" stroke=\"currentColor\" \
             stroke-width=\"1.5\"{dash}/>\n",
            depth * GAP + 1,
            WIDTH - 2 * depth * GAP - 2,
            self.y - top,
        );
        self.frames.insert_str(place, &frame);
        self.y += 1;
    }

    fn text(&mut self, attributes: &str, x: usize, y: usize, words: &str) {
        let words = escape(words);
        self.boxes +=
            &format!("<text{attributes} x=\"{x}\" y=\"{y}\" font-size=\"13\">{words}</text>\n");
    }

    fn node(&mut self, process: &Process, depth: usize) {
        let x = depth * GAP + 12;
        let width = WIDTH - (depth + self.framed) * GAP - 24;
        let top = self.y;
        let outside = self.placeholders.name(&process.pids[0].to_string());
        let Highlights { caller, changed, gone, notes } = self.highlights;
        let is_gone = gone.contains(&outside);
        let note = notes.get(&outside).filter(|_| !is_gone);
        let height = NODE + if note.is_some() { LINE } else { 0 };
        let dash = if process.state == 'Z' || is_gone { " stroke-dasharray=\"2 3\"" } else { "" };
        let style = if is_gone || changed.contains(&outside) {
            "class=\"accent\" fill=\"currentColor\" fill-opacity=\"0.1\" stroke=\"currentColor\" \
             stroke-width=\"3\""
        } else {
            "fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\""
        };
        self.boxes += &format!(
            "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"4\" {style}{dash}/>\n"
        );
        let title = process.display_name();
        let fits = (width - 16) / LETTER;
        let shown = if title.chars().count() > fits {
            title.chars().take(fits - 1).chain(['…']).collect()
        } else {
            title.clone()
        };
        let mut pids = match process.pids.len() {
            1 => format!("PID {outside}"),
            _ => format!("PID {outside} on the host"),
        };
        for (level, pid) in process.pids[1..].iter().enumerate() {
            let where_ =
                if level == 0 { "inside".to_owned() } else { format!("{} levels in", level + 1) };
            pids += &format!(", PID {pid} {where_}");
        }
        if is_gone {
            pids = format!("PID {outside} is gone");
        }
        let weight = if *caller == outside { " font-weight=\"bold\"" } else { "" };
        let mono = format!(" class=\"mono\"{weight}");
        let third = note.map(|note| (42 + LINE, "", note));
        for (line, class, words) in [(22, &*mono, &shown), (42, "", &pids)].into_iter().chain(third)
        {
            self.text(class, x + 9, top + line, words);
        }
        let third = note.map(|note| format!(" {note}.")).unwrap_or_default();
        self.words.push(format!("{title}: {pids}.{third}"));
        self.y += height + 8;
        for child in &process.children {
            self.words.push("Its child:".to_owned());
            let middle = self.child(process, child, depth + 1);
            self.boxes += &format!(
                "<path d=\"M{} {} V{middle} H{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\"/>\n",
                x + 5,
                top + height,
                (depth + 1) * GAP + 12
            );
        }
    }

    /// Draws a child, and returns the height at which its parent's line meets it.
    fn child(&mut self, parent: &Process, child: &Process, depth: usize) -> usize {
        let differs = |kind: &str, from: &Process| {
            let (ours, theirs) = (child.namespaces.get(kind), from.namespaces.get(kind));
            ours.is_some() && theirs.is_some() && ours != theirs
        };
        let labels: Vec<_> = KINDS
            .iter()
            .filter(|(kind, _)| *kind == "pid" || differs(kind, self.host))
            .map(|(kind, name)| {
                let whose = if differs(kind, self.host) { "its own" } else { "the host's" };
                format!("{name}: {whose}")
            })
            .collect();
        if KINDS.iter().any(|(kind, _)| differs(kind, parent)) {
            self.words.push(format!("In its own frame ({}).", labels.join(", ")));
            let middle = self.y + 15 + labels.len() * LINE + NODE / 2;
            self.frame(child, depth, &labels, true);
            self.y += 6;
            middle
        } else {
            let middle = self.y + NODE / 2;
            self.node(child, depth);
            middle
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
