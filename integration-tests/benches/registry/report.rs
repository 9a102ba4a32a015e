//! The figures and whether they meet their limits, one line each.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use crate::database::engine::Engine;

/// Prints progress to standard error. Figures are printed elsewhere.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// All figures so far.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<String>,
}

/// The limit of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
    /// No limit.
    Nothing,
}

impl Report {
    /// Adds a figure. The verdict is the last word of its line.
    pub(crate) fn figure(&mut self, on: Option<Engine>, what: &str, measured: f64, unit: &str, wanted: Wanted) {
        let (met, limit) = match wanted {
            Wanted::AtMost(limit) => (measured <= limit, format!("<= {limit} {unit}")),
            Wanted::AtLeast(limit) => (measured >= limit, format!(">= {limit} {unit}")),
            Wanted::Nothing => (true, "-".to_owned()),
        };
        let verdict = match (wanted, met) {
            (Wanted::Nothing, _) => "told",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let on = on.map_or_else(String::new, |engine| engine.to_string());
        let measured = format!("{measured:.*} {unit}", decimals(measured));
        self.line(format!("{on:<8}  {what:<84} {measured:>14}  {limit:<11} {verdict}"));
    }

    /// Adds a figure that could not be measured.
    pub(crate) fn failed(&mut self, on: Option<Engine>, what: &str, why: &str) {
        let on = on.map_or_else(String::new, |engine| engine.to_string());
        self.line(format!("{on:<8}  {what}: not measured: {why}  MISSED"));
    }

    fn line(&mut self, line: String) {
        say(&format!("  {line}"));
        self.lines.push(line);
    }

    /// All lines.
    pub(crate) fn finish(self) -> String {
        let missed = self.lines.iter().filter(|line| line.ends_with("MISSED")).count();
        let mut text = self.lines.join("\n");
        let _ = writeln!(text, "\n\n{} lines, {missed} MISSED", self.lines.len());
        text
    }
}

fn decimals(value: f64) -> usize {
    match value {
        _ if value >= 1_000.0 => 0,
        _ if value >= 100.0 => 1,
        _ => 2,
    }
}

/// Latencies of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Adds the time since `begin`.
    pub(crate) fn since(&mut self, begin: Instant) {
        self.0.push(begin.elapsed());
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; 0 if there are no calls.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    /// In milliseconds.
    pub(crate) fn longest(&self) -> f64 {
        self.percentile(1.0)
    }
}

/// A line of `/proc/PID/status`, such as `VmRSS` or `VmHWM`, in MB.
pub(crate) fn memory(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
