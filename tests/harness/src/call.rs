//! The calls that a machine may refuse, as a type, so that nothing has to look for them in a message.

use std::fmt::{self, Display, Formatter};
use std::io;

use nix::errno::Errno;

use crate::error::Error;

/// Defines the calls, each with its text.
macro_rules! calls {
    ($($name:ident => $text:literal;)*) => {
        /// A call that the kernel may refuse.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the text beside each says the same")]
        pub enum Call { $($name),* }

        impl Call {
            const ALL: &[Call] = &[$(Call::$name),*];

            fn text(self) -> &'static str {
                match self { $(Call::$name => $text),* }
            }
        }
    };
}

calls! {
    UnshareNothing => "unshare(0)";
    UnsharePid => "unshare(CLONE_NEWPID)";
    UnshareUser => "unshare(CLONE_NEWUSER|CLONE_NEWPID)";
    UnshareMount => "unshare(CLONE_NEWNS)";
    UnshareTime => "unshare(CLONE_NEWTIME)";
    WriteSetgroups => "write(/proc/self/setgroups)";
    WriteUidMap => "write(/proc/self/uid_map)";
    WriteGidMap => "write(/proc/self/gid_map)";
    WriteTimensOffsets => "write(/proc/self/timens_offsets)";
    MountPrivate => "mount(/, MS_REC|MS_PRIVATE)";
    MountProc => "mount(proc, /proc)";
    MountNullOverUptime => "mount(/dev/null, /proc/uptime, MS_BIND)";
    MountTmpfs => "mount(tmpfs, /proc/fs)";
    MountBind => "mount(/proc/bus, /proc/bus, MS_BIND)";
    MountReadOnly => "mount(/proc/bus, MS_BIND|MS_REMOUNT|MS_RDONLY)";
    Spawn => "start /proc/self/exe";
}

impl Call {
    /// Whether it's unshare(2).
    pub fn is_unshare(self) -> bool {
        self.text().starts_with("unshare(")
    }

    /// Whether it's mount(2).
    pub fn is_mount(self) -> bool {
        self.text().starts_with("mount(")
    }

    /// Whether it writes a file of /proc.
    pub fn is_write(self) -> bool {
        self.text().starts_with("write(")
    }

    /// For `map_err`: this call failed.
    pub(crate) fn failed<E: Into<io::Error>>(self) -> impl FnOnce(E) -> CallError {
        move |error| {
            let errno = error.into().raw_os_error().unwrap_or_default();
            CallError { call: self, errno: Errno::from_raw(errno) }
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The result of a call that the kernel may refuse.
pub type CallResult<T = ()> = Result<T, CallError>;

/// A call that was refused, and the kernel's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The call.
    pub call: Call,
    /// The reason.
    pub errno: Errno,
}

impl CallError {
    /// Writes it for another process to read.
    pub(crate) fn encode(self) -> String {
        format!("{}\t{}", self.call, self.errno as i32)
    }

    /// Reads what [`CallError::encode`] wrote.
    pub(crate) fn decode(line: &str) -> Option<Self> {
        let (text, errno) = line.split_once('\t')?;
        let call = *Call::ALL.iter().find(|call| call.text() == text)?;
        Some(CallError { call, errno: Errno::from_raw(errno.trim().parse().ok()?) })
    }
}

impl Display for CallError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:?})", self.call, self.errno.desc(), self.errno)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        Error::Call { call: error.call.to_string(), source: error.errno.into() }
    }
}
