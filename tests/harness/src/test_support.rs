//! For tests only: assertions and skips, which panic as `assert!` does.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::exit::Exit;
use crate::program::Program;
use crate::requirement::Requirement;

impl Exit {
    /// Asserts that nothing is left behind. Panics if a process or a mount is.
    #[track_caller]
    pub fn assert_clean(&self) -> &Self {
        assert_eq!(self.leaked_processes, [""; 0], "processes are left");
        assert_eq!(self.mount_changes, [""; 0], "the mounts have changed");
        self
    }
}

/// Writes a program. A child does it: if this process had the file open for writing, so would whatever another
/// test starts at that moment, and exec would fail with ETXTBSY.
#[track_caller]
pub fn write_program(path: &Path, contents: impl AsRef<[u8]>, mode: u32) {
    let mut tee = Command::new("tee");
    let tee = tee.arg(path).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut tee = tee.spawn().expect("start tee");
    let mut input = tee.stdin.take().expect("a pipe");
    input.write_all(contents.as_ref()).expect("write to tee");
    drop(input);
    assert!(tee.wait().expect("wait for tee").success(), "tee {}", path.display());
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

impl Requirement {
    /// Returns whether this machine meets it. If it doesn't, the test is listed in the file COURSE_SKIPS.
    ///
    /// Panics if COURSE_REQUIRE asks for it, a list of names with commas between them.
    #[track_caller]
    pub fn is_met_or_skip(&self) -> bool {
        let Err(reason) = self.check() else { return true };
        let required = env::var("COURSE_REQUIRE").unwrap_or_default();
        let required = required.split(',').any(|name| name.trim() == self.to_string());
        assert!(!required, "COURSE_REQUIRE asks for {self}, which this machine lacks: {reason}");
        if let Some(path) = env::var_os("COURSE_SKIPS") {
            let thread = thread::current();
            let line = format!("{self}\t{reason}\t{}\n", thread.name().unwrap_or("a test"));
            let file = File::options().append(true).create(true).open(path);
            // One write, so that tests of several programs add whole lines.
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
        false
    }
}

/// Whether all these tools are installed. If not, the test is skipped.
#[track_caller]
pub fn require_tools(tools: &[&'static str]) -> bool {
    tools.iter().all(|tool| Requirement::Tool(tool).is_met_or_skip())
}

/// Returns the programs if these tools are installed. If not, the test is skipped.
#[track_caller]
pub fn with_tools(
    tools: &[&'static str],
    programs: impl IntoIterator<Item = Program>,
) -> impl Iterator<Item = Program> {
    require_tools(tools).then_some(programs).into_iter().flatten()
}

/// Returns the programs whose processes the test can look into. For the others, the test is skipped.
#[track_caller]
pub fn inspectable(programs: impl IntoIterator<Item = Program>) -> impl Iterator<Item = Program> {
    let can_look = |program: &Program| Requirement::Inspect(program.caller()).is_met_or_skip();
    programs.into_iter().filter(can_look)
}

/// Asserts that a text is as in its snapshot, with a header of three lines, because the book shows a snapshot from
/// its fourth line on.
#[macro_export]
macro_rules! assert_snapshot {
    ($name:expr, $text:expr $(,)?) => {{
        // Outside of the closure, so that the text may contain `?`.
        let (name, text) = ($name, $text);
        $crate::test_support::with_snapshot_settings(|| {
            $crate::test_support::insta::assert_snapshot!(name, text);
        });
    }};
}

/// The crate behind [`assert_snapshot`](crate::assert_snapshot).
pub use insta;

/// Runs assertions with the course's settings for [`insta`].
pub fn with_snapshot_settings(body: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(body);
}
