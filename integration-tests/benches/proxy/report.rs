//! Tables of the figures, and whether they meet their limits.

use std::{fmt::Write as _, time::Duration};

use crate::{
    load::{Figures, Load},
    streams::Idle,
    tools::Tools,
};

/// Start times and memory.
pub(crate) struct Start {
    pub(crate) first: Duration,
    pub(crate) with_data: Duration,
    /// Resident memory in MB.
    pub(crate) idle: f64,
    pub(crate) idle_children: f64,
    pub(crate) after_load: f64,
}

/// The report.
#[derive(Default)]
pub(crate) struct Report {
    tables: String,
    verdicts: String,
    /// CPU time in microseconds that a JSON answer of 1 KB costs the gateway with 64 callers.
    json: Option<f64>,
}

/// The summary of all rounds of a target.
struct Summary {
    rate: f64,
    percentiles: [f64; 3],
    /// In microseconds.
    cpu_per_call: f64,
}

impl Summary {
    /// The medians of the rounds. CPU time is summed over all rounds, because its ticks are too coarse for a single
    /// one.
    fn of(rounds: &[Figures]) -> Self {
        let calls: usize = rounds.iter().map(|figures| figures.calls).sum();
        let cpu: Duration = rounds.iter().map(|figures| figures.cpu).sum();
        Self {
            rate: median(rounds.iter().map(|figures| figures.rate)),
            percentiles: [0, 1, 2].map(|index| median(rounds.iter().map(|figures| figures.percentiles[index]))),
            cpu_per_call: cpu.as_secs_f64() * 1e6 / calls as f64,
        }
    }
}

impl Report {
    /// Adds the rounds of the upstream, nginx and the gateway.
    pub(crate) fn add(&mut self, load: &Load, rounds: [Vec<Figures>; 3]) {
        let [direct, nginx, gateway] = rounds.each_ref().map(|rounds| Summary::of(rounds));
        let calls: usize = rounds.iter().flatten().map(|figures| figures.calls).sum();
        let _ = writeln!(
            self.tables,
            "\ntools/call, {}: {} rounds, {calls} calls\n  {:<10} {:>8} {:>8} {:>8} {:>9} {:>12}",
            load.title,
            rounds[0].len(),
            "",
            "req/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "CPU µs/call",
        );
        for (name, summary) in [("upstream", &direct), ("nginx", &nginx), ("gateway", &gateway)] {
            let [p50, p99, p999] = summary.percentiles;
            let _ = writeln!(
                self.tables,
                "  {name:<10} {:>8.0} {p50:>8.0} {p99:>8.0} {p999:>9.0} {:>12.1}",
                summary.rate, summary.cpu_per_call,
            );
        }
        // Ratios are taken between consecutive rounds, which ran under the same conditions.
        let throughput = median(
            rounds[2]
                .iter()
                .zip(&rounds[1])
                .map(|(ours, theirs)| ours.rate / theirs.rate),
        );
        let added = |summary: &Summary| summary.percentiles[0] - direct.percentiles[0];
        let (ours, theirs) = (added(&gateway), added(&nginx));
        let cpu = gateway.cpu_per_call / nginx.cpu_per_call;
        let _ = writeln!(
            self.tables,
            "  gateway : nginx   throughput {throughput:.2}, added median {:.2} ({ours:.0} µs : {theirs:.0} µs), CPU a call {cpu:.2}",
            ours / theirs,
        );
        match (load.callers, load.tool) {
            (64, "small") => {
                self.json = Some(gateway.cpu_per_call);
                self.verdict("throughput with 64 callers, of nginx's", throughput, ">=", 0.7, "");
                self.verdict("CPU with 64 callers, of nginx's", cpu, "<=", 2.5, "");
            }
            (_, "streamed") => {
                if let Some(json) = self.json {
                    self.verdict(
                        "CPU of an SSE result, of a JSON one's",
                        gateway.cpu_per_call / json,
                        "<=",
                        1.2,
                        "",
                    );
                }
                let of_gateway = |figure: fn(&Figures) -> usize| rounds[2].iter().map(figure).sum::<usize>() as f64;
                let opened = of_gateway(|round| round.connections) * 1e3 / of_gateway(|round| round.calls);
                self.verdict("connections opened for 1,000 SSE results", opened, "<=", 10.0, "");
            }
            (1, _) => self.verdict("added median with 1 caller, of nginx's", ours / theirs, "<=", 2.0, ""),
            (_, "large") => self.verdict("CPU of a 100 KB result, of nginx's", cpu, "<=", 1.0, ""),
            _ => {}
        }
    }

    /// Adds what idle sessions with streams cost.
    pub(crate) fn add_idle(&mut self, idle: &Idle) {
        self.verdict("memory of an idle session with a stream", idle.memory, "<=", 4.0, " KB");
        self.verdict(
            "CPU of a revision beside 10,000 streams",
            idle.revision,
            "<=",
            1.0,
            " ms",
        );
    }

    /// Adds what lists of many tools cost.
    pub(crate) fn add_tools(&mut self, tools: &Tools) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let _ = writeln!(
            self.tables,
            "\ntools: ping {:.2} ms, tools/list of 1,000 {:.2} ms, search_tools over 10,000 {:.2} ms; {:.0} ms for the first search",
            ms(tools.ping),
            ms(tools.list),
            ms(tools.search),
            ms(tools.first),
        );
        self.verdict("tools/list of 1,000 tools, all pages", ms(tools.list), "<=", 2.0, " ms");
        self.verdict("search_tools over 10,000 tools", ms(tools.search), "<=", 5.0, " ms");
    }

    /// The whole report.
    pub(crate) fn finish(mut self, start: &Start) -> String {
        self.verdict(
            "start to ready, first start",
            start.first.as_secs_f64(),
            "<=",
            1.0,
            " s",
        );
        self.verdict(
            "start to ready, with data",
            start.with_data.as_secs_f64(),
            "<=",
            1.0,
            " s",
        );
        self.verdict("memory when idle", start.idle, "<=", 80.0, " MB");
        format!(
            "{}\nmemory: {:.1} MB when idle, {:.1} MB more for the demo server and its bridge; {:.1} MB after the load\n\n{}",
            self.tables, start.idle, start.idle_children, start.after_load, self.verdicts,
        )
    }

    fn verdict(&mut self, what: &str, measured: f64, relation: &str, wanted: f64, unit: &str) {
        let met = if relation == ">=" {
            measured >= wanted
        } else {
            measured <= wanted
        };
        let _ = writeln!(
            self.verdicts,
            "  {what:<40} {measured:>7.2}{unit:<3}  wanted {relation} {wanted}{unit}  {}",
            if met { "met" } else { "MISSED" },
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
