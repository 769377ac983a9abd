//! The one way to build a program: cargo builds it and names the executable.

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Read, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::error::{Context, Error, Result};

/// Prepares a call of cargo, the one that called us if there is one.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
}

/// A build of one program.
#[derive(Debug)]
#[must_use]
pub struct Build {
    cargo: Command,
    kind: &'static str,
    target: String,
    source_prefix: Option<String>,
    color: bool,
    warnings: bool,
}

impl Build {
    /// Builds the program `bin` of the package in `directory`, or of its workspace's `package`.
    pub fn bin(directory: &Path, package: Option<&str>, bin: &str) -> Self {
        Build::new(directory, package, "bin", bin)
    }

    /// Builds a package's tests instead.
    pub fn test(directory: &Path, package: &str, test: &str) -> Self {
        Build::new(directory, Some(package), "test", test)
    }

    fn new(directory: &Path, package: Option<&str>, kind: &'static str, target: &str) -> Self {
        let mut cargo = cargo();
        // Not only the target: `cargo build --bin` wouldn't build a package's dev-dependencies anyway.
        cargo.args(["build", &format!("--{kind}"), target]);
        if let Some(package) = package {
            cargo.args(["--package", package]);
        }
        cargo.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped());
        // A test of cargo's runs with variables that describe its own package.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") {
                cargo.env_remove(name);
            }
        }
        let target = target.to_owned();
        Build { cargo, kind, target, source_prefix: None, color: false, warnings: true }
    }

    /// Builds into another target directory.
    pub fn target_dir(mut self, directory: &Path) -> Self {
        self.cargo.arg("--target-dir").arg(directory);
        self
    }

    /// Shares what is built on the way with another target directory. Cargo does that from 1.91 on, and ignores it
    /// before.
    pub fn build_dir(mut self, directory: &Path) -> Self {
        self.cargo.arg(format!("--config=build.build-dir={:?}", directory.display().to_string()));
        self
    }

    /// Optimizes, as an installed program would be.
    pub fn release(mut self) -> Self {
        self.cargo.arg("--release");
        self
    }

    /// Puts `prefix` in front of the paths in the compiler's messages, so that they hold from elsewhere.
    pub fn source_prefix(mut self, prefix: String) -> Self {
        self.source_prefix = Some(prefix);
        self
    }

    /// Sets whether the compiler's messages have colors.
    pub fn color(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// Shows only errors. A broken step has unused imports, which would hide what the break is about.
    pub fn without_warnings(mut self) -> Self {
        self.warnings = false;
        self
    }

    /// Runs cargo, whose progress and messages appear on standard error. Returns the executable it names.
    ///
    /// # Errors
    /// Cargo isn't there, or the program doesn't compile.
    pub fn run(mut self) -> Result<PathBuf> {
        let mut child = self.start(!stderr().is_terminal())?;
        let output = child.stdout.take().ok_or_else(|| Error::new("cargo has no output"))?;
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        // Cargo's progress bar may be in the line where the message begins.
        let erase = if stderr().is_terminal() && !is_dumb { "\r\u{1b}[K" } else { "" };
        let executable = self.read(output, |_, message| {
            let _ = stderr().write_all(format!("{erase}{message}").as_bytes());
        })?;
        let status = child.wait().context("wait for cargo")?;
        let executable = executable.filter(|_| status.success());
        executable.ok_or_else(|| Error::new(format!("{} doesn't compile", self.target)))
    }

    /// Does the same, but prints nothing. Also returns how many messages the compiler has, which are warnings.
    ///
    /// # Errors
    /// As for [`Build::run`]. If the program doesn't compile, the message is what the compiler says, its errors first,
    /// or what cargo says if it doesn't come to that.
    pub fn run_quietly(mut self) -> Result<(PathBuf, usize)> {
        self.cargo.stderr(Stdio::piped());
        let output = self.start(true)?.wait_with_output().context("wait for cargo")?;
        let (mut errors, mut others, mut warnings) = (String::new(), String::new(), 0);
        let executable = self.read(&output.stdout[..], |level, message| {
            // The last message counts the others.
            warnings += usize::from(message.contains("-->"));
            match level {
                "error" => errors += &message,
                // It says how to read more about the errors, each of which has its code.
                "failure-note" => {}
                _ => others += &message,
            }
        })?;
        if errors.is_empty() {
            errors = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        let executable = executable.filter(|_| output.status.success());
        executable.map(|program| (program, warnings)).ok_or_else(|| Error::new(errors + &others))
    }

    fn start(&mut self, quiet: bool) -> Result<Child> {
        let format = if self.color { "json-diagnostic-rendered-ansi" } else { "json" };
        self.cargo.arg(format!("--message-format={format}")).args(quiet.then_some("--quiet"));
        match self.cargo.spawn() {
            // A shell that was started before Rust was installed doesn't find it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new("cargo isn't in PATH; add Rust's directory, usually ~/.cargo/bin"))
            }
            child => child.context("start cargo"),
        }
    }

    /// Reads cargo's JSON messages, each with its level. Returns the executable that one of them names as ours.
    fn read(
        &self,
        output: impl Read,
        mut show: impl FnMut(&str, String),
    ) -> Result<Option<PathBuf>> {
        let mut executable = None;
        for line in BufReader::new(output).lines() {
            let line = line.context("read from cargo")?;
            let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
            let level = message["message"]["level"].as_str().unwrap_or_default();
            let is_shown = self.warnings || level != "warning";
            if let Some(rendered) = message["message"]["rendered"].as_str().filter(|_| is_shown) {
                show(level, self.with_prefix(rendered));
            }
            let target = &message["target"];
            if target["name"] == self.target.as_str() && target["kind"][0] == self.kind {
                executable = message["executable"].as_str().map(PathBuf::from).or(executable);
            }
        }
        Ok(executable)
    }

    fn with_prefix(&self, rendered: &str) -> String {
        let mut text = rendered.to_owned();
        if let Some(prefix) = &self.source_prefix {
            // The path follows an arrow, and with colors an escape sequence stands between the two.
            for arrow in ["--> ", "--> \u{1b}[0m", "::: ", "::: \u{1b}[0m"] {
                text = text.replace(&format!("{arrow}src/"), &format!("{arrow}{prefix}/src/"));
            }
        }
        text
    }
}

/// Finds the workspace that holds `from`: the nearest directory above it with a `steps/` and a `tests/harness`.
///
/// # Errors
/// There is none.
pub fn workspace_root(from: &Path) -> Result<PathBuf> {
    let is_root = |path: &&Path| path.join("steps").is_dir() && path.join("tests/harness").is_dir();
    let root = from.ancestors().find(is_root).ok_or_else(|| {
        Error::new(format!("{} isn't in a checkout of the course: cd into one", from.display()))
    })?;
    Ok(root.to_owned())
}
