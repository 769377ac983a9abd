//! Single keys: each arrives at once, and isn't shown.

use std::io::stdin;

use harness::{Context, Result};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, read, tcgetpgrp};

/// Ctrl-C as a key, which it is if it sends no signal.
pub const CTRL_C: u8 = 3;
/// Ctrl-D as a key. Among single keys, it isn't end-of-file.
pub const CTRL_D: u8 = 4;

/// The terminal's settings as they were, which come back when this goes. `with_cleanup` brings them back, too, if this
/// process is killed.
#[derive(Debug)]
pub struct Keyboard {
    before: Termios,
    ctrl_z: bool,
}

impl Keyboard {
    /// Takes single keys from now on. Ctrl-C still sends its signal, and so does Ctrl-Z if `ctrl_z` is set.
    ///
    /// # Errors
    /// Standard input isn't a terminal.
    pub fn new(ctrl_z: bool) -> Result<Self> {
        let keyboard = Keyboard { before: tcgetattr(stdin()).context("tcgetattr")?, ctrl_z };
        keyboard.apply()?;
        Ok(keyboard)
    }

    /// Takes single keys again.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn apply(&self) -> Result {
        self.apply_with(true, self.ctrl_z)
    }

    /// Leaves the keyboard to a program that we start. Ctrl-C and Ctrl-Z are keys for it, because their signals would
    /// also go to us, and to every process between us and the shell.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn lend(&self) -> Result {
        self.apply_with(false, false)
    }

    fn apply_with(&self, ctrl_c: bool, ctrl_z: bool) -> Result {
        let mut settings = self.before.clone();
        settings.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        if !ctrl_c {
            settings.control_chars[SpecialCharacterIndices::VINTR as usize] = 0;
        }
        if !ctrl_z {
            settings.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
        }
        tcsetattr(stdin(), SetArg::TCSADRAIN, &settings).context("tcsetattr")
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// Brings back settings of the terminal. In the background, that would stop us (SIGTTOU).
pub fn restore(settings: &Termios) {
    if tcgetpgrp(stdin()) == Ok(getpgrp()) {
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, settings);
    }
}

/// Reads one key, or nothing if the terminal is gone.
pub fn read_key() -> Option<u8> {
    let mut key = [0];
    // Not through std's buffer, because poll(2) doesn't see what is in there.
    (read(stdin(), &mut key) == Ok(1)).then_some(key[0])
}
