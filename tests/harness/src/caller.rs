//! The users that call a program.

/// The uid and gid of the ordinary user that root becomes for half of the tests. Not 65534, which a user
/// namespace shows for every ID that it doesn't map.
pub const UNPRIVILEGED_UID: u32 = 54321;

/// The user that calls a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A user with CAP_SYS_ADMIN.
    Root,
    /// A user without capabilities. If we are root, that's [`UNPRIVILEGED_UID`].
    Rootless,
}
