//! The terminal's settings: each key arrives at once, and isn't shown.

use std::io::stdin;

use harness::{Context, Result};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, read, tcgetpgrp};

/// The settings as they were, which come back when this goes. `with_cleanup` brings them back, too, if this process
/// is killed.
#[derive(Debug)]
pub(super) struct Keyboard {
    before: Termios,
}

impl Keyboard {
    pub(super) fn new() -> Result<Self> {
        let keyboard = Keyboard { before: tcgetattr(stdin()).context("tcgetattr")? };
        keyboard.apply()?;
        Ok(keyboard)
    }

    /// Takes single keys. Ctrl-C and Ctrl-Z still send their signals.
    pub(super) fn apply(&self) -> Result {
        let mut settings = self.before.clone();
        settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(stdin(), SetArg::TCSADRAIN, &settings).context("tcsetattr")
    }

    /// Brings back the settings as they were. In the background, that would stop us (SIGTTOU).
    pub(super) fn release(&self) {
        if tcgetpgrp(stdin()) == Ok(getpgrp()) {
            let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.before);
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.release();
    }
}

/// Reads one key, or nothing if the terminal is gone.
pub(super) fn read_key() -> Option<u8> {
    let mut key = [0];
    // Not through std's buffer, because poll(2) doesn't see what is in there.
    (read(stdin(), &mut key) == Ok(1)).then_some(key[0])
}
