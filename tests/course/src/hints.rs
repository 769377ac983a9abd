//! The hints for each check, from `hints.txt`: a section `[check]`, and paragraphs, the broadest hint first.

/// Returns the hints for a check.
pub fn for_check(name: &str) -> Vec<String> {
    let head = format!("[{name}]");
    let mut lines = include_str!("../hints.txt").lines().skip_while(|line| *line != head).skip(1);
    let section: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with('[')).collect();
    let paragraphs = section.split(|line| line.is_empty());
    paragraphs.filter(|lines| !lines.is_empty()).map(|lines| lines.join(" ")).collect()
}

/// Lists the checks that have hints.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../hints.txt").lines();
    lines.filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
}
