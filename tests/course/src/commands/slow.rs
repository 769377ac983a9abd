//! The command that runs a step in slow motion.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use harness::Result;
use nix::sys::signal::Signal;

use crate::cleanup::{Containment, with_cleanup};
use crate::print::{print, print_next};
use crate::slow::screen::{Key, Screen};
use crate::slow::{Film, Frame, Scene, explain, text};
use crate::step::Step;
use crate::workspace::typed_path;

/// What `slow` is told.
#[derive(Args, Debug)]
pub struct Slow {
    /// Step to run: 02, 2, or 02-init-pid1
    pub step: Step,
    /// Arguments of the step itself [default: run /bin/true, and in step 04 a command with an orphan]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
    /// Print every frame, and don't wait for keys
    #[arg(long)]
    pub all: bool,
    /// Send this signal to the step as soon as every process waits
    #[arg(long, value_parser = parse_signal)]
    pub signal: Option<Signal>,
    /// Show this program instead of building the step. For your own step, press `s` in `watch`
    #[arg(long, value_name = "PROGRAM")]
    pub bin: Option<PathBuf>,
    /// Print HOST_A, HOST_B, ... instead of the host's PIDs
    #[arg(long)]
    pub redacted: bool,
    /// Wait for a key at the end, before `watch` clears the screen
    #[arg(long, hide = true)]
    pub from_watch: bool,
}

fn parse_signal(word: &str) -> std::result::Result<Signal, String> {
    let name = word.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().map_err(|_| "there is no such signal; name one as in TERM or SIGTERM".to_owned())
}

/// Runs a step in slow motion: frame by frame at a terminal, in one go elsewhere.
///
/// # Errors
/// It doesn't build, or can't be started under ptrace(2).
pub fn slow(options: &Slow) -> Result<ExitCode> {
    super::run::explain(&options.step, &options.args, "slow")?;
    with_cleanup(Containment::None, || play(options))
}

fn play(options: &Slow) -> Result {
    let step = &options.step;
    let program = match &options.bin {
        Some(program) => super::work::executable(&typed_path(program))?,
        None => step.build()?,
    };
    let mut lines = vec![options.args.clone()];
    if options.args.is_empty() {
        let scenes = step.scenes().iter();
        lines = scenes.map(|words| words.iter().map(OsString::from).collect()).collect();
    }
    let mut last = None;
    for (index, args) in lines.into_iter().enumerate() {
        if last == Some(Key::Quit) {
            break;
        }
        let mut scene = Scene::new(program.clone(), &step.bin(), args);
        scene.signal = options.signal;
        scene.redacted = options.redacted;
        let screen = if options.all { None } else { Screen::open(scene.command_line())? };
        match screen {
            Some(screen) => last = Some(show(&scene, &screen)?),
            None => print_all(&scene, if index == 0 { "" } else { "\n" })?,
        }
    }
    match last {
        Some(Key::Quit) if options.from_watch => {}
        Some(_) if options.from_watch => {
            print("[Enter] back ")?;
            if let Some(screen) = Screen::open(String::new())? {
                screen.wait_for_enter();
            }
        }
        Some(_) => {
            let [breaks, slow] = ["break", "slow"].map(|name| step.recipe(name));
            print_next(format!("{breaks} (or {slow} --all, for every frame at once)"))?;
        }
        None => {}
    }
    Ok(())
}

/// Prints each frame as soon as it's there.
fn print_all(scene: &Scene, gap: &str) -> Result {
    let mut film = Film::start(scene).map_err(explain)?;
    print(format!("{gap}$ {}\n", scene.command_line()))?;
    while let Some(mut frame) = film.next_frame()? {
        film.finish(&mut frame)?;
        print(format!("\n{}", text(&frame)))?;
    }
    print(format!("\n[{}]\n", film.status().unwrap_or("no exit status")))
}

/// Shows each frame twice, before the call and after it. Returns the last key.
fn show(scene: &Scene, screen: &Screen) -> Result<Key> {
    let mut film = Film::start(scene).map_err(explain)?;
    let mut key = Key::Next;
    while let Some(mut frame) = film.next_frame()? {
        if key == Key::Next && frame.result.is_none() {
            key = ask(screen, &frame)?;
        }
        if key == Key::Quit {
            break;
        }
        film.finish(&mut frame)?;
        if key == Key::Next {
            key = ask(screen, &frame)?;
        } else {
            print(frame.printed.iter().map(|line| format!("| {line}\n")).collect::<String>())?;
        }
        if key == Key::Quit {
            break;
        }
    }
    if key != Key::RunOn {
        screen.close()?;
    }
    if let Some(status) = film.status() {
        print(format!("[{status}]\n"))?;
    }
    Ok(key)
}

fn ask(screen: &Screen, frame: &Frame) -> Result<Key> {
    let key = screen.ask(frame)?;
    if key == Key::RunOn {
        screen.close()?;
        print("The step keeps running. Press Ctrl-C to end it.\n")?;
    }
    Ok(key)
}
