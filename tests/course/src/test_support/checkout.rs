//! A checkout in which a test can be the learner.

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Captured, Result, ScratchDir, Supervisor};

use super::environment;

use crate::sandbox::target_dir;

/// Prepares `course arg…` in a directory.
pub fn course(program: &str, directory: &Path, args: &[&str]) -> Supervisor {
    Supervisor::new(&environment(), Path::new(program), "course", args)
        .in_directory(directory)
        .env("CARGO", env!("CARGO"))
        .env("NO_COLOR", "1")
}

/// A checkout with two small steps, in a directory with an awkward name.
#[derive(Debug)]
pub struct Checkout {
    _scratch: ScratchDir,
    /// Its root.
    pub root: PathBuf,
    program: String,
}

/// Says something, and becomes the command.
pub const STEP: &str = r#"
use std::os::unix::process::CommandExt;
fn main() {
    eprintln!("said");
    let args: Vec<_> = std::env::args_os().skip(2).collect();
    match args.split_first() {
        Some((command, args)) => panic!("{}", std::process::Command::new(command).args(args).exec()),
        None => println!("version 1"),
    }
}
"#;

impl Checkout {
    /// Creates it for the tool at `program`.
    #[track_caller]
    pub fn new(program: &str) -> Self {
        let scratch = ScratchDir::new("checkout").expect("a directory");
        let root = scratch.path().join("it's a checkout");
        let checkout = Checkout { _scratch: scratch, root, program: program.to_owned() };
        checkout.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"steps/*\"]\n\
            [workspace.dependencies]\nclap = { path = \"../../empty/clap\" }\n\
            nix = { path = \"../../empty/nix\" }\n",
        );
        // For a started step, whose programs don't use them.
        for name in ["clap", "nix"] {
            let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n");
            checkout.write(&format!("empty/{name}/Cargo.toml"), &manifest);
            checkout.write(&format!("empty/{name}/src/lib.rs"), "");
        }
        // With this file, cargo knows rustc's version and defaults, and doesn't start rustc twice to ask.
        let known = ".rustc_info.json";
        if let Ok(ours) = target_dir()
            && let Ok(text) = fs::read_to_string(ours.join(known))
        {
            checkout.write(&format!("target/{known}"), &text);
        }
        // Built once, and never debugged.
        let config = "[build]\nincremental = false\n[profile.dev]\ndebug = false\n";
        checkout.write(".cargo/config.toml", config);
        checkout.write("tests/harness/Cargo.toml", "");
        checkout.write("steps/notes.md", "A note.\n");
        for step in ["01-one", "02-two"] {
            checkout.write(&format!("steps/{step}/Cargo.toml"), &manifest(step));
            let source = STEP.replace("said", &format!("said by {step}"));
            checkout.write(&format!("steps/{step}/src/main.rs"), &source);
        }
        checkout
    }

    /// Writes a file.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(path, text).expect("write a file");
    }

    /// Prepares `course arg…` in it.
    pub fn course(&self, args: &[&str]) -> Supervisor {
        course(&self.program, &self.root, args).env("CARGO_TARGET_DIR", self.root.join("target"))
    }

    /// Runs `course arg…` in it.
    ///
    /// # Errors
    /// It doesn't start, or doesn't exit in time.
    pub fn output(&self, args: &[&str]) -> Result<Captured> {
        self.course(args).output()
    }
}

/// Returns the manifest of a step without dependencies.
pub fn manifest(step: &str) -> String {
    format!(
        "[package]\nname = \"step-{step}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [[bin]]\nname = \"{step}\"\npath = \"src/main.rs\"\n"
    )
}
