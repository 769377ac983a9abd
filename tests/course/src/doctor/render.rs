//! The report as text and as JSON.

use serde_json::{Value, json};

use super::{Report, Verdict};
use crate::print::{width, wrap};
use crate::style::{Style, paint};
use crate::workspace::called_as;

/// How far what belongs to a finding is indented.
const INDENT: usize = 9;

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::NotOk => "not ok",
            Verdict::Missing => "missing",
            Verdict::Note => "note",
        }
    }
}

impl Report {
    /// Renders it for people: a line for each check, and more if something is not ok.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let verdict = format!("{:<8}", finding.verdict.name());
            let line = format!("{verdict} {:<35} {}", finding.check, finding.needed_for);
            let fits = line.chars().count() <= width();
            let line = if fits { line } else { format!("{verdict} {}", finding.check) };
            let rest = line.trim_end().strip_prefix(&verdict).unwrap_or_default();
            let (verdict, rest) = match finding.verdict {
                Verdict::Ok => (paint(Style::Good, &verdict), rest.to_owned()),
                Verdict::NotOk => (paint(Style::Bad, &verdict), paint(Style::Bold, rest)),
                Verdict::Missing | Verdict::Note => (verdict, rest.to_owned()),
            };
            text += &format!("{verdict}{rest}\n");
            if !fits {
                add(&mut text, "", &finding.needed_for);
            }
            if let Some(found) = &finding.found {
                add(&mut text, "", found);
            }
            if let Some(cause) = &finding.cause {
                add(&mut text, "why:  ", &cause.why);
                let mark = if cause.tried { "" } else { " (not tried by us)" };
                add(&mut text, "fix:  ", &format!("{}{mark}", cause.fix));
                add(&mut text, "risk: ", cause.risk);
            }
        }
        let failing = self.steps_that(false);
        let line = if failing.is_empty() {
            "All steps can run.".to_owned()
        } else {
            let failing = failing.join(", ");
            let other =
                if self.other_user { " As an ordinary user, all steps can run." } else { "" };
            format!("Not all steps can run. These can't: {failing}.{other}")
        };
        let style = if failing.is_empty() { Style::Good } else { Style::Bad };
        text + &format!("\n{}\n", paint(style, &line))
    }

    /// Says what to do next.
    pub fn next(&self) -> String {
        let just = called_as();
        if self.all_steps() {
            format!("{just} test")
        } else {
            format!("apply the first fix above, and run {just} doctor again")
        }
    }

    /// Renders it for scripts: `all_steps`, `steps`, and `checks`, each with `check`, `verdict` (`ok`, `not ok`,
    /// `missing`, `note`), `for`, and, or null, `found`, `why`, `fix`, `risk`, `tried`
    /// (whether we saw the fix work).
    pub fn json(&self) -> Value {
        let checks = self.findings.iter().map(|finding| {
            let cause = finding.cause.as_ref();
            json!({
                "check": finding.check,
                "verdict": finding.verdict.name(),
                "for": finding.needed_for,
                "found": finding.found,
                "why": cause.map(|cause| &cause.why),
                "fix": cause.map(|cause| &cause.fix),
                "risk": cause.map(|cause| cause.risk),
                "tried": cause.map(|cause| cause.tried),
            })
        });
        let checks: Vec<_> = checks.collect();
        let steps = self.steps_that(true);
        json!({ "all_steps": self.all_steps(), "steps": steps, "checks": checks })
    }

    fn steps_that(&self, can: bool) -> Vec<String> {
        let steps = self.steps.iter().filter(|step| step.1 == can);
        steps.map(|(step, _)| format!("{step:02}")).collect()
    }
}

/// Adds words below a finding, after `head`, in lines that fit.
fn add(text: &mut String, head: &str, words: &str) {
    let words = wrap(&format!("{:INDENT$}{head}", ""), words);
    text.extend([words.trim_end(), "\n"]);
}
