//! Step 06.
