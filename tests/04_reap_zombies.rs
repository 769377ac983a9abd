//! Step 04.
