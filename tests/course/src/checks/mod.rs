//! The one list of checks: what each step promises. The steps are tested by it, and learners are graded by it.

mod command_line;
mod lifetime;
mod limits;
mod pid_namespace;
mod private_proc;
mod reaping;
mod result;
mod signals;
mod spawning;
mod terminal;

use std::ops::RangeInclusive;

use harness::{Error, Program, Requirement, Result};

use crate::step::Step;

pub use lifetime::soak;
pub use result::{AND, CheckFailure, CheckResult, MOUNTS_CHANGED, ensure};

/// Something that a step does.
#[derive(Debug)]
pub struct Check {
    /// Its name, which is the name of its function and of its hints.
    pub name: &'static str,
    /// The steps that do it: every later one, too, unless another step does something else instead.
    steps: RangeInclusive<u32>,
    /// The programs without which this machine can't show it.
    tools: &'static [&'static str],
    function: fn(&Program) -> CheckResult,
}

impl Check {
    /// Runs the check on `program`. Without the tools that it needs, it passes.
    ///
    /// # Errors
    /// The check failed. The failure says what was expected and what happened.
    pub fn run(&self, program: &Program) -> CheckResult {
        if self.tools.iter().any(|tool| Requirement::Tool(tool).check().is_err()) {
            return Ok(());
        }
        (self.function)(program)
    }

    /// Whether the step is the first that passes the check.
    pub fn is_new_in(&self, step: &Step) -> bool {
        *self.steps.start() == step.number
    }

    /// Whether the check looks for what runs leave behind, whatever the reason.
    pub fn looks_for_leaks(&self) -> bool {
        self.name.contains("_leak_") || self.name.contains("_leaks_")
    }

    /// Returns the name in words, with its subject.
    pub fn title(&self) -> String {
        let word = |word: &str| match word {
            "pid" | "cpu" => word.to_uppercase(),
            "pids" => "PIDs".to_owned(),
            "ti" => "--ti".to_owned(),
            "proc" => "/proc".to_owned(),
            signal if signal.starts_with("sig") && !signal.starts_with("sign") => {
                signal.to_uppercase()
            }
            word => word.to_owned(),
        };
        let mut words: Vec<_> = self.name.split('_').map(word).collect();
        match words[0].as_str() {
            "passes" | "reports" | "starts" | "tolerates" => words.insert(0, "run".to_owned()),
            "masks" | "protects" | "reaps" | "refuses" => words.insert(0, "init".to_owned()),
            _ => {}
        }
        let title = words.join(" ").replace("dev null", "/dev/null");
        title.replace("ctrl c", "Ctrl-C").replace("ctrl z", "Ctrl-Z")
    }
}

macro_rules! checks {
    ($($module:ident::$function:ident: $first:literal $(to $last:literal)? $(with $($tool:literal)+)?;)*) => {
        &[$(Check {
            name: stringify!($function),
            steps: $first..=checks!(@last $($last)?),
            tools: &[$($($tool),+)?],
            function: $module::$function,
        }),*]
    };
    (@last) => { u32::MAX };
    (@last $last:literal) => { $last };
}

/// Every check, with the first step that passes it, the last if that isn't the last of all, and the tools that it needs.
/// The order is the one in which one would write the step.
const CHECKS: &[Check] = checks! {
    // Step 01.
    spawning::command_starts_a_child: 1 to 1;
    spawning::command_passes_on_exit_status: 1 to 1;
    spawning::exec_becomes_the_program: 1 to 1;
    spawning::failed_start_exits_126_or_127: 1 to 1;
    spawning::program_gets_its_arguments: 1 to 1;
    spawning::program_inherits_environment_unchanged: 1 to 1;

    // Step 02. The later ones promise most of it, too.
    pid_namespace::root_gets_a_pid_namespace: 2 to 3 with "unshare";
    pid_namespace::ordinary_user_is_root_inside: 2 to 3;
    command_line::run_and_init_report_their_pids: 2;
    lifetime::init_refuses_to_run_on_the_host: 2;
    lifetime::container_dies_with_run: 2;
    lifetime::init_refuses_other_parents: 2 with "unshare";
    pid_namespace::command_is_pid_1: 2 to 3;

    // Step 03.
    private_proc::command_has_its_own_mounts: 3;
    private_proc::mounts_are_private: 3;
    private_proc::ps_shows_only_the_container: 3 to 3;
    private_proc::proc_is_nosuid_nodev_noexec: 3;
    private_proc::host_proc_is_unharmed: 3;

    // Step 04.
    reaping::command_is_child_of_init: 4;
    reaping::command_exit_ends_container: 4;
    reaping::command_killed_by_signal_34_exits_162: 4;
    reaping::orphan_deaths_keep_command_status: 4;
    reaping::dead_orphan_is_reaped: 4;
    reaping::idle_container_uses_no_cpu: 4;
    reaping::orphan_killed_by_signal_34_is_reaped: 4;
    reaping::ignored_sigchld_is_refused: 4;

    // Step 05.
    signals::exec_restores_the_signal_mask: 5 to 5;
    signals::signal_to_pid_1_reaches_command: 5;
    signals::signal_after_orphan_death_reaches_command: 5;
    signals::reaps_orphans_that_die_together: 5;
    signals::signal_to_run_reaches_command: 5;
    signals::each_signal_arrives_once: 5;
    signals::no_signal_is_lost_at_startup: 5;
    signals::own_sigpipe_is_not_forwarded: 5;
    signals::stop_signal_stops_run: 5 to 5;
    signals::pipe_closed_by_command_is_closed: 5;

    // Step 06.
    terminal::stop_signal_stops_run_and_command: 6;
    terminal::ctrl_c_reaches_command_once: 6;
    terminal::early_ctrl_c_reaches_command: 6;
    terminal::stopped_command_stops_run: 6;
    terminal::command_that_ignores_ctrl_z_keeps_terminal: 6 with "bash";
    terminal::fg_after_suspend_resumes_shell_inside: 6 with "bash";
    terminal::script_reads_terminal_after_run: 6 with "bash";
    terminal::background_run_leaves_terminal_to_shell: 6 with "bash";

    // Step 07.
    limits::clock_starts_at_zero: 7;
    limits::clock_of_nested_container_starts_at_zero: 7;
    limits::masks_files: 7;
    limits::masks_directories: 7;
    limits::failed_mask_exits_125: 7;
    limits::refuses_false_dev_null: 7 with "unshare" "mount";
    limits::protects_kernel_settings: 7;

    // Every step from 02 on promises these.
    command_line::passes_on_exit_status: 2;
    command_line::exec_failure_exits_126_or_127: 2;
    command_line::usage_error_exits_2: 2;
    command_line::arguments_arrive_byte_for_byte: 2;
    command_line::ti_passes_on_standard_input: 2;
    command_line::starts_shell_by_default: 2;
    command_line::command_inherits_environment_unchanged: 2;
    command_line::tolerates_closed_stdio: 2;
    lifetime::run_exits_128_plus_signal_of_init: 2;
    lifetime::ctrl_c_leaks_nothing: 2;
    lifetime::hundred_runs_leak_nothing: 2;
    lifetime::killed_runs_leak_nothing: 2;
    command_line::reports_unshare_failure: 2 with "unshare" "setpriv";
};

/// The check of the simplest command line, which most others need. It's in no list, because it promises nothing new.
const SIMPLEST: Check = Check {
    name: "simplest_command_exits_0",
    steps: 2..=u32::MAX,
    tools: &[],
    function: command_line::runs_true,
};

/// Returns the check of the simplest command line, if there is one. In step 01, the first checks are as simple.
pub fn simplest(step: &Step) -> Option<&'static Check> {
    SIMPLEST.steps.contains(&step.number).then_some(&SIMPLEST)
}

/// Lists a step's checks: what is new in it comes first.
pub fn for_step(step: &Step) -> Vec<&'static Check> {
    let applies = |check: &&Check| check.steps.contains(&step.number);
    let (new, old): (Vec<_>, Vec<_>) =
        CHECKS.iter().filter(applies).partition(|check| check.is_new_in(step));
    [new, old].concat()
}

/// Finds the checks that a learner means: the one of this name, or those whose names contain it. Spaces, hyphens, and
/// underscores are the same.
///
/// # Errors
/// No check of the step matches; the message has their names.
pub fn matching(step: &Step, name: &str) -> Result<Vec<&'static Check>> {
    let normal = |name: &str| {
        name.trim_start_matches(['/', '-'])
            .to_lowercase()
            .replace([' ', '-', '/'], "_")
            .replace("__", "_")
    };
    let wanted = normal(name);
    let checks = for_step(step);
    let is_it = |check: &&&Check| check.name == wanted || normal(&check.title()) == wanted;
    if let Some(exact) = checks.iter().find(is_it) {
        return Ok(vec![exact]);
    }
    let is_meant = |check: &&Check| check.name.contains(&wanted);
    let found: Vec<_> = checks.iter().copied().filter(is_meant).collect();
    if found.is_empty() {
        let names: Vec<_> = checks.iter().map(|check| check.name).collect();
        let message = format!("{step} has no check {name:?}; it has:\n  {}", names.join("\n  "));
        return Err(Error::new(message));
    }
    Ok(found)
}

/// Lists the names of all checks.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}
