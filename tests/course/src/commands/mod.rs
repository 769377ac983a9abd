//! The learner's commands, one function each.

mod breaks;
mod check;
mod hint;
mod look;
mod run;
mod slow;
mod start;
mod tests;
mod work;

pub use breaks::{break_step, test_breaks};
pub use check::{Check, check};
pub use hint::{Hint, hint};
pub use look::{diff, doctor, list, memory, tree};
pub use run::{Soak, run, soak, trace};
pub use slow::{Slow, slow};
pub use start::{Start, start};
pub use tests::{summary, test};
pub use work::{progress, solution, watch, work};
