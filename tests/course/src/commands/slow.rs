//! The command that runs a step in slow motion.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use harness::Result;
use nix::sys::signal::Signal;

use crate::cleanup::with_cleanup;
use crate::print::{print, print_next};
use crate::slow::screen::{Below, Key, Screen};
use crate::slow::{Film, Scene, explain, text};
use crate::step::Step;
use crate::workspace::typed_path;

/// The arguments of `slow`.
#[derive(Args, Debug)]
pub struct Slow {
    /// Step to run: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Arguments of the step itself [default: an example]
    ///
    /// The example is run /bin/true, and in step 04 a command with an orphan.
    ///
    /// With --signal, it's run /bin/sleep 100.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
    /// Print every frame, and don't wait for keys
    #[arg(long)]
    pub all: bool,
    /// Send this signal to the step as soon as every process waits
    #[arg(long, value_parser = parse_signal)]
    pub signal: Option<Signal>,
    /// Show this program instead of building the step
    ///
    /// For your own step, press `s` in `watch`.
    #[arg(long, value_name = "PROGRAM")]
    pub bin: Option<PathBuf>,
    /// Print HOST_A, HOST_B, ... instead of the host's PIDs
    #[arg(long)]
    pub redacted: bool,
    /// Say that `watch` is what the keys go back to, and wait for one at the end
    #[arg(long, hide = true)]
    pub from_watch: bool,
}

fn parse_signal(word: &str) -> std::result::Result<Signal, String> {
    let name = word.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().map_err(|_| "not a signal; try TERM".to_owned())
}

/// Runs a step in slow motion: frame by frame at a terminal, in one go elsewhere.
///
/// # Errors
/// It doesn't build, or can't be started under ptrace(2).
pub fn slow(options: &Slow) -> Result<ExitCode> {
    super::run::explain(&options.step, &options.args, "slow")?;
    with_cleanup(|| play(options))
}

fn play(options: &Slow) -> Result {
    let step = &options.step;
    let program = match &options.bin {
        Some(program) => super::work::executable(&typed_path(program))?,
        None => step.build()?,
    };
    let mut lines = vec![options.args.clone()];
    if options.args.is_empty() {
        let scenes = if options.signal.is_some() { step.signal_scenes() } else { step.scenes() };
        let words = |scene: Vec<&str>| scene.into_iter().map(OsString::from).collect();
        lines = scenes.into_iter().map(words).collect();
    }
    let leave = if options.from_watch { "back to watch" } else { "quit" };
    let mut last = None;
    let mut lines = lines.into_iter().peekable();
    let mut gap = "";
    while let Some(args) = lines.next() {
        let mut scene = Scene::new(program.clone(), &step.bin(), args);
        scene.signal = options.signal;
        scene.redacted = options.redacted;
        let title = format!("slow motion of {}: {}", whose(options), scene.command_line());
        let screen = if options.all { None } else { Screen::open(title, leave)? };
        let Some(screen) = screen else {
            print_all(&scene, gap)?;
            gap = "\n";
            continue;
        };
        let mut key = show(&scene, &screen)?;
        if key != Key::Quit && lines.peek().is_some() {
            key = screen.wait(&[("Enter", "next command line"), ("q", leave)])?;
        } else if key != Key::Quit && options.from_watch {
            key = screen.wait(&[("Enter", leave)])?;
        }
        last = Some(key);
        if key == Key::Quit {
            break;
        }
    }
    if last.is_some() && !options.from_watch {
        let [breaks, slow] = ["break", "slow"].map(|name| step.recipe(name));
        print_next(format!("{breaks} (or {slow} --all, for every frame at once)"))?;
    }
    Ok(())
}

/// Says whose program is shown, because a step has a finished one and a learner's.
fn whose(options: &Slow) -> String {
    match &options.bin {
        Some(_) if options.from_watch => format!("your work/{}", options.step.label()),
        Some(program) => program.display().to_string(),
        None => "the finished step".to_owned(),
    }
}

/// Prints each frame as soon as it's there.
fn print_all(scene: &Scene, gap: &str) -> Result {
    let mut film = Film::start(scene).map_err(explain)?;
    print(format!("{gap}$ {}\n", scene.command_line()))?;
    while let Some(mut frame) = film.next_frame()? {
        film.finish(&mut frame)?;
        print(format!("\n{}", text(&frame)))?;
    }
    print(format!("\n[{}]\n", film.status().unwrap_or("no exit status")))?;
    print_unsent(&film)
}

/// Says that a signal wasn't sent, because then nothing shows what it does.
fn print_unsent(film: &Film) -> Result {
    let Some(signal) = film.unsent() else { return Ok(()) };
    print(format!(
        "{signal} wasn't sent, because there was no moment when every process waited.\n\
         Use a command that waits, for example /bin/sleep 100.\n"
    ))
}

/// Shows each frame twice, before the call and after it. Returns the last key.
fn show(scene: &Scene, screen: &Screen) -> Result<Key> {
    let mut film = Film::start(scene).map_err(explain)?;
    let (mut key, mut printed) = (Key::Next, Vec::new());
    let waiting = "Waiting for the next call…  ";
    while key == Key::Next {
        let Some(next) = screen.while_running(waiting, |_| film.next_frame())? else {
            return end_early();
        };
        let Some(mut frame) = next else { break };
        if frame.result.is_none() {
            key = screen.ask(&frame)?;
        }
        if key == Key::Quit {
            break;
        }
        if screen.while_running(waiting, |_| film.finish(&mut frame))?.is_none() {
            return end_early();
        }
        if key == Key::Next {
            key = screen.ask(&frame)?;
        }
        printed.append(&mut frame.printed);
    }
    if key == Key::RunOn {
        screen.leave_frames()?;
        print(marked(&printed))?;
        let run = |below: &Below| -> Result {
            while let Some(mut frame) = film.next_frame()? {
                film.finish(&mut frame)?;
                below.print(&marked(&frame.printed))?;
            }
            Ok(())
        };
        if screen.while_running("", run)?.is_none() {
            return end_early();
        }
    } else {
        screen.close()?;
    }
    if let Some(status) = film.status() {
        print(format!("[{status}]\n"))?;
        print_unsent(&film)?;
    }
    Ok(key)
}

fn end_early() -> Result<Key> {
    print("[you ended it]\n")?;
    Ok(Key::Quit)
}

/// Marks what the step printed, and takes out what would move the cursor.
fn marked(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| line.replace(char::is_control, " "));
    lines.map(|line| format!("| {line}\n")).collect()
}
