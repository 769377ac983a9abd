//! The learner's commands, one function each.

mod breaks;
mod look;
mod run;
mod slow;
mod tests;
mod work;

pub use breaks::{break_step, test_breaks};
pub use look::{diff, doctor, list, memory, tree};
pub use run::{Soak, run, soak, trace};
pub use slow::{Slow, slow};
pub use tests::{summary, test};
pub use work::{Check, check, hint, progress, solution, start, work};
