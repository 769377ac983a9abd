//! Step 05: what /proc still tells of the host; what a namespace makes the container's own, and what is
//! hidden, or closed to writers, because none does.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use course::test_support::{assert_checks_pass, program, programs_for_each_caller, step_program};
use harness::test_support::{AssertClean, Skip, require_tools};
use harness::{
    Caller, Program, Requirement, Restriction, Result, Session, Supervisor, Transcript,
    assert_snapshot, diagram, helper_path,
};
use predicates::prelude::*;

fn programs() -> Vec<Program> {
    programs_for_each_caller(cargo_bin!("05-proc-limits"))
}

fn step_03() -> PathBuf {
    step_program(3)
}

#[test]
fn passes_every_check() {
    assert_checks_pass(cargo_bin!("05-proc-limits"));
}

fn shell(program: &Program) -> Supervisor {
    program.supervise(["run", "--ti", "/bin/sh"])
}

/// Both sides of a container: a shell on a host of the test's own, whose network, name and mounts can be
/// changed and harm nobody, and a shell in a container that was started from there.
struct Sides {
    host: Session,
}

impl Sides {
    /// `container` is a command line that ends up in a shell.
    fn start(program: &Program, container: &str) -> Result<Self> {
        let user: &[&str] = match program.caller() {
            Caller::Root => &[],
            Caller::Rootless => &["--user", "--map-root-user"],
        };
        let args = [user, &["--net", "--uts", "--mount", "sh"]].concat();
        let mut host = Session::start(program.environment().supervise("unshare", args))?;
        host.run("mkfifo questions answers")?;
        host.send(&format!("{container} <questions >answers 2>/dev/null &\n"))?;
        host.run("exec 3>questions 4<answers")?;
        // What the shell inside prints, up to a line with a dot.
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

    /// The same question, the same answer; asked again where the machine's own life came in between.
    fn agree(&mut self, line: &str) -> Result<bool> {
        for _ in 0..50 {
            let before = self.host(line)?;
            if before == self.inside(line)? && !before.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is said inside, and the host's numbers between which it was said. PIDs start again at the end of
    /// their range: then there is no between, and it is asked once more.
    fn asked_between(&mut self, host: &str, inside: &str) -> Result<(RangeInclusive<i64>, String)> {
        loop {
            let before = self.host_number(host)?;
            let said = self.inside(inside)?;
            let after = self.host_number(host)?;
            if before <= after {
                return Ok((before..=after, said));
            }
        }
    }

    /// What is numbered on the host between two processes of the host's is of the host.
    fn between(&mut self, host: &str, inside: &str) -> Result<bool> {
        let (numbers, said) = self.asked_between(host, inside)?;
        Ok(numbers.contains(&said.parse().expect("a number")))
    }

    fn end(self) -> Result {
        let Sides { host } = self;
        host.end()?.0.assert_clean();
        Ok(())
    }
}

/// The PID of a new process of the host's.
const NEXT_PID: &str = "sh -c 'echo $$'";

/// What a row of the table says of a file.
const OWN: &str = "the container's own";
const HOSTS: &str = "the host's";
const READ_ONLY: &str = "the host's, read-only";
const MASKED: &str = "masked";

fn own_unless(hosts: bool) -> &'static str {
    if hosts { HOSTS } else { OWN }
}

/// How to find out, for each file, whose it is: something is changed on one side, and looked for on the
/// other. `None`: this kernel has no such file.
fn whose(sides: &mut Sides, path: &str) -> Result<Option<&'static str>> {
    if path.starts_with('/') && sides.host(&format!("test -e {path}; echo $?"))? != "0" {
        return Ok(None);
    }
    // What step 05 does shows in the mount table, and in what is found where the file was.
    let mounted = sides.inside(&format!("grep -c \" {path} \" /proc/self/mounts"))?;
    if path.starts_with('/') && mounted == "1" {
        let open = sides.inside(&format!("true 2>/dev/null >{path}; echo $?"))?;
        return Ok(Some(if open == "0" { MASKED } else { READ_ONLY }));
    }
    Ok(Some(match path {
        // Start a process on the host: is it listed inside?
        "processes" => {
            let pid = sides.host("sleep 1000 & echo $!")?;
            // It is a copy of the shell until its exec.
            sides.host(&format!("until [ \"$(cat /proc/{pid}/comm)\" = sleep ]; do :; done"))?;
            let name = sides.inside(&format!("cat /proc/{pid}/comm"))?;
            sides.host(&format!("kill {pid}"))?;
            own_unless(name == "sleep")
        }
        // Start a process inside: does `self` lead to the number that it knows, which is not the host's?
        "/proc/self" => {
            let question = "sh -c \"echo \\$\\$; exec readlink /proc/self\"";
            let (hosts, said) = sides.asked_between(NEXT_PID, question)?;
            let numbers: Vec<i64> = said.lines().filter_map(|line| line.parse().ok()).collect();
            let [pid, link] = numbers[..] else { panic!("two numbers: {said}") };
            own_unless(pid != link || hosts.contains(&pid))
        }
        // Mount something inside: does the host see it?
        "/proc/mounts" => {
            sides.inside("mount -t tmpfs lab /mnt")?;
            assert_eq!(sides.inside("grep -c \"^lab /mnt \" /proc/mounts")?, "1");
            own_unless(sides.host("grep -c '^lab /mnt ' /proc/mounts")? == "1")
        }
        // Send a packet through the host's loopback: do the counters move inside?
        "/proc/net/dev" => {
            let before = sides.inside("cat /proc/net/dev")?;
            sides.host("ip link set lo up; bash -c 'echo words >/dev/udp/127.0.0.1/9'")?;
            own_unless(
                sides.inside("cat /proc/net/dev")? != before && sides.agree("cat /proc/net/dev")?,
            )
        }
        // Give the host a name: is it seen inside?
        "/proc/sys/kernel/hostname" => {
            sides.host("hostname renamed")?;
            let seen = sides.inside("cat /proc/sys/kernel/hostname")? == "renamed";
            let open =
                sides.inside("(true >/proc/sys/kernel/hostname) 2>&1 | grep -c Read-only")?;
            if seen && open == "1" { READ_ONLY } else { own_unless(seen) }
        }
        // The load, and how many processes there are: the same on both sides?
        "/proc/loadavg" => own_unless(sides.agree("cut -d\" \" -f1-3 /proc/loadavg")?),
        // Start a process on either side: which one does it count?
        "loadavg, last field" => {
            own_unless(sides.between(NEXT_PID, "cut -d\" \" -f5 /proc/loadavg")?)
        }
        "/proc/sys/kernel/ns_last_pid" => {
            own_unless(sides.between(NEXT_PID, "cat /proc/sys/kernel/ns_last_pid")?)
        }
        // Let time go by: is it the same time on both sides?
        "/proc/uptime" => {
            own_unless(sides.between("cut -d. -f1 /proc/uptime", "cut -d. -f1 /proc/uptime")?)
        }
        // One second more or less is rounding.
        "stat, btime" => {
            let line = "sed -n \"s/^btime //p\" /proc/stat";
            let host = sides.host_number(line)?;
            let inside: i64 = sides.inside(line)?.parse().expect("a number");
            own_unless((host - inside).abs() <= 1)
        }
        "/proc/meminfo" => own_unless(sides.agree("grep ^MemTotal /proc/meminfo")?),
        "/proc/cpuinfo" => own_unless(sides.agree("grep -c ^processor /proc/cpuinfo")?),
        // Where the host is in no cgroup but the root, the text is the same in every namespace.
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

/// The files, and for those that not every kernel has, what the table says of them where it cannot be
/// found out: after step 03, whose namespace, after step 05.
const FILES: [(&str, [&str; 3]); 18] = [
    ("processes", [OWN, "PID + mount", OWN]),
    ("/proc/self", [OWN, "PID + mount", OWN]),
    ("/proc/mounts", [OWN, "mount", OWN]),
    ("/proc/net/dev", [HOSTS, "net", HOSTS]),
    ("/proc/sys/kernel/hostname", [HOSTS, "UTS", READ_ONLY]),
    ("/proc/loadavg", [HOSTS, "-", HOSTS]),
    ("loadavg, last field", [OWN, "PID", OWN]),
    ("/proc/sys/kernel/ns_last_pid", [OWN, "PID", OWN]),
    ("/proc/uptime", [HOSTS, "time", OWN]),
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

/// Namespaces, alone, and with a /proc mounted in them.
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
    let verdicts = FILES.iter().map(|(path, _)| whose(&mut sides, path)).collect();
    sides.end()?;
    verdicts
}

/// Every cell is found by looking at both sides (`whose`). The namespace is the first that, made alone
/// by unshare(1), turns the verdict to "own".
#[test]
fn table_shows_owner_of_each_file() -> Result {
    if !Requirement::Tool("ip").is_met_or_skip() {
        return Ok(());
    }
    // Both callers at once: the test would be the longest by far.
    std::thread::scope(|scope| {
        for program in programs() {
            scope.spawn(move || table(&program).expect("the instruments work"));
        }
    });
    Ok(())
}

fn table(program: &Program) -> Result {
    let before = self::program(step_03(), program.caller());
    let path = before.path().display();
    let after_03 = column(program, &format!("{path} run --ti sh"))?;
    let after_05 = column(program, &format!("{} run --ti sh", program.path().display()))?;
    let mut alone = Vec::new();
    for (name, container) in NAMESPACES {
        alone.push((name, column(program, container)?));
    }
    let mut table = format!("{:<30}{:<22}{:<14}after step 05\n", "", "after step 03", "namespace");
    for (row, (path, documented)) in FILES.iter().enumerate() {
        let cells = match (after_03[row], after_05[row]) {
            (Some(before), Some(after)) => {
                let makes_own = |(_, column): &&(_, Vec<_>)| column[row] == Some(OWN);
                let namespace = alone.iter().find(makes_own).map_or("-", |(name, _)| name);
                [before, namespace, after]
            }
            _ => {
                let line = format!("not tested: {path}, for want of it in this kernel\n");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
                *documented
            }
        };
        assert_eq!(cells, *documented, "{path}");
        let [before, namespace, after] = cells;
        let _ = writeln!(table, "{path:<30}{before:<22}{namespace:<14}{after}");
    }
    assert_snapshot!("table", table);
    Ok(())
}

/// The time namespace is the third that is new, and PID 1 is in it, since it was born after it was made.
#[test]
fn pid_1_has_three_own_namespaces() -> Result {
    for program in programs() {
        let session = program.session(["run", "--ti", "/bin/sh"])?;
        let tree = session.tree()?;
        let [run, init, command] = tree.processes()[..] else { panic!("not three") };
        for kind in ["pid", "mnt", "time"] {
            assert_ne!(run.namespaces[kind], init.namespaces[kind], "{kind}");
            assert_eq!(init.namespaces[kind], command.namespaces[kind], "{kind}");
        }
        session.end()?.0.assert_clean();
        let before = tree.before(["05-proc-limits", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        let caption = "PID 1 and the command, with PIDs, mounts and a clock of their own";
        assert_snapshot!("diagram", diagram(caption, &moments));
    }
    Ok(())
}

#[test]
fn uptime_starts_at_zero() -> Result {
    for program in programs() {
        let (uptime, exit) = Transcript::type_lines(shell(&program), &["uptime --pretty"])?;
        exit.assert_clean();
        assert!(uptime.text.ends_with("\nup 0 minutes\n"), "{}", uptime.text);
        let seconds = program.command(["run", "cut", "-d.", "-f1", "/proc/uptime"]).assert();
        seconds.stdout(predicate::function(|text: &str| {
            text.trim().parse::<u32>().is_ok_and(|seconds| seconds < 60)
        }));
        assert_snapshot!("uptime", uptime.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// A container in a container, and one whose clock is years ahead of the host's: the offset that is written
/// counts from the host's clock, and not from the caller's.
#[test]
fn uptime_starts_at_zero_despite_offset() -> Result {
    for program in programs() {
        let name = program.name();
        let helper = Program::new(&helper_path()?, program.caller())?;
        let shifted = format!("{} shift-boottime --", helper.path().display());
        for around in [format!("{name} run"), shifted] {
            let line = format!("{around} {name} run cut -d. -f1 /proc/uptime 2>/dev/null");
            let seen =
                Transcript::run(program.environment().supervise("sh", ["-c", &line]))?.printed;
            assert!(seen.trim().parse::<u32>().is_ok_and(|up| up < 60), "{around}: {seen}");
        }
    }
    Ok(())
}

/// Kernels that know time namespaces, but are older, refuse to make a child that shares memory with a
/// parent of another clock: vfork, and with it posix_spawn.
#[test]
fn run_forks_without_sharing_memory() -> Result {
    if !Requirement::Tool("strace").is_met_or_skip() {
        return Ok(());
    }
    for program in programs() {
        let path = program.path().to_string_lossy().into_owned();
        let words = ["-qq", "-o", "calls", "-e", "trace=clone,clone3,vfork,fork", &path];
        program
            .environment()
            .command("strace", [&words[..], &["run", "true"]].concat())
            .assert()
            .code(0);
        let calls = std::fs::read_to_string(program.directory().join("calls")).expect("the calls");
        let made: Vec<_> = calls.lines().filter(|line| line.contains("clone")).collect();
        assert_eq!(made.len(), 1, "{calls}");
        assert!(!made[0].contains("CLONE_VM"), "{calls}");
    }
    Ok(())
}

/// The calls that are new since step 04; of those that mask, one file, one directory and one that is made
/// read-only, which all kernels have.
#[test]
fn makes_the_calls_of_the_lesson() -> Result {
    let lesson = [
        r"^(execve|clone3?|v?fork)\(",
        r"^unshare\((CLONE_NEWTIME|0x80)",
        r"^write\(.*/timens_offsets>",
        r#"^mount\([^,]*, "/(proc/timer_list|sys/firmware|proc/sys)","#,
    ];
    for program in programs() {
        if !require_tools(&["strace"]) {
            return Ok(());
        }
        let trace = program.trace(&["run", "/bin/true"], &lesson)?;
        let [run, init, command] = trace.by_process()?;
        let names: Vec<_> = run.iter().filter_map(|call| call.split('(').next()).collect();
        assert_eq!(names, ["execve", "unshare", "write", "clone"], "{run:?}");
        let mounts: Vec<_> = init.iter().filter(|call| call.starts_with("mount(")).collect();
        let [_, null, tmpfs, bind, remount] = mounts[..] else { panic!("not five: {init:?}") };
        assert!(null.contains("= -1 ENOTDIR ") && tmpfs.contains("MS_RDONLY"), "{init:?}");
        assert!(!bind.contains("MS_RDONLY") && remount.contains("MS_RDONLY"), "{init:?}");
        assert!(command.iter().all(|call| call.starts_with("execve(")), "{command:?}");
        assert_snapshot!("trace", trace.redacted()?);
    }
    Ok(())
}

/// As if the kernel had no time namespaces: strace lets the system call fail.
#[test]
fn tolerates_kernel_without_time_ns() -> Result {
    if !Requirement::Tool("strace").is_met_or_skip() {
        return Ok(());
    }
    for program in programs() {
        // Without CAP_SYS_ADMIN it is the third: the first fails, the second makes the user namespace.
        let call = if program.caller() == Caller::Root { 2 } else { 3 };
        let inject = format!("inject=unshare:error=EINVAL:when={call}");
        let path = program.path().to_string_lossy().into_owned();
        let words = ["-qq", "-o", "/dev/null", "-e", &inject, &path, "run", "sh", "-c", "exit 7"];
        let said = "\nrun: no time namespaces in this kernel: uptime is the host's\ninit PID: 1\n";
        program
            .environment()
            .command("strace", words)
            .assert()
            .code(7)
            .stderr(predicate::str::contains(said));
    }
    Ok(())
}

/// With --ti too: `run` and `init` both need one, and each may say so.
#[test]
fn reports_missing_dev_null_with_ti() -> Result {
    let needs = Restriction::NoDev.requirements();
    if !needs.into_iter().all(|tool| tool.is_met_or_skip()) {
        return Ok(());
    }
    for program in programs() {
        let supervisor = Restriction::NoDev.supervise(&program, &["run", "--ti", "true"])?;
        let said = Transcript::run(supervisor)?;
        assert_eq!(said.status.code(), Some(125), "{}", said.text);
        let line = "05-proc-limits: open(/dev/null): No such file or directory (ENOENT)\n";
        assert!(said.printed.contains(line), "{}", said.text);
        assert!(said.printed.contains("hint: "), "{}", said.text);
    }
    Ok(())
}

/// What a process may use is its own affair, and /proc/cpuinfo tells of the machine. A machine may have one
/// processor, and number 0 may be denied to us: any that is allowed will do.
#[test]
fn nproc_counts_allowed_cpus_only() -> Result {
    if !require_tools(&["taskset"]) {
        return Ok(());
    }
    let read = |path| std::fs::read_to_string(path).expect("a file of /proc");
    let there = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count();
    let status = read("/proc/self/status");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let first = allowed.and_then(|list| list.split([',', '-']).next()).expect("a processor");
    for program in programs() {
        let line = format!(
            "taskset --cpu-list {first} {} run sh -c 'nproc; grep -c ^processor /proc/cpuinfo'",
            program.name()
        );
        let (told, exit) =
            Transcript::type_lines(program.environment().supervise::<&str>("sh", []), &[&line])?;
        exit.assert_clean();
        let numbers = format!("\n1\n{there}\n");
        assert!(told.text.ends_with(&numbers), "{}", told.text);
        let text = told.text.replace(&numbers, "\n1\nN\n");
        let text = text.replace(&format!("--cpu-list {first} "), "--cpu-list 0 ");
        let told = Transcript { text, ..told };
        assert_snapshot!("processors", told.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// Root of the container may take the cover off again: it is no boundary.
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
        let (masked, exit) = Transcript::type_lines(shell(&program), &lines)?;
        exit.assert_clean();
        assert!(
            masked.text.contains(
                "\ncharacter special file\n# cat /proc/timer_list\n# ls -A /sys/firmware\n# umount"
            ),
            "{}",
            masked.text
        );
        assert_snapshot!("masked", masked.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// The file is only opened: nothing is written, whether that fails or not.
#[test]
fn proc_sys_is_read_only() -> Result {
    let open = "true >/proc/sys/kernel/hostname";
    for program in programs() {
        let (read_only, exit) = Transcript::type_lines(
            shell(&program),
            &[open, "test -r /proc/sys/kernel/hostname; echo $?"],
        )?;
        exit.assert_clean();
        let error = "sh: 5: cannot create /proc/sys/kernel/hostname: Read-only file system";
        assert!(read_only.printed.contains(&error["sh: 5".len()..]), "{}", read_only.text);
        if program.caller() == Caller::Root {
            // In step 04, real root may.
            let before = self::program(step_program(4), Caller::Root);
            before.command(["run", "sh", "-c", open]).assert().code(0);
        }
        assert_snapshot!("read_only", read_only.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}

/// Opened, never written to: and not even opened where the container could.
#[test]
fn sysrq_trigger_is_read_only() -> Result {
    if !Path::new("/proc/sysrq-trigger").exists() {
        let line = b"not tested: sysrq_trigger_is_read_only, for want of the file in this kernel\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
        return Ok(());
    }
    for program in programs() {
        let line = "grep -q ' /proc/sysrq-trigger proc ro,' /proc/self/mounts || exit 9; \
            true >/proc/sysrq-trigger";
        let error = predicate::str::contains("Read-only file system");
        program.command(["run", "sh", "-c", line]).assert().code(2).stderr(error);
    }
    Ok(())
}

/// The mounts that the step makes beyond step 03's, in the order of their paths: lines of /proc/mounts.
fn new_mounts(program: &Program) -> Vec<String> {
    let mounts = |program: &Program| {
        let said = program.command(["run", "cat", "/proc/self/mounts"]).assert().code(0);
        let text = String::from_utf8_lossy(&said.get_output().stdout).into_owned();
        text.lines().map(|line| line.to_owned()).collect::<Vec<_>>()
    };
    let before = mounts(&self::program(step_03(), program.caller()));
    let mut new = mounts(program);
    new.retain(|line| !before.contains(line));
    new.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    new
}

/// The paths in the lists of a source text, each in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    let mut paths: Vec<_> = text.split('"').skip(1).step_by(2).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn covers_exactly_the_listed_paths() {
    let source = include_str!("../steps/05-proc-limits/src/mask.rs");
    let lists = source.split("// ANCHOR_END: paths").next().expect("the lists");
    let there: Vec<_> = quoted(lists).into_iter().filter(|path| Path::new(path).exists()).collect();
    assert!(there.contains(&"/proc/sys"), "{there:?}");
    for program in programs() {
        let mounts = new_mounts(&program);
        let paths: Vec<_> = mounts.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(paths, there);
        // A bind mount of /dev/null has the options of /dev; all others are as closed as can be.
        for line in &mounts {
            let fields: Vec<_> = line.split(' ').collect();
            let file = fields[2] != "proc" && !Path::new(fields[1]).is_dir();
            assert!(file || fields[3].starts_with("ro,nosuid,nodev,noexec"), "{line}");
        }
    }
}

#[test]
fn paths_match_runc() -> Result {
    if !Requirement::Tool("runc").is_met_or_skip() {
        return Ok(());
    }
    for program in programs() {
        let spec = program.environment().command("runc", ["spec"]).assert();
        drop(spec.code(0));
        let spec =
            std::fs::read_to_string(program.directory().join("config.json")).expect("a spec");
        let list = |name: &str| {
            let (_, rest) = spec.split_once(&format!("\"{name}\": [")).expect("a list");
            rest.split(']').next().unwrap_or_default().to_owned()
        };
        let source = include_str!("../steps/05-proc-limits/src/mask.rs");
        let (_, lists) = source.split_once("const MASKED").expect("the lists");
        let (ours, rest) = lists.split_once("const READ_ONLY").expect("two lists");
        let (read_only, _) = rest.split_once("// ANCHOR_END").expect("an end");
        let theirs = (list("maskedPaths"), list("readonlyPaths"));
        assert_eq!(quoted(read_only), quoted(&theirs.1));
        // Later versions have more: those are named, and no reason to fail.
        let (ours, theirs) = (quoted(ours), quoted(&theirs.0));
        let missing: Vec<_> = ours.iter().filter(|path| !theirs.contains(path)).collect();
        assert!(missing.is_empty(), "ours, and not runc's: {missing:?}");
        for more in theirs.iter().filter(|path| !ours.contains(path)) {
            let line = format!("this runc masks {more} too\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
    }
    Ok(())
}

/// What stays in view, or can be written to, must not do so in silence: strace lets one mount fail, and that
/// is not always the first.
#[test]
fn reports_failed_mask() -> Result {
    if !Requirement::Tool("strace").is_met_or_skip() {
        return Ok(());
    }
    for program in programs() {
        let mounts = new_mounts(&program);
        let twice = |line: &&String| {
            let path = line.split(' ').nth(1).unwrap_or_default();
            Path::new(path).is_dir() || line.starts_with("proc ")
        };
        // Of init's calls the first two are step 03's. A directory takes two, a path to be read-only too.
        let last = 2 + mounts.len() + mounts.iter().filter(twice).count();
        for (call, errno, said, hint) in [
            (3, "EPERM", "mount(/dev/null, /", "a filter forbids this kind of mount"),
            (3, "ENOENT", "mount(/dev/null, /", "there is no /dev/null here"),
            (5, "EPERM", "mount(", "a filter forbids this kind of mount"),
            (last - 1, "EPERM", "mount(/proc/sys", "a filter forbids this kind of mount"),
            (last, "EPERM", "mount(/proc/sys", "a filter forbids this kind of mount"),
        ] {
            let inject = format!("inject=mount:error={errno}:when={call}");
            let path = program.path().to_string_lossy().into_owned();
            let words = ["-f", "-qq", "-o", "/dev/null", "-e", &inject, &path, "run", "true"];
            let said = predicate::str::contains(format!("05-proc-limits: {said}"))
                .and(predicate::str::contains(format!("({errno})\nhint: {hint}")));
            program.environment().command("strace", words).assert().code(125).stderr(said);
        }
    }
    Ok(())
}

/// The road not taken: a /proc with processes and nothing else.
#[test]
fn subset_pid_breaks_programs() -> Result {
    for program in programs_for_each_caller(step_03()) {
        let lines = [
            "mount -t proc -o subset=pid proc /proc",
            "ls /proc/meminfo",
            "ps -ef",
            "free",
            "uptime",
        ];
        let (subset, exit) = Transcript::type_lines(shell(&program), &lines)?;
        exit.assert_clean();
        assert!(subset.text.contains("ls: cannot access '/proc/meminfo'"), "{}", subset.text);
        assert_snapshot!("subset_pid", subset.redacted(&[r"run PID: (\d+)"])?);
    }
    Ok(())
}
