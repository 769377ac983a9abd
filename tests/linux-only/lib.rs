//! Stops a build on macOS or Windows with one error that names the way in.
//!
//! The other packages depend on this one only where the system isn't Linux. Cargo builds it
//! before them, so this error comes first and the hundred that would follow don't come at all.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "this course runs on Linux only, because namespaces are part of the Linux kernel. \
     Use a dev container, Docker, Podman, Lima or WSL2: see `macOS and Windows` in book/src/set-up.md"
);
