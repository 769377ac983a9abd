//! Fixes for each cause of a refusal. They depend on the place that we run in. `tried` says whether we saw one work.

use nix::unistd::geteuid;

use super::facts::{Facts, Place};

pub(super) const SYSCTL: &str = "Programs of every user can then reach parts of the kernel that only root could \
    reach before, and attackers have used flaws in those parts to become root. The setting lasts until the next boot, \
    unless you also write it to a file in /etc/sysctl.d.";
const ENGINE: &str = "Programs in such a container can reach more of the host's kernel. Use these options only for the \
    course, never with code you don't trust. A virtual machine doesn't need these options.";
const SANDBOX: &str =
    "Programs in that shell can do everything that you can. Use it only for the course.";
pub(super) const RULE: &str = "Only the program that the rule names can then make the call.";
pub(super) const HARMLESS: &str = "Nothing changes for other users.";
pub(super) const OTHER_KERNEL: &str =
    "Use the kernel of a common distribution, 5.6 or later, for example in a virtual machine.";

const DOCKER: &str = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
    --security-opt apparmor=unconfined IMAGE";
const PODMAN: &str = "podman run --security-opt unmask=ALL IMAGE";
/// Podman takes the same line, and needs less.
const ENGINES: &str = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
    --security-opt apparmor=unconfined IMAGE; rootless Podman: podman run --security-opt unmask=ALL IMAGE";
const BWRAP: &str = "bwrap --bind / / --dev-bind /dev /dev bash";

/// Why something doesn't work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The reason.
    pub(super) why: String,
    /// The command or setting that changes it.
    pub(super) fix: String,
    /// Says which programs can then do what.
    pub(super) risk: &'static str,
    /// Whether the course's authors saw the fix work. The report says so if they didn't.
    pub(super) tried: bool,
}

impl Cause {
    /// Creates one whose fix was tried. Root needs no sudo, and in a container there is none.
    pub(super) fn new(why: impl Into<String>, fix: &str, risk: &'static str) -> Self {
        let fix = if geteuid().is_root() { fix.replace("sudo ", "") } else { fix.to_owned() };
        Cause { why: why.into(), fix, risk, tried: true }
    }

    /// Says that the fix is untested.
    pub(super) fn not_tried(self) -> Self {
        Cause { tried: false, ..self }
    }
}

/// Returns the cause if nothing else fits.
pub(super) fn unknown() -> Cause {
    Cause::new(
        "This program doesn't know the cause.",
        "Open an issue, and paste this whole report into it.",
        "The report doesn't name you or your machine.",
    )
}

/// For a call that something around us refuses.
pub(super) fn allow(facts: &Facts, why: impl Into<String>) -> Cause {
    match facts.place {
        Place::Container(kind) => engine(kind, why),
        Place::Service => {
            let fix = if geteuid().is_root() {
                "systemd-run --pty bash"
            } else {
                "XDG_RUNTIME_DIR=/run/user/$(id -u) systemd-run --user --pty bash"
            };
            let risk = "Programs in that shell can do what you can do after you log in.";
            Cause::new(why, fix, risk)
        }
        Place::Sandbox => sandbox(why),
        Place::Host => {
            let fix =
                "Start a shell without that filter. There, grep Seccomp: /proc/self/status shows 0";
            Cause::new(why, fix, HARMLESS).not_tried()
        }
    }
}

/// For what a sandbox leaves out.
pub(super) fn sandbox(why: impl Into<String>) -> Cause {
    let fix =
        format!("Start the shell outside the sandbox. In bubblewrap, start it like this: {BWRAP}");
    Cause::new(why, &fix, SANDBOX)
}

fn engine(kind: &str, why: impl Into<String>) -> Cause {
    match kind {
        "Docker's" => Cause::new(why, DOCKER, ENGINE),
        "Podman's" => Cause::new(why, PODMAN, ENGINE),
        "one of Kubernetes" => {
            let fix = "Add to the pod's securityContext: procMount: Unmasked; seccompProfile: {type: Unconfined}; \
                appArmorProfile: {type: Unconfined}";
            Cause::new(why, fix, ENGINE).not_tried()
        }
        "LXC's" | "systemd-nspawn's" | "OpenVZ's" => {
            Cause::new(why, "Use a virtual machine instead of this container.", HARMLESS)
        }
        _ => Cause::new(why, ENGINES, ENGINE),
    }
}

/// For a /proc that is covered in part.
pub(super) fn uncovered_proc(facts: &Facts, why: impl Into<String>) -> Cause {
    match facts.place {
        Place::Container(kind) => engine(kind, why),
        // A user namespace inside a container looks the same.
        Place::Sandbox => Cause::new(why, ENGINES, ENGINE),
        Place::Service => allow(facts, why),
        Place::Host => {
            let umount: Vec<_> =
                facts.covered().iter().map(|path| format!("sudo umount {path}")).collect();
            let risk = "Programs of every user can then reach the files that were covered.";
            Cause::new(why, &umount.join("; "), risk)
        }
    }
}

/// For a /proc that can't be written.
pub(super) fn writable_proc(facts: &Facts, why: &str) -> Cause {
    match facts.place {
        Place::Host => {
            let risk =
                "Programs can then write to files in /proc, if their user may write to them.";
            Cause::new(why, "sudo mount -o remount,bind,rw /proc", risk)
        }
        _ => allow(facts, why),
    }
}

/// For a profile of AppArmor, which isn't an engine's.
pub(super) fn apparmor(profile: &str) -> Cause {
    let why = format!("The AppArmor profile {profile} confines this process and forbids the call.");
    let fix = "sudo dmesg | grep apparmor.*DENIED  # names the rule to add to the profile";
    Cause::new(why, fix, RULE)
}

/// For a refusal that may come from a chroot or a security module.
pub(super) fn leave(facts: &Facts, why: String) -> Cause {
    if facts.place != Place::Host {
        return allow(facts, why);
    }
    let fix = "exit  # from the chroot; for a security module: sudo dmesg | grep -E 'apparmor|avc'";
    Cause::new(why, fix, HARMLESS).not_tried()
}

/// For root without the capabilities to become root of a user namespace.
pub(super) fn other_user(facts: &Facts, why: &str) -> Cause {
    let Place::Container(kind) = facts.place else {
        let fix = "setpriv --reuid 1000 --regid 1000 --clear-groups bash";
        return Cause::new(why, fix, HARMLESS);
    };
    let engine = if kind == "Podman's" { PODMAN } else { DOCKER };
    Cause::new(why, &engine.replace("run", "run --user 1000"), ENGINE)
}
