//! Step 07.
