//! Stable names for numbers that differ from run to run.

/// Hands out `HOST_A` for the first number it is asked for, `HOST_B` for the second, and so on.
#[derive(Debug, Default)]
pub struct Placeholders(Vec<String>);

impl Placeholders {
    /// Whether the number has a name already.
    pub fn has(&self, number: &str) -> bool {
        self.0.iter().any(|known| known == number)
    }

    /// Returns the number's name, the same one every time.
    pub fn name(&mut self, number: &str) -> String {
        let known = self.0.iter().position(|known| known == number);
        let index = known.unwrap_or_else(|| {
            self.0.push(number.to_owned());
            self.0.len() - 1
        });
        let letter = char::from(b'A' + u8::try_from(index % 26).unwrap_or(0));
        if index < 26 { format!("HOST_{letter}") } else { format!("HOST_{letter}{}", index / 26) }
    }
}
