//! How a container ends, and what it leaves behind: nothing.

use std::ffi::OsString;
use std::io::{Read, pipe};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use harness::soak::{Config, WRONG_STATUS};
use harness::{
    Caller, Context, Error, Event, Program, Requirement, Stepper, Supervisor, Transcript,
    helper_path,
};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::geteuid;

use super::result::{
    AND, CheckResult, During, and_then, ensure, ensure_clean, ensure_exits, how_it_died, pid_1,
    run, send,
};

/// Runs `init` where `run` didn't start it. It has to give the reason, and touch nothing.
fn ensure_refuses(program: &Program, supervisor: Supervisor, reason: &str) -> CheckResult {
    let path = program.path().to_string_lossy();
    let command = supervisor.command_line().replace(&*path, program.name());
    let (transcript, exit) =
        Transcript::run_with_exit(supervisor.on_scratch_host()).during(&command)?;
    let (status, printed) = (exit.shell_status(), &transcript.printed);
    let actual = format!("exit status {status}\n{printed}");
    ensure(status == 125, &command, "exit status 125", actual)?;
    ensure_refused(program, &command, printed, reason)?;
    ensure_clean(&command, &exit)
}

fn ensure_refused(program: &Program, command: &str, printed: &str, reason: &str) -> CheckResult {
    let line = format!("{}: init: {reason}", program.name());
    let wanted = format!("a message on standard error: {line}…");
    let shown = match printed.trim_end() {
        "" => "it printed nothing".to_owned(),
        printed => format!("it printed:\n{printed}"),
    };
    ensure(printed.contains(&line), command, wanted, shown)?;
    ensure(!printed.contains("unreached"), command, "the command doesn't run", printed)
}

/// On the host, `init` isn't PID 1.
pub(super) fn init_refuses_to_run_on_the_host(program: &Program) -> CheckResult {
    ensure_refuses(program, program.supervise(["init", "echo", "unreached"]), "our PID is ")
}

/// `init` can be PID 1 without `run`: in another container, or because `run` is dead already.
pub(super) fn init_refuses_other_parents(program: &Program) -> CheckResult {
    // An `init` that refuses every parent doesn't count.
    run(program, ["run", "true"])?.has_status(0)?;
    let reason = "our parent isn't run";
    // A PID namespace with its own /proc, as a container engine creates it.
    let engine = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let path = program.path().to_string_lossy();
    let args = [&engine[..], &[&path, "init", "echo", "unreached"]].concat();
    ensure_refuses(program, program.environment().supervise("unshare", args), reason)?;
    // PID 1 outlives the process that created its namespace, as if `run` had been killed too early.
    let script = "dir=$(mktemp -d); cd \"$dir\"; mkfifo up go; \
        unshare $1 --pid --fork \
            sh -c 'echo >up; read _ <go; exec \"$0\" init echo unreached' \"$0\" & \
        read _ <up; kill -KILL $!; wait $!; echo >go; cd /; rm -r \"$dir\"";
    let user = if program.caller() == Caller::Root { "" } else { "--user --map-root-user" };
    let orphan = program.environment().supervise("sh", ["-c", script, &path, user]);
    let command =
        format!("{} init echo unreached{AND}after the parent of `init` has died", program.name());
    let (transcript, exit) = Transcript::run_with_exit(orphan).during(&command)?;
    ensure_refused(program, &command, &transcript.printed, reason)?;
    ensure_clean(&command, &exit)?;
    ensure_looks_after_asking(program, reason)
}

/// `run` can also die just before `init` asks for the parent-death signal. An `init` that has looked at its parent
/// already doesn't notice. Without ptrace(2), this machine can't show that.
fn ensure_looks_after_asking(program: &Program, reason: &str) -> CheckResult {
    let args = ["run", "echo", "unreached"];
    let command = and_then(program, &args, "SIGKILL to `run` before `init` calls prctl");
    let (mut reader, writer) = pipe().context("pipe").during(&command)?;
    let to_stdout = writer.try_clone().context("dup").during(&command)?;
    let args = args.map(OsString::from);
    let user = program.environment().uid();
    let stepper = Stepper::start(program.path(), program.name(), &args, user, |helper| {
        helper.current_dir(program.directory()).stdout(to_stdout).stderr(writer);
        helper.stdin(Stdio::null());
    });
    let mut stepper = match stepper {
        Err(Error::Call { call, .. }) if call.starts_with("ptrace(") => return Ok(()),
        stepper => stepper.during(&command)?,
    };
    let run = stepper.pid();
    let (done, is_done) = channel::<()>();
    // Step by step, it takes longer.
    let timeout = program.timeout() * 4;
    let watchdog = thread::Builder::new().spawn(move || {
        if is_done.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
            let _ = killpg(run, Signal::SIGKILL);
        }
    });
    watchdog.context("start a thread").during(&command)?;
    let mut has_died = false;
    // To the end, and not to Event::AllSleep: on a busy machine, a process that is about to run may seem to sleep.
    while let Some(event) = stepper.next_event().during(&command)? {
        if let Event::Enter(pid, call) = event
            && pid != run
            && !has_died
            && call.asks_for_parent_death()
        {
            send(run.as_raw(), Signal::SIGKILL, &command)?;
            // `init` stands still until it has another parent.
            let dead = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(run), dead).context("waitid").during(&command)?;
            has_died = true;
        }
    }
    drop((stepper, done));
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).context("read").during(&command)?;
    let printed = String::from_utf8_lossy(&printed);
    if has_died { ensure_refused(program, &command, &printed, reason) } else { Ok(()) }
}

/// `run` reports a signal as a shell does, because a signal leaves no exit status.
pub(super) fn run_exits_128_plus_signal_of_init(program: &Program) -> CheckResult {
    let args = ["run", "--ti", "sh"];
    let command = and_then(program, &args, "SIGKILL to PID 1 from outside the container");
    let shell = program.session(args).during(&command)?;
    let tree = shell.tree().during(&command)?;
    send(pid_1(&tree, &command)?.pids[0], Signal::SIGKILL, &command)?;
    let (exit, _) = shell.wait().expecting(&command, "exit status 137")?;
    let status = how_it_died(exit.status);
    ensure(exit.status.code() == Some(137), &command, "exit status 137", status)?;
    ensure_clean(&command, &exit)
}

/// The container dies with `run`, whichever signal kills it.
pub(super) fn container_dies_with_run(program: &Program) -> CheckResult {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let command = format!("{} run --ti sh{AND}and {signal} to `run`", program.name());
        let mut shell = program.session(["run", "--ti", "sh"]).during(&command)?;
        // A background job would go on.
        shell.run("sleep 1000 </dev/null >/dev/null 2>&1 &").during(&command)?;
        let tree = shell.tree().during(&command)?;
        let has_three = tree.processes().len() >= 3;
        ensure(has_three, &command, "the processes `run`, sh and sleep", tree.text())?;
        shell.signal(signal).during(&command)?;
        let wanted = format!("exit status {}", 128 + signal as i32);
        let (exit, _) = shell.wait().expecting(&command, &wanted)?;
        ensure_clean(&command, &exit)?;
        ensure_exits(&command, &exit, 128 + signal as i32, "")?;
    }
    Ok(())
}

/// Ctrl-C ends `run --ti cat` and everything that belongs to it.
pub(super) fn ctrl_c_leaks_nothing(program: &Program) -> CheckResult {
    // Not a shell, even if it becomes cat at once. Some shells handle SIGINT, so they die of it even as PID 1.
    let command = format!("{} run --ti cat{AND}and Ctrl-C", program.name());
    let mut terminal = program.terminal(["run", "--ti", "cat"]).during(&command)?;
    terminal.send_keys("a line\r").during(&command)?;
    // The terminal shows what is typed, and then what cat prints.
    terminal.expect("a line\r\n").during(&command)?;
    terminal.expect("a line\r\n").during(&command)?;
    // Without a container there is nothing to leave behind.
    pid_1(&terminal.tree().during(&command)?, &command)?;
    terminal.send_keys("\u{3}").during(&command)?;
    let (exit, _) = terminal.end().expecting(&command, "exit status 130")?;
    ensure_clean(&command, &exit)?;
    ensure_exits(&command, &exit, 130, "")
}

/// A hundred runs on a host with a shared `/` leave no process, mount, or file. Two callers do half each. An answer is
/// ten runs, because a slow machine needs its time for each.
pub(super) fn hundred_runs_leak_nothing(program: &Program) -> CheckResult {
    let runs = if geteuid().is_root() { 50 } else { 100 };
    let line = "for n in 0 1 2 3 4 5 6 7 8 9; do \
             \"$0\" run true 2>said || { status=$?; cat said; exit $status; }; \
         done; rm said";
    let files = || std::fs::read_dir(program.directory()).map(Iterator::count).unwrap_or_default();
    let before = files();
    let all = if runs < 100 { "50 of the hundred runs" } else { "a hundred runs" };
    let command = format!("{} run true{AND}{all}, one after the other", program.name());
    for _ in 0..runs / 10 {
        let shell = program.script(line).on_scratch_host();
        let (transcript, exit) = Transcript::run_with_exit(shell).during(&command)?;
        let status = exit.shell_status();
        let actual = format!("exit status {status}\n{}", transcript.printed);
        ensure(status == 0, &command, "exit status 0", actual)?;
        ensure_clean(&command, &exit)?;
    }
    let actual = format!("{before} files before, and {} files after", files());
    ensure(files() == before, &command, "no file is left", actual)
}

/// Two hundred runs, a third of them killed at a random moment, leave nothing.
pub(super) fn killed_runs_leak_nothing(program: &Program) -> CheckResult {
    let config = Config {
        short: vec!["run true".to_owned()],
        long: Some("run sleep 1000".to_owned()),
        ..Config::default()
    };
    soak(program, config)
}

/// Soaks a program with two hundred runs, fifty for an answer. `course soak` does the same with two thousand.
///
/// # Errors
/// Something is left, or a run had an exit status that it may not have.
pub fn soak(program: &Program, config: Config) -> CheckResult {
    let needs = [Requirement::Caller(Caller::Rootless), Requirement::Tool("setpriv")];
    if needs.into_iter().any(|need| need.check().is_err()) {
        return Ok(());
    }
    // Half of the runs that root starts go without CAP_SYS_ADMIN. A container's root may never have it.
    let root_soaks = geteuid().is_root() && Requirement::Caller(Caller::Root).check().is_ok();
    if program.caller() == Caller::Rootless && root_soaks {
        return Ok(());
    }
    let line = config.long.as_deref().unwrap_or(&config.short[0]);
    let command = format!(
        "{} {line}{AND}200 runs. A third is killed at a random moment, and the others are `{}`",
        program.name(),
        config.short[0]
    );
    let mut config = Config {
        program: program.path().to_owned(),
        runs: 50,
        jobs: 16,
        patience: program.timeout(),
        ..config
    };
    let helper = helper_path().and_then(|path| Program::new(&path, program.caller()));
    let helper = helper.during(&command)?.named("harness-helper");
    let helper = helper.with_timeout(program.timeout());
    for seed in 1..=4 {
        config.seed = seed;
        let output = helper.supervise(config.args()).output().during(&command)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let status = output.exit.status;
        let expected = if status.code() == Some(WRONG_STATUS.into()) {
            "exit status 0, or 137 after SIGKILL to `run` or `init`"
        } else {
            "no process and no mount is left"
        };
        ensure(status.success(), &command, expected, said)?;
    }
    Ok(())
}
