//! Step 02: a command that is PID 1 of a PID namespace of its own, and still sees the host's /proc.

use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use assert_cmd::prelude::*;
use insta::assert_snapshot;
use lab::{Hostile, Session, Step, Transcript, Watch, callers, picture, snapshots, tools};
use predicates::prelude::*;

fn step() -> &'static Path {
    cargo_bin!("02-init-pid1")
}

lab::contract_tests!(step());
lab::refusal_tests!(step());

fn shell(step: &Step) -> Watch {
    step.watch(["run", "--ti", "/bin/sh"])
}

/// What the original lesson shows. `init PID: 1` is printed before the exec; that the shell is PID 1
/// only the shell can say.
#[test]
fn init_says_that_it_is_pid_1_and_so_does_the_shell_that_it_becomes() {
    for step in callers(step()) {
        let (narration, ended) = Transcript::typed(shell(&step), &["echo $$", "echo $PPID"]);
        ended.nothing_left();
        // The shell's parent is outside, and has no number in here.
        assert!(
            narration.text.ends_with("\n# echo $$\n1\n# echo $PPID\n0\n"),
            "{}",
            narration.text
        );
        assert_ne!(narration.numbers(r"run PID: (\d+)"), [1]);
        snapshots(|| assert_snapshot!("narration", narration.renamed(&[r"run PID: (\d+)"])));
    }
}

#[test]
fn the_command_is_pid_1_inside_and_another_pid_outside() {
    for step in callers(step()) {
        let mut shell = step.session(["run", "--ti", "/bin/sh"]);
        let tree = shell.tree();
        let [run, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let [run_outside] = run.pids[..] else { panic!("run is in one PID namespace") };
        let [outside, inside] = command.pids[..] else { panic!("the command is in two") };
        assert_eq!(inside, 1);
        assert_ne!(outside, 1);
        assert_ne!(outside, run_outside);
        assert_ne!(run.namespaces["pid"], command.namespaces["pid"]);
        assert_eq!(command.argv, ["/bin/sh"], "init is gone: the command has taken its place");
        assert_eq!(shell.ask("echo $$ $PPID"), "1 0");
        // This /proc is the host's, and shows both numbers.
        assert_eq!(shell.ask("grep NSpid /proc/self/status | wc -w"), "3");
        shell.end().0.nothing_left();
        let before = tree.before(["02-init-pid1", "run", "--ti", "/bin/sh"]);
        let moments = [("before", &before), ("while the shell runs", &tree)];
        snapshots(|| {
            assert_snapshot!("tree", tree.renamed());
            let caption = "run, and the command: one process with two PIDs";
            assert_snapshot!("picture", picture(caption, &moments));
        });
    }
}

/// The namespaces that `run` makes: for root the PID namespace alone.
#[test]
fn root_needs_a_pid_namespace_and_others_a_user_namespace_too() {
    for step in callers(step()) {
        let shell = step.session(["run", "--ti", "/bin/sh"]);
        let tree = shell.tree();
        let ours =
            lab::ProcessTree::of(std::process::id().cast_signed()).expect("this process").root;
        let [_, command] = tree.processes()[..] else { panic!("not two: {}", tree.text()) };
        let root = step.caller() == lab::Caller::Root;
        for (namespace, shared) in [("pid", false), ("user", root), ("mnt", true), ("net", true)] {
            let same = command.namespaces[namespace] == ours.namespaces[namespace];
            assert_eq!(same, shared, "{namespace}");
        }
        shell.end().0.nothing_left();
        let id =
            step.command(["run", "sh", "-c", "id -u; id -g; cat /proc/self/setgroups"]).assert();
        id.stdout(if root { "0\n0\nallow\n" } else { "0\n0\ndeny\n" });
    }
}

/// The PID namespace is new, but /proc is still the one that the host mounted: it has the host's
/// numbers.
#[test]
fn proc_is_still_the_hosts() {
    for step in callers(step()) {
        let (proc, _) = Transcript::typed(shell(&step), &["echo $$", "readlink /proc/self"]);
        let run = proc.numbers(r"run PID: (\d+)")[0];
        assert!(proc.text.contains("\n# echo $$\n1\n"), "{}", proc.text);
        // The readlink that asks has a number of the host's. Not always a higher one than run: numbers start
        // again. In the container it would be 2.
        let readlink = proc.numbers(r"(?m)^(\d+)$")[1];
        assert!(readlink > 2 && readlink != run, "{}", proc.text);
        // And it lists what is outside, and could not be seen from inside: this test.
        let line = format!("test -e /proc/{}", std::process::id());
        step.command(["run", "sh", "-c", &line]).assert().code(0);
        let pids = [r"run PID: (\d+)", r"readlink /proc/self\n(\d+)"];
        snapshots(|| assert_snapshot!("proc_is_the_hosts", proc.renamed(&pids)));
    }
}

/// `ps` is PID 1 here, so that it finds itself on every host: see the next test.
#[test]
fn ps_shows_the_host() {
    if !tools(&["ps"]) {
        return;
    }
    for step in callers(step()) {
        let shell = step.session(["run", "--ti", "/bin/sh"]);
        let run = shell.pid().to_string();
        let ps =
            |what: &str, pid: &str| step.command(["run", "ps", "-o", what, "-p", pid]).assert();
        ps("args=", &run).stdout("02-init-pid1 run --ti /bin/sh\n");
        shell.end().0.nothing_left();
        let host_init = std::fs::read_to_string("/proc/1/comm").expect("the host's PID 1");
        // The container's own PID 1 would be ps.
        ps("comm=", "1").stdout(host_init);
    }
}

/// Most hosts have some process with a number as small as those inside. This one has its PID 1, `run` and what
/// that started; and `ps`, which looks itself up by its number before all else, can only be PID 1.
#[test]
fn a_process_need_not_find_its_number_in_the_hosts_proc() {
    if !tools(&["ps", "unshare"]) {
        return;
    }
    for step in callers(step()) {
        let host = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let host = step.watch_other("unshare", [&host[..], &["/bin/sh"]].concat());
        let mut host = Session::start(host);
        // The number 2 is used up.
        host.ask("/bin/true");
        let run = step.path().display();
        let itself = "sh -c \"echo \\$\\$; ls -d /proc/\\$\\$\"; exit $?";
        let (number, status) = host.ask_status(&format!("{run} run sh -c '{itself}' 2>/dev/null"));
        assert_eq!(number, "2", "and no /proc/2");
        assert_ne!(status, "0");
        assert_eq!(host.ask(&format!("{run} run ps -o args= -p 1 2>/dev/null")), "/bin/sh");
        host.end().0.nothing_left();
    }
}

#[test]
fn init_outside_is_refused_before_it_touches_anything() {
    for step in callers(step()) {
        let refusal = step.transcript(["init", "/bin/sh"]);
        assert_eq!(refusal.status.code(), Some(125));
        snapshots(|| assert_snapshot!("init_outside", refusal.renamed(&[r"this is PID (\d+)"])));
    }
}

#[test]
fn what_is_not_found_is_named() {
    for step in callers(step()) {
        let not_found = step.transcript(["run", "nosuch"]);
        assert_eq!(not_found.status.code(), Some(127));
        snapshots(|| assert_snapshot!("not_found", not_found.renamed(&[r"run PID: (\d+)"])));
    }
}

/// PID 1 gets no signal that it has no handler for: from inside, not even KILL.
#[test]
fn the_kernel_protects_pid_1_from_signals() {
    for step in callers(step()) {
        let (deaf, _) =
            Transcript::typed(shell(&step), &["kill -KILL 1", "kill -TERM 1", "echo $$"]);
        assert!(
            deaf.text.ends_with("\n# kill -KILL 1\n# kill -TERM 1\n# echo $$\n1\n"),
            "{}",
            deaf.text
        );
        let line = "trap 'exit 42' TERM; kill -TERM $$; echo unreached";
        step.command(["run", "sh", "-c", line])
            .assert()
            .code(42)
            .stdout(predicate::str::is_empty());
        snapshots(|| assert_snapshot!("deaf_pid_1", deaf.renamed(&[r"run PID: (\d+)"])));
    }
}

/// Everything that is left in the namespace ends with its PID 1.
#[test]
fn when_pid_1_ends_all_end() {
    for step in callers(step()) {
        let line = "sleep 1000 </dev/null >/dev/null 2>&1 & exit 7";
        let (_, ended) = Transcript::and_end(step.watch(["run", "sh", "-c", line]));
        assert_eq!(ended.nothing_left().status.code(), Some(7));
    }
}

/// The uid is 0 inside, and what it may do to the host's files is what its owner may.
#[test]
fn root_inside_may_read_what_the_caller_may_read() {
    for step in callers(step()) {
        let root = step.caller() == lab::Caller::Root;
        let code = if root { 0 } else { 1 };
        step.command(["run", "sh", "-c", "id -u; test -r /etc/shadow"])
            .assert()
            .code(code)
            .stdout("0\n");
    }
}

/// A process has a number in each PID namespace from its own up.
#[test]
fn a_container_in_a_container_has_three_numbers() {
    for step in callers(step()) {
        let outer = ["run", "--ti", step.name(), "run", "--ti", "/bin/sh"];
        let mut shell = lab::Session::start(step.watch_other(step.name(), outer));
        let tree = shell.tree();
        let pids: Vec<_> = tree.processes().iter().map(|process| process.pids.len()).collect();
        assert_eq!(pids, [1, 2, 3], "{}", tree.text());
        let [_, run, command] = tree.processes()[..] else { panic!("not three: {}", tree.text()) };
        assert_eq!(run.pids[1..], [1]);
        assert_eq!(command.pids[2..], [1]);
        assert_eq!(shell.ask("echo $$"), "1");
        shell.end().0.nothing_left();
        snapshots(|| assert_snapshot!("nested_tree", tree.renamed()));
    }
}

/// At a terminal, Ctrl-C goes to the job in the foreground, and not to the shell that started it.
#[test]
fn at_a_terminal_ctrl_c_ends_the_shells_job_and_not_the_shell() {
    for step in callers(step()) {
        let mut terminal = step.terminal(["run", "--ti", "/bin/sh"]);
        terminal.wait_for("/bin/sh\r\n");
        terminal.wait_for("# ");
        terminal.press("sh -c 'echo \"running\"; exec sleep 1000'\r");
        terminal.wait_for("\r\nrunning\r\n");
        terminal.press("\u{3}");
        terminal.wait_for("# ");
        terminal.press("echo I am $$\r");
        terminal.wait_for("I am 1\r\n");
        terminal.press("exit\r");
        let (ended, shown) = terminal.end();
        assert_eq!(ended.left, [""; 0]);
        // dash wants to give the terminal back to those from whom it has it. They have no number here.
        let dash = std::fs::canonicalize("/bin/sh").is_ok_and(|shell| shell.ends_with("dash"));
        let complains = shown.contains("Cannot set tty process group (No such process)");
        assert_eq!(complains, dash, "{shown}");
        assert_eq!(ended.status.code(), Some(if dash { 2 } else { 0 }));
    }
}

/// `init` asks whether its parent's children are born in this namespace. That is so of `run`, and of
/// whoever else made a namespace for it alone.
#[test]
fn init_takes_any_parent_that_has_made_the_namespace_for_it() {
    for step in callers(step()) {
        let path = step.path().to_string_lossy();
        let args = ["--user", "--map-root-user", "--pid", "--fork", &path, "init", "echo", "hi"];
        step.other("unshare", args).assert().code(0).stdout("hi\n");
    }
}

/// The calls of the lesson. Without root there are more: the refusal, and the user namespace.
#[test]
fn the_calls_are_those_of_the_lesson() {
    let lesson = [
        r"^(execve|clone3?|v?fork|unshare|prctl|wait4|exit_group)\(",
        r"^write\(.*/(setgroups|uid_map|gid_map)>",
        r"^readlink.*/ns/pid",
        r"^openat.*/proc/self/status",
        r"^getpid",
    ];
    for step in callers(step()) {
        let Some(trace) = step.trace(&["run", "/bin/true"], &lesson) else { return };
        let [run, init] = trace.by_process();
        let tries = run.iter().filter(|call| call.starts_with("unshare(")).count();
        assert!(init.iter().any(|call| call.starts_with("getpid()") && call.ends_with("= 1")));
        match step.caller() {
            lab::Caller::Root => {
                assert_eq!(tries, 1);
                snapshots(|| assert_snapshot!("trace_root", trace.renamed()));
            }
            lab::Caller::Rootless => {
                assert_eq!(tries, 2);
                snapshots(|| assert_snapshot!("trace_rootless", trace.renamed()));
            }
        }
    }
}

/// The words that a learner reads, from each place that stops a step. The chapter "Explain this error"
/// shows them.
#[test]
fn each_refusal_has_its_words() {
    use Hostile::*;
    for step in callers(step()) {
        let in_place = |place: Hostile, look: fn(String)| {
            place.words_of(&step).into_iter().for_each(|words| snapshots(|| look(words)));
        };
        in_place(Unmapped, |words| assert_snapshot!("refused_unshare", words));
        in_place(NoUserNamespaces, |words| assert_snapshot!("refused_user_limit", words));
        in_place(NoPidNamespaces, |words| assert_snapshot!("refused_pid_limit", words));
        in_place(NoNamespaces, |words| assert_snapshot!("refused_kernel", words));
        in_place(Forbidden, |words| assert_snapshot!("refused_module", words));
        in_place(NoRightsInside, |words| assert_snapshot!("refused_setgroups", words));
        in_place(Runc, |words| assert_snapshot!("refused_uid_map", words));
        in_place(NoProc, |words| assert_snapshot!("refused_no_proc", words));
        in_place(NoProcRootless, |words| assert_snapshot!("refused_no_proc_rootless", words));
        in_place(NoDev, |words| assert_snapshot!("refused_no_dev_null", words));
        in_place(FullOfProcesses, |words| assert_snapshot!("refused_processes", words));
    }
}

/// The kernel keeps no exit status for who ignores SIGCHLD, and exec passes that on. The command has run; what
/// it came to, nobody knows.
#[test]
fn where_sigchld_is_ignored_it_says_so() {
    for step in callers(step()) {
        let env = |option: &str, command: &[&str]| {
            let words = [&[option, "02-init-pid1", "run"], command].concat();
            Transcript::of(step.watch_other("env", words))
        };
        let refused = env("--ignore-signal=CHLD", &["true"]);
        snapshots(|| assert_snapshot!("status_lost", refused.renamed(&[r"run PID: (\d+)"])));
        let told = env("--default-signal=CHLD", &["sh", "-c", "exit 7"]);
        assert_eq!(told.status.code(), Some(7), "{}", told.text);
    }
}

/// The first child of a process that has made a PID namespace is its PID 1. When that is dead, nobody
/// can be born there.
#[test]
fn after_pid_1_has_died_no_process_can_be_born() {
    // Other shells do not say why they cannot fork.
    if !tools(&["bash", "unshare"]) {
        return;
    }
    for step in callers(step()) {
        let options: &[&str] = match step.caller() {
            lab::Caller::Root => &["--pid"],
            lab::Caller::Rootless => &["--user", "--map-root-user", "--pid"],
        };
        let line = [options, &["bash", "-c", "/bin/true; /bin/true; echo unreached"]].concat();
        let refusal = step.watch_other("unshare", line);
        let refusal = Transcript::of(refusal);
        assert!(refusal.printed.contains("fork: Cannot allocate memory\n"), "{}", refusal.text);
        if step.caller() == lab::Caller::Rootless {
            snapshots(|| assert_snapshot!("refused_fork", refusal.text));
        }
    }
}
