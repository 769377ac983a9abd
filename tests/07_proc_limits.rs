//! Step 07: what /proc still shows of the host, and what a container's init can do about it: give the container its
//! own uptime, and mask or protect what no namespace covers.

use std::fmt::Write;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Instant;

use assert_cmd::cargo::cargo_bin;
use course::test_support::{
    assert_checks_pass, program, programs_for_each_caller, shell_diagram, step_program,
};
use harness::test_support::{inspectable, require_tools, with_tools};
use harness::{
    Caller, Program, Result, Session, Supervisor, Transcript, assert_snapshot, helper_path,
};

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("07-proc-limits"))
}

/// Another step, with the same caller.
fn step(number: u32, caller: Caller) -> Program {
    program(step_program(number), caller)
}

/// The words that make a caller root, so that unshare(1) may create the other namespaces.
fn as_root(program: &Program) -> &'static [&'static str] {
    if program.caller() == Caller::Root { &[] } else { &["--user", "--map-root-user"] }
}

/// A shell in the container.
fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

/// Types lines into a shell in the container, and returns what a reader sees.
fn typed(program: &Program, lines: &[&str]) -> Result<Transcript> {
    let (transcript, exit) = Transcript::type_lines(shell(program), lines)?;
    exit.assert_clean();
    Ok(transcript)
}

const RUN_PID: [&str; 1] = [r"run PID: (\d+)"];

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("07-proc-limits"));
}

// The table: which files in /proc are the container's own?

/// Both sides of a container: a shell on a scratch host, whose network, name, and mounts can change without harm,
/// and a shell in a container that was started there.
struct Sides {
    host: Session,
}

impl Sides {
    /// `container` is a command line that ends up in a shell.
    fn start(program: &Program, container: &str) -> Result<Self> {
        let args = [as_root(program), &["--net", "--uts", "--mount", "sh"]].concat();
        let mut host = Session::start(program.environment().supervise("unshare", args))?;
        host.run("mkfifo questions answers")?;
        host.send(&format!("{container} <questions >answers 2>/dev/null &\n"))?;
        host.run("exec 3>questions 4<answers")?;
        // Prints the answer of the shell inside, which ends with a line that has only a dot.
        host.run(
            "inside() { echo \"$1\" >&3; echo 'echo .' >&3; \
             while IFS= read -r line <&4 && [ \"$line\" != . ]; do echo \"$line\"; done; }",
        )?;
        let mut sides = Sides { host };
        assert_eq!(sides.inside("echo ready")?, "ready", "{container}");
        Ok(sides)
    }

    fn host(&mut self, line: &str) -> Result<String> {
        self.host.run(line)
    }

    fn inside(&mut self, line: &str) -> Result<String> {
        self.host.run(&format!("inside '{line}'"))
    }

    fn host_number(&mut self, line: &str) -> Result<i64> {
        Ok(self.host(line)?.parse().expect("a number"))
    }

    /// Asks both sides the same question until they agree, because the machine may change in between.
    fn agree(&mut self, line: &str) -> Result<bool> {
        for _ in 0..50 {
            let before = self.host(line)?;
            if before == self.inside(line)? && !before.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks inside, and returns the host's numbers just before and after. PIDs start again at the end of their
    /// range, and then it asks once more.
    fn between(&mut self, host: &str, inside: &str) -> Result<(RangeInclusive<i64>, String)> {
        loop {
            let before = self.host_number(host)?;
            let answer = self.inside(inside)?;
            let after = self.host_number(host)?;
            if before <= after {
                return Ok((before..=after, answer));
            }
        }
    }

    /// Whether a number inside lies between two numbers of the host.
    fn is_hosts_number(&mut self, host: &str, inside: &str) -> Result<bool> {
        let (numbers, answer) = self.between(host, inside)?;
        Ok(numbers.contains(&answer.parse().expect("a number")))
    }

    fn end(self) -> Result {
        self.host.end()?.0.assert_clean();
        Ok(())
    }
}

/// The PID of a new process on the host.
const NEXT_PID: &str = "sh -c 'echo $$'";

const OWN: &str = "the container's own";
const HOSTS: &str = "the host's";
const READ_ONLY: &str = "the host's, read-only";
const MASKED: &str = "masked";

fn own_unless(hosts: bool) -> &'static str {
    if hosts { HOSTS } else { OWN }
}

/// Finds out whose a file is: changes something on one side, and looks on the other. `None`: this kernel has no
/// such file.
fn whose(sides: &mut Sides, path: &str) -> Result<Option<&'static str>> {
    if path.starts_with('/') && sides.host(&format!("test -e {path}; echo $?"))? != "0" {
        return Ok(None);
    }
    // The mount table shows a mask, and opening the file tells it from a path that is only read-only.
    let mounted = sides.inside(&format!("grep -c \" {path} \" /proc/self/mounts"))?;
    if path.starts_with('/') && mounted == "1" {
        let opened = sides.inside(&format!("true 2>/dev/null >{path}; echo $?"))?;
        return Ok(Some(if opened == "0" { MASKED } else { READ_ONLY }));
    }
    Ok(Some(match path {
        // Is a process on the host listed inside?
        "processes" => {
            let pid = sides.host("sleep 1000 & echo $!")?;
            // Until its exec, it is a copy of the shell.
            sides.host(&format!("until [ \"$(cat /proc/{pid}/comm)\" = sleep ]; do :; done"))?;
            let name = sides.inside(&format!("cat /proc/{pid}/comm"))?;
            sides.host(&format!("kill {pid}"))?;
            own_unless(name == "sleep")
        }
        // Does `self` lead to the PID that a process has inside, and not to its PID on the host?
        "/proc/self" => {
            let question = "sh -c \"echo \\$\\$; exec readlink /proc/self\"";
            let (hosts, answer) = sides.between(NEXT_PID, question)?;
            let numbers: Vec<i64> = answer.lines().filter_map(|line| line.parse().ok()).collect();
            let [pid, link] = numbers[..] else { panic!("not two numbers: {answer}") };
            own_unless(pid != link || hosts.contains(&pid))
        }
        // Does the host see a mount that was made inside?
        "/proc/mounts" => {
            sides.inside("mount -t tmpfs scratch /mnt")?;
            assert_eq!(sides.inside("grep -c \"^scratch /mnt \" /proc/mounts")?, "1");
            own_unless(sides.host("grep -c '^scratch /mnt ' /proc/mounts")? == "1")
        }
        // Do the counters move inside when the host sends a packet through its loopback interface?
        "/proc/net/dev" => {
            let before = sides.inside("cat /proc/net/dev")?;
            sides.host("ip link set lo up; bash -c 'echo words >/dev/udp/127.0.0.1/9'")?;
            let moved = sides.inside("cat /proc/net/dev")? != before;
            own_unless(moved && sides.agree("cat /proc/net/dev")?)
        }
        // Is the host's new name seen inside?
        "/proc/sys/kernel/hostname" => {
            sides.host("hostname renamed")?;
            let seen = sides.inside("cat /proc/sys/kernel/hostname")? == "renamed";
            let open = sides
                .inside("tee /proc/sys/kernel/hostname 2>&1 </dev/null | grep -c Read-only")?;
            if seen && open == "1" { READ_ONLY } else { own_unless(seen) }
        }
        // Is the load, or the number of processes, the same on both sides?
        "/proc/loadavg" => own_unless(sides.agree("cut -d\" \" -f1-3 /proc/loadavg")?),
        // On which side does a new process count?
        "loadavg, last field" => {
            own_unless(sides.is_hosts_number(NEXT_PID, "cut -d\" \" -f5 /proc/loadavg")?)
        }
        "/proc/sys/kernel/ns_last_pid" => {
            own_unless(sides.is_hosts_number(NEXT_PID, "cat /proc/sys/kernel/ns_last_pid")?)
        }
        // Is it as late inside as it is on the host?
        "/proc/uptime" => {
            let seconds = "cut -d. -f1 /proc/uptime";
            own_unless(sides.is_hosts_number(seconds, seconds)?)
        }
        "uptime, second field" => {
            own_unless(sides.agree("cut -d\" \" -f2 /proc/uptime | cut -d. -f1")?)
        }
        // A second more or less is rounding.
        "stat, btime" => {
            let line = "sed -n \"s/^btime //p\" /proc/stat";
            let host = sides.host_number(line)?;
            let inside: i64 = sides.inside(line)?.parse().expect("a number");
            own_unless((host - inside).abs() <= 1)
        }
        "/proc/meminfo" => own_unless(sides.agree("grep ^MemTotal /proc/meminfo")?),
        "/proc/cpuinfo" => own_unless(sides.agree("grep -c ^processor /proc/cpuinfo")?),
        // If the host is only in the root cgroup, the text is the same in every cgroup namespace.
        "/proc/self/cgroup" => {
            own_unless(sides.agree("readlink /proc/self/ns/cgroup; cat /proc/self/cgroup")?)
        }
        "/proc/kcore" => own_unless(sides.agree("stat -c %s /proc/kcore")?),
        "/proc/sysrq-trigger" => own_unless(sides.agree("stat -c %A /proc/sysrq-trigger")?),
        // The keys that the reader may see.
        "/proc/keys" => own_unless(sides.agree("wc -l </proc/keys")?),
        "/proc/version" | "/proc/cmdline" => own_unless(sides.agree(&format!("cat {path}"))?),
        _ => unreachable!("no way to find out about {path}"),
    }))
}

/// The files. If a kernel lacks one, its row shows these cells: after step 06, the namespace, after step 07.
const FILES: [(&str, [&str; 3]); 19] = [
    ("processes", [OWN, "PID + mount", OWN]),
    ("/proc/self", [OWN, "PID + mount", OWN]),
    ("/proc/mounts", [OWN, "mount", OWN]),
    ("/proc/net/dev", [HOSTS, "net", HOSTS]),
    ("/proc/sys/kernel/hostname", [HOSTS, "UTS", READ_ONLY]),
    ("/proc/loadavg", [HOSTS, "-", HOSTS]),
    ("loadavg, last field", [OWN, "PID", OWN]),
    ("/proc/sys/kernel/ns_last_pid", [OWN, "PID", OWN]),
    ("/proc/uptime", [HOSTS, "time", OWN]),
    ("uptime, second field", [HOSTS, "-", HOSTS]),
    ("stat, btime", [HOSTS, "time", OWN]),
    ("/proc/meminfo", [HOSTS, "-", HOSTS]),
    ("/proc/cpuinfo", [HOSTS, "-", HOSTS]),
    ("/proc/version", [HOSTS, "-", HOSTS]),
    ("/proc/cmdline", [HOSTS, "-", HOSTS]),
    ("/proc/self/cgroup", [HOSTS, "cgroup", HOSTS]),
    ("/proc/sysrq-trigger", [HOSTS, "-", READ_ONLY]),
    ("/proc/kcore", [HOSTS, "-", MASKED]),
    ("/proc/keys", [HOSTS, "-", MASKED]),
];

/// One namespace at a time, and PID with mount so that a new /proc can be mounted.
const NAMESPACES: [(&str, &str); 7] = [
    ("PID", "unshare --pid --fork --kill-child sh"),
    ("mount", "unshare --mount sh"),
    ("PID + mount", "unshare --pid --fork --kill-child --mount-proc sh"),
    ("UTS", "unshare --uts sh"),
    ("net", "unshare --net sh"),
    ("cgroup", "unshare --cgroup sh"),
    ("time", "unshare --time --boottime -$(cut -d. -f1 /proc/uptime) --fork --kill-child sh"),
];

fn column(program: &Program, container: &str) -> Result<Vec<Option<&'static str>>> {
    let mut sides = Sides::start(program, container)?;
    let verdicts = FILES.iter().map(|(path, _)| whose(&mut sides, path)).collect::<Result<_>>()?;
    sides.end()?;
    Ok(verdicts)
}

/// Every cell is an experiment (`whose`). The namespace is the first one that, created alone by unshare(1), makes
/// the file the container's own.
#[test]
fn table_shows_whose_each_file_is() -> Result {
    if !require_tools(&["unshare", "ip", "bash", "hostname"]) {
        return Ok(());
    }
    // Both callers at the same time, because this test takes longest.
    thread::scope(|scope| {
        let tables: Vec<_> =
            programs().into_iter().map(|program| scope.spawn(move || table(&program))).collect();
        for table in tables {
            let table = table.join().expect("a table")?;
            assert_snapshot!("table", table);
        }
        Ok(())
    })
}

fn table(program: &Program) -> Result<String> {
    let before = step(6, program.caller());
    let after_06 = column(&before, &format!("{} run --ti sh", before.path().display()))?;
    let after_07 = column(program, &format!("{} run --ti sh", program.path().display()))?;
    let mut alone = Vec::new();
    for (name, container) in NAMESPACES {
        alone.push((name, column(program, container)?));
    }
    let mut table = format!("{:<30}{:<22}{:<14}after step 07\n", "", "after step 06", "namespace");
    for (row, (path, documented)) in FILES.iter().enumerate() {
        let cells = match (after_06[row], after_07[row]) {
            (Some(before), Some(after)) => {
                let makes_own = |(_, column): &&(_, Vec<_>)| column[row] == Some(OWN);
                let namespace = alone.iter().find(makes_own).map_or("-", |(name, _)| name);
                [before, namespace, after]
            }
            _ => *documented,
        };
        assert_eq!(cells, *documented, "{path}");
        let [before, namespace, after] = cells;
        let _ = writeln!(table, "{path:<30}{before:<22}{namespace:<14}{after}");
    }
    Ok(table)
}

// The clock.

/// A shell on a host that has been up for 41 days: a time namespace, whatever the real host's uptime is. So a
/// container that shows the host's uptime can't look new by accident.
fn on_old_host(program: &Program) -> Supervisor {
    let number = |file: &str, before: &str| -> i64 {
        let text = fs::read_to_string(file).expect(file);
        let line = text.lines().find_map(|line| line.strip_prefix(before)).unwrap_or("0");
        let seconds = line.trim_start().split([' ', '.']).next().and_then(|text| text.parse().ok());
        seconds.expect("a number")
    };
    // If we are in a time namespace, its offset is part of our uptime.
    let ours = number("/proc/self/timens_offsets", "boottime");
    let uptime = number("/proc/uptime", "") - ours;
    // And a few hours: versions of uptime(1) differ in what they print for 0 minutes.
    let wanted = ((41 * 24 + 3) * 60 + 20) * 60 + 1;
    let offset = format!("--boottime={}", wanted - uptime);
    let unshare = [&["unshare"], as_root(program), &["--time", &offset, "--fork", "--kill-child"]];
    program.environment().supervise::<&str>("sh", []).wrapped_by(&unshare.concat())
}

/// Step 06 shows the host's uptime, and this step doesn't.
#[test]
fn uptime_starts_at_zero() -> Result {
    for program in with_tools(&["unshare", "uptime"], programs()) {
        let before = step(6, program.caller());
        let lines = ["uptime --pretty", "06-job-control run uptime --pretty"];
        let (shown, exit) = Transcript::type_lines(on_old_host(&before), &lines)?;
        exit.assert_clean();
        let (hosts, container) = (shown.text.lines().nth(1), shown.text.lines().last());
        assert_eq!(hosts, container, "{}", shown.text);
        let shown = shown.redacted(&RUN_PID)?;
        assert_snapshot!("uptime_before", shown);

        let lines = ["uptime --pretty", "07-proc-limits run uptime --pretty"];
        let (shown, exit) = Transcript::type_lines(on_old_host(&program), &lines)?;
        exit.assert_clean();
        let shown = shown.redacted(&RUN_PID)?;
        assert_snapshot!("uptime", shown);
    }
    Ok(())
}

/// The caller is in a time namespace whose clock is three years and nearly a second ahead. The container's offset
/// counts from the host's clock, and replaces the caller's offset.
#[test]
fn uptime_starts_at_zero_in_any_time_namespace() -> Result {
    let helper = helper_path()?;
    for program in programs() {
        let helper = Program::new(&helper, program.caller())?;
        let name = program.name();
        let shifted = format!("{} as shift-boottime --", helper.path().display());
        let line = format!("{shifted} {name} run cut -d. -f1 /proc/uptime 2>/dev/null");
        let start = Instant::now();
        let shown = Transcript::run(program.environment().supervise("sh", ["-c", &line]))?;
        // The host's clock can be any fraction of a second ahead.
        let limit = start.elapsed().as_secs() + 1;
        let uptime: Option<u64> = shown.printed.trim().parse().ok();
        assert!(uptime.is_some_and(|uptime| uptime <= limit), "{}", shown.text);
    }
    Ok(())
}

/// An offset can't be changed once a process is in the namespace.
#[test]
fn offset_is_fixed_for_init_and_command() -> Result {
    for program in programs() {
        let line = "echo boottime 0 0 | tee /proc/self/timens_offsets >/dev/null";
        let shown = Transcript::run(program.supervise(["run", "sh", "-c", line]))?;
        assert!(shown.printed.ends_with("offsets: Permission denied\n"), "{}", shown.text);
    }
    Ok(())
}

/// A time namespace has no offset for the time of day.
#[test]
fn date_is_the_hosts() -> Result {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a date").as_secs();
    for program in programs() {
        let before = now();
        let date = program.supervise(["run", "date", "+%s"]).output()?;
        let date: u64 = String::from_utf8_lossy(&date.stdout).trim().parse().expect("a number");
        assert!((before..=now()).contains(&date), "{date}");
    }
    Ok(())
}

/// After CLONE_NEWTIME, kernels 5.10 and 6.1 refuse to create a child that shares memory with its parent: vfork and
/// posix_spawn. Newer ones don't, so this looks at the call.
#[test]
fn run_forks_instead_of_vfork() -> Result {
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "true"], &[r"^(clone3?|v?fork)\("])?;
        let trace = trace.grouped_by_process();
        let [run, _init] = trace.by_process()?;
        let [fork] = run[..] else { panic!("not one child: {run:?}") };
        assert!(!fork.starts_with("vfork") && !fork.contains("CLONE_VM"), "{fork}");
    }
    Ok(())
}

/// strace makes unshare fail, as it does on a kernel without time namespaces.
#[test]
fn kernel_without_time_namespaces_is_no_error() -> Result {
    for program in with_tools(&["strace"], programs()) {
        // Without CAP_SYS_ADMIN it is the third call: the first fails, the second creates the user namespace.
        let call = if program.caller() == Caller::Root { 2 } else { 3 };
        let inject = format!("inject=unshare:error=EINVAL:when={call}");
        let args =
            ["-qq", "-o", "/dev/null", "-e", &inject, program.name(), "run", "sh", "-c", "exit 7"];
        let shown = Transcript::run(program.environment().supervise("strace", args))?;
        let expected =
            "\nrun: this kernel has no time namespaces: uptime is the host's\ninit PID: 1\n";
        assert!(shown.printed.contains(expected), "{}", shown.text);
        assert_eq!(shown.status.code(), Some(7), "{}", shown.text);
    }
    Ok(())
}

// The namespaces and the system calls.

/// The new one is the time namespace. The children of `run` are in it, and `run` isn't.
#[test]
fn init_has_own_pid_mount_and_time_namespace() -> Result {
    for program in inspectable(programs()) {
        let shell = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = shell.tree()?;
        let [run, init, command] = tree.processes()[..] else {
            panic!("not three: {}", tree.text())
        };
        for kind in ["pid", "mnt", "time"] {
            assert_ne!(run.namespaces[kind], init.namespaces[kind], "{kind}");
            assert_eq!(init.namespaces[kind], command.namespaces[kind], "{kind}");
        }
        shell.end()?.0.assert_clean();
        let caption = "PID 1 and the command have their own PIDs, mounts and uptime";
        let argv = ["07-proc-limits", "run", "--ti", "/bin/sh"];
        assert_snapshot!("diagram", shell_diagram(caption, &tree, &argv));
    }
    Ok(())
}

/// The calls that are new since step 06. Of the mounts, those of one file, one directory, and one read-only path that
/// every kernel has.
#[test]
fn makes_the_expected_system_calls() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork)\(",
        r"^unshare\((CLONE_NEWTIME|0x80)",
        r"^write\(.*/timens_offsets>",
        r#"^mount\([^,]*, "/(proc/timer_list|sys/firmware|proc/sys)","#,
    ];
    for program in with_tools(&["strace"], programs()) {
        let trace = program.trace(&["run", "/bin/true"], &lesson)?.grouped_by_process();
        let [run, init, command] = trace.by_process()?;
        let names: Vec<_> = run.iter().filter_map(|call| call.split('(').next()).collect();
        assert_eq!(names, ["execve", "unshare", "write", "clone"], "{run:?}");
        let mounts: Vec<_> = init.iter().filter(|call| call.starts_with("mount(")).collect();
        let [_, null, tmpfs, bind, remount] = mounts[..] else { panic!("not five: {init:?}") };
        assert!(null.contains("= -1 ENOTDIR ") && tmpfs.contains("MS_RDONLY"), "{init:?}");
        assert!(!bind.contains("MS_RDONLY") && remount.contains("MS_RDONLY"), "{init:?}");
        assert!(command.iter().all(|call| call.starts_with("execve(")), "{command:?}");
        let trace = trace.redacted()?;
        assert_snapshot!("trace", trace);
    }
    Ok(())
}

// Masks and read-only paths.

/// Root of step 06's container types commands that do the same as step 07's `init`.
#[test]
fn masks_can_be_mounted_by_hand() -> Result {
    for program in programs() {
        let lines = [
            "stat -c %F /proc/timer_list",
            "mount --bind /dev/null /proc/timer_list",
            "stat -c %F /proc/timer_list",
            "mount --bind /proc/sys /proc/sys",
            "mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys",
            "tee /proc/sys/kernel/hostname </dev/null",
        ];
        let shown = typed(&step(6, program.caller()), &lines)?;
        assert!(shown.printed.contains("hostname: Read-only file system"), "{}", shown.text);
        let shown = shown.redacted(&RUN_PID)?;
        assert_snapshot!("by_hand", shown);
    }
    Ok(())
}

/// A masked file and a masked directory are empty. Root of the container can unmount a mask, because a mask isn't a
/// security boundary.
#[test]
fn masked_paths_are_empty() -> Result {
    for program in programs() {
        let lines = [
            "stat -c %F /proc/timer_list",
            "cat /proc/timer_list",
            "ls -A /sys/firmware",
            "umount /proc/timer_list",
            "stat -c %F /proc/timer_list",
        ];
        let shown = typed(&program, &lines)?;
        let empty =
            "\ncharacter special file\n# cat /proc/timer_list\n# ls -A /sys/firmware\n# umount";
        assert!(shown.text.contains(empty), "{}", shown.text);
        let shown = shown.redacted(&RUN_PID)?;
        assert_snapshot!("masked", shown);
    }
    Ok(())
}

/// Without the mask, only the file's permissions protect it.
#[test]
fn unmasked_file_is_readable_for_hosts_root() -> Result {
    for program in programs() {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        assert_eq!(shell.run("wc -c </proc/timer_list")?, "0");
        let unmasked =
            shell.run("umount /proc/timer_list && cat /proc/timer_list 2>&1 | head -n 1")?;
        let denied = unmasked.contains("Permission denied");
        assert_eq!(denied, program.caller() == Caller::Rootless, "{unmasked}");
        shell.end()?.0.assert_clean();
    }
    Ok(())
}

/// `tee` opens the file and writes nothing to it.
#[test]
fn proc_sys_is_read_only() -> Result {
    let open = "tee /proc/sys/kernel/hostname </dev/null";
    for program in programs() {
        let shown = typed(&program, &[open, "test -r /proc/sys/kernel/hostname; echo $?"])?;
        assert!(shown.printed.contains("Read-only file system"), "{}", shown.text);
        // In step 06 the host's root may write, and an ordinary user may not.
        let before = step(6, program.caller());
        let before = before.transcript(["run", "sh", "-c", open])?;
        let allowed = program.caller() == Caller::Root;
        assert_eq!(before.status.success(), allowed, "{}", before.text);
        assert_ne!(before.printed.contains("Permission denied"), allowed, "{}", before.text);
    }
    Ok(())
}

/// The test never writes to this file, and opens it only if the mount table says that it's read-only.
#[test]
fn sysrq_trigger_is_read_only() -> Result {
    if !Path::new("/proc/sysrq-trigger").exists() {
        return Ok(());
    }
    for program in programs() {
        let line = "grep -q ' /proc/sysrq-trigger proc ro,' /proc/self/mounts || exit 9; \
            tee /proc/sysrq-trigger </dev/null";
        let shown = Transcript::run(program.supervise(["run", "sh", "-c", line]))?;
        assert!(shown.printed.contains("Read-only file system"), "{}", shown.text);
    }
    Ok(())
}

/// The mounts that this step adds to step 06's, ordered by path: lines of /proc/self/mounts.
fn new_mounts(program: &Program) -> Result<Vec<String>> {
    let mounts = |program: &Program| -> Result<Vec<String>> {
        let output = program.supervise(["run", "cat", "/proc/self/mounts"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Elsewhere, other programs may mount something between the two runs.
        let ours = |line: &&str| line.contains(" /proc/") || line.contains(" /sys/");
        Ok(text.lines().filter(ours).map(str::to_owned).collect())
    };
    let before = mounts(&step(6, program.caller()))?;
    let mut new = mounts(program)?;
    new.retain(|line| !before.contains(line));
    new.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    Ok(new)
}

/// The paths in a list in a source text, each in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

fn sorted(mut paths: Vec<&str>) -> Vec<&str> {
    paths.sort_unstable();
    paths
}

/// The lists MASKED and READ_ONLY, as the step's source has them.
fn lists() -> (Vec<&'static str>, Vec<&'static str>) {
    let source = include_str!("../steps/07-proc-limits/src/mask.rs");
    let (_, rest) = source.split_once("const MASKED").expect("the first list");
    let (masked, rest) = rest.split_once("const READ_ONLY").expect("the second list");
    let (read_only, _) = rest.split_once("// ANCHOR_END").expect("the end of the lists");
    (quoted(masked), quoted(read_only))
}

#[test]
fn covers_every_listed_path_and_no_other() -> Result {
    let (masked, read_only) = lists();
    let mut existing = sorted([masked, read_only].concat());
    existing.retain(|path| Path::new(path).exists());
    assert!(existing.contains(&"/proc/sys"), "{existing:?}");
    for program in programs() {
        let mounts = new_mounts(&program)?;
        let paths: Vec<_> = mounts.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(paths, existing);
        // A bind mount of /dev/null has the options of /dev. Every other mount has all four flags.
        for line in &mounts {
            let fields: Vec<_> = line.split(' ').collect();
            let null = fields[2] != "proc" && !Path::new(fields[1]).is_dir();
            assert!(null || fields[3].starts_with("ro,nosuid,nodev,noexec"), "{line}");
        }
    }
    Ok(())
}

/// Later versions of runc have more paths, which is no failure.
#[test]
fn lists_are_those_of_runc_spec() -> Result {
    let (masked, read_only) = lists();
    for program in with_tools(&["runc"], programs()) {
        Transcript::run(program.environment().supervise("runc", ["spec"]))?;
        let spec = fs::read_to_string(program.directory().join("config.json")).expect("a spec");
        let list = |name: &str| {
            let (_, rest) = spec.split_once(&format!("\"{name}\": [")).expect("a list");
            rest.split(']').next().unwrap_or_default().to_owned()
        };
        let (theirs, their_read_only) = (list("maskedPaths"), list("readonlyPaths"));
        assert_eq!(sorted(read_only.clone()), sorted(quoted(&their_read_only)));
        let theirs = quoted(&theirs);
        let ours_only: Vec<_> = masked.iter().filter(|path| !theirs.contains(path)).collect();
        assert!(ours_only.is_empty(), "not in runc's list: {ours_only:?}");
    }
    Ok(())
}

/// If another file were at /dev/null, a mask would show that file's content. Reading /dev/zero never ends.
#[test]
fn refuses_a_false_dev_null() -> Result {
    for program in with_tools(&["unshare", "mount"], programs()) {
        let script = "mount --bind /dev/zero /dev/null && exec \"$@\"";
        let host = [&["unshare"], as_root(&program), &["--mount", "sh", "-c", script, "sh"]];
        let run = program.supervise(["run", "cat", "/proc/keys"]).wrapped_by(&host.concat());
        let shown = Transcript::run(run)?;
        let error =
            "07-proc-limits: init: /dev/null isn't the null device, so it would mask nothing\n";
        assert!(shown.printed.ends_with(error), "{}", shown.text);
        assert_eq!(shown.status.code(), Some(125), "{}", shown.text);
    }
    Ok(())
}

/// If a path exists and can't be masked or protected, the command doesn't start. strace makes one mount fail, from
/// the first mask to the last remount.
#[test]
fn failed_mask_is_an_error() -> Result {
    let (mut masked, mut read_only) = lists();
    for list in [&mut masked, &mut read_only] {
        list.retain(|path| Path::new(path).exists());
    }
    let Some(directory) = masked.iter().position(|path| Path::new(path).is_dir()) else {
        panic!("this kernel has no directory to mask: {masked:?}")
    };
    for program in with_tools(&["strace"], programs()) {
        // The first two calls of `init` are step 03's. A directory and a read-only path take two calls each.
        let calls_for = |path: &&str| if Path::new(path).is_dir() { 2 } else { 1 };
        let tmpfs = 2 + masked[..=directory].iter().map(calls_for).sum::<usize>();
        let last = 2 + masked.iter().map(calls_for).sum::<usize>() + 2 * read_only.len();
        for (call, expected) in [
            (3, "mount(/dev/null, /"),
            (tmpfs, "mount(tmpfs, /"),
            (last - 1, "MS_BIND): "),
            (last, "MS_BIND|MS_REMOUNT|MS_RDONLY): "),
        ] {
            let inject = format!("inject=mount:error=EPERM:when={call}");
            let args = [
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &inject,
                program.name(),
                "run",
                "echo",
                "here",
            ];
            let shown = Transcript::run(program.environment().supervise("strace", args))?;
            assert!(shown.printed.contains(expected), "{call}: {}", shown.text);
            assert!(shown.printed.contains("(EPERM)\n"), "{call}: {}", shown.text);
            assert!(!shown.printed.contains("here\n"), "{call}: {}", shown.text);
            assert_eq!(shown.status.code(), Some(125), "{}", shown.text);
        }
    }
    Ok(())
}

// Limits of masks and namespaces.

/// An option of procfs that hides everything except processes.
#[test]
fn subset_pid_breaks_programs() -> Result {
    for program in programs() {
        let before = step(6, program.caller());
        let mount = "mount -t proc -o subset=pid proc /proc";
        // Versions of these programs fail with different messages.
        let mut shell = before.session(["run", "--ti", "/bin/sh"])?;
        shell.run(mount)?;
        for command in ["ps -ef", "free", "uptime"] {
            let (shown, status) = shell.run_with_status(&format!("{command} 2>&1"))?;
            assert_ne!(status, "0", "{command}: {shown}");
        }
        shell.end()?.0.assert_clean();
        let shown = typed(&before, &[mount, "ls /proc/self/comm /proc/meminfo"])?;
        assert!(shown.text.contains("cannot access '/proc/meminfo'"), "{}", shown.text);
        let shown = shown.redacted(&RUN_PID)?;
        assert_snapshot!("subset_pid", shown);
    }
    Ok(())
}

/// If the host's /proc has this option, the step runs: it asks the kernel for the uptime, and reads only files of
/// its own process. Without root, a kernel may refuse the new /proc, and the step then says so.
#[test]
fn runs_on_subset_pid_proc() -> Result {
    for program in with_tools(&["unshare", "mount"], programs()) {
        let script = format!(
            "mount -t proc -o subset=pid proc /proc && ! test -e /proc/uptime && \
             exec {} run sh -c 'test -e /proc/uptime && echo whole'",
            program.name()
        );
        let namespaces: &[&str] =
            &["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script];
        let args = [as_root(&program), namespaces].concat();
        let shown = Transcript::run(program.environment().supervise("unshare", args))?;
        let refused = shown.printed.contains("07-proc-limits: mount(proc, /proc): ")
            && shown.status.code() == Some(125);
        let allowed = program.caller() == Caller::Rootless && refused;
        assert!(shown.printed.ends_with("whole\n") || allowed, "{}", shown.text);
    }
    Ok(())
}

/// The number of CPUs in /proc/cpuinfo is the machine's. sched_getaffinity(2) knows what a process may use.
#[test]
fn nproc_counts_allowed_cpus() -> Result {
    let read = |path| fs::read_to_string(path).expect("a file in /proc");
    let all = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    let status = read("/proc/self/status");
    // We may not be allowed to use CPU 0.
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let first = allowed.and_then(|list| list.split([',', '-']).next()).expect("a CPU");
    for program in with_tools(&["taskset", "nproc"], programs()) {
        let line = format!(
            "taskset --cpu-list {first} {} run sh -c 'nproc; grep -c ^processor /proc/cpuinfo'",
            program.name()
        );
        let shell = program.environment().supervise::<&str>("sh", []);
        let (shown, exit) = Transcript::type_lines(shell, &[&line])?;
        exit.assert_clean();
        let numbers = format!("\n1\n{all}\n");
        assert!(shown.text.ends_with(&numbers), "{}", shown.text);
        let text = shown.text.replace(&numbers, "\n1\nN\n");
        let text = text.replace(&format!("--cpu-list {first} "), "--cpu-list 0 ");
        let shown = Transcript { text, ..shown }.redacted(&RUN_PID)?;
        assert_snapshot!("processors", shown);
    }
    Ok(())
}

/// sysinfo(2) knows the container's uptime, but no mount changes what it says about memory. busybox asks it.
#[test]
fn sysinfo_shows_own_uptime_and_hosts_memory() -> Result {
    for program in with_tools(&["busybox"], programs()) {
        let mut shell = program.session(["run", "--ti", "/bin/sh"])?;
        shell.run("mount -t tmpfs scratch /mnt && echo 'MemTotal: 1048576 kB' >/mnt/meminfo")?;
        shell.run("mount --bind /mnt/meminfo /proc/meminfo")?;
        let uptime = shell.run("busybox uptime")?;
        assert!(uptime.contains(" up 0 min"), "{uptime}");
        let memory = shell.run("busybox free -k | sed -n 's/^Mem: *\\([0-9]*\\).*/\\1/p'")?;
        let host = fs::read_to_string("/proc/meminfo").expect("read /proc/meminfo");
        let total = host.lines().next().and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(Some(&*memory), total, "the host's memory");
        shell.end()?.0.assert_clean();
    }
    Ok(())
}
