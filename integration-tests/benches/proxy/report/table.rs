//! The figures of a load as a table.

use std::fmt::Write as _;

use super::summary::{self, Summary, added_ratio, ratio};
use crate::{
    cores::Placement,
    load::{Figures, Party},
    rounds::{Measured, Series},
};

/// All placements of a load.
pub(crate) fn of(measured: &Measured) -> String {
    let mut text = String::new();
    for placement in [Placement::Pinned, Placement::Unpinned] {
        let series: Vec<_> = measured
            .series
            .iter()
            .filter(|series| series.placement == placement)
            .collect();
        let Some(first) = series.first() else { continue };
        let calls: usize = series
            .iter()
            .flat_map(|series| &series.rounds)
            .map(|round| round.calls)
            .sum();
        let _ = writeln!(
            text,
            "\n{}, {placement}: {} rounds, {calls} calls\n  {:<9} {:>8} {:>8} {:>8} {:>9} {:>13} {:>8} {:>8}  {:<16} {:>15} {:>8} {:>8}",
            measured.kind.title(),
            first.rounds.len(),
            "",
            "calls/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "CPU µs/call",
            "user",
            "system",
            "quartiles",
            "upstream's CPU",
            "user",
            "system",
        );
        for series in &series {
            let _ = writeln!(text, "{}", row(series));
        }
        for series in &series {
            let _ = write!(text, "{}", comparison(measured, series));
        }
    }
    text
}

fn row(series: &Series) -> String {
    let summary = Summary::of(&series.rounds);
    // The upstream is no proxy, and an external gateway may run elsewhere.
    let own = if summary.cpu() > 0.0 {
        let quartiles = format!("{:.1} to {:.1}", summary.cpu.lower, summary.cpu.upper);
        format!(
            "{:>13.1} {:>8.1} {:>8.1}  {quartiles:<16}",
            summary.cpu(),
            summary.user,
            summary.system
        )
    } else {
        format!("{:>13} {:>8} {:>8}  {:<16}", "-", "-", "-", "-")
    };
    format!(
        "  {:<9} {:>8.0} {:>8.0} {:>8.0} {:>9.0} {own} {:>15.1} {:>8.1} {:>8.1}",
        series.party.name(),
        summary.calls.median,
        summary.p50.median,
        summary.p99.median,
        summary.p999.median,
        summary.upstream_user + summary.upstream_system,
        summary.upstream_user,
        summary.upstream_system,
    )
}

/// A gateway beside nginx, with the quartiles of the rounds.
fn comparison(measured: &Measured, series: &Series) -> String {
    if !matches!(series.party, Party::Gateway | Party::External) {
        return String::new();
    }
    let Some(nginx) = measured.of(series.placement, Party::Nginx) else {
        return String::new();
    };
    let ours: &[Figures] = &series.rounds;
    let mut text = format!(
        "  {} : nginx   throughput {}",
        series.party.name(),
        ratio(ours, nginx, summary::rate)
    );
    if Summary::of(ours).cpu() > 0.0 {
        let _ = write!(text, ", CPU a call {}", ratio(ours, nginx, summary::cpu));
    }
    if let Some(direct) = measured.of(series.placement, Party::Upstream) {
        let _ = write!(text, ", added median {}", added_ratio(ours, nginx, direct));
    }
    text.push('\n');
    text
}
