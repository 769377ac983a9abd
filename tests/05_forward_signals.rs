//! Step 05.
