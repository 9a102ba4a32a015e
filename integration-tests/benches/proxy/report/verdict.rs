//! Whether figures meet their limits: one line each, which ends in `met` or `MISSED`.

use std::fmt::{self, Write as _};

use super::summary::{self, Summary, added_ratio, ratio};
use crate::{
    cores::Placement,
    load::{Figures, Party},
    rounds::Measured,
    scenario::Kind,
};

/// How much more than the plain load a variant of it may cost, where nginx's grows no more.
const GROWTH: f64 = 1.3;

/// The lines.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(String);

impl Verdicts {
    /// Those of a load, in each placement. `plain` is the load of which it is a variant.
    pub(crate) fn of_load(&mut self, measured: &Measured, plain: Option<&Measured>) {
        for placement in [Placement::Pinned, Placement::Unpinned] {
            let of = |party| measured.of(placement, party);
            if let (Some(gateway), Some(nginx)) = (of(Party::Gateway), of(Party::Nginx)) {
                self.of_gateway(measured.kind, placement, gateway, nginx);
                if let (Kind::Single, Placement::Pinned, Some(direct)) = (measured.kind, placement, of(Party::Upstream))
                {
                    let added = added_ratio(gateway, nginx, direct).median;
                    self.at_most("added median, 1 caller, pinned, of nginx's", added, 1.1, "");
                }
            }
            if let Some(plain) = plain {
                self.growth(measured, plain, placement);
            }
        }
    }

    fn of_gateway(&mut self, kind: Kind, placement: Placement, gateway: &[Figures], nginx: &[Figures]) {
        let throughput = ratio(gateway, nginx, summary::rate).median;
        let cpu = Summary::of(gateway).cpu() / Summary::of(nginx).cpu();
        match kind {
            Kind::Small => {
                self.at_most(
                    &format!("CPU of a 1 KB result, 64 callers, {placement}, of nginx's"),
                    cpu,
                    1.0,
                    "",
                );
                self.at_least(
                    &format!("throughput, 64 callers, {placement}, of nginx's"),
                    throughput,
                    1.0,
                );
            }
            Kind::Single => self.at_most(
                &format!("CPU of a 1 KB result, 1 caller, {placement}, of nginx's"),
                cpu,
                1.2,
                "",
            ),
            Kind::Large => self.at_most(
                &format!("CPU of a 100 KB result, {placement}, of nginx's"),
                cpu,
                1.0,
                "",
            ),
            Kind::SmallStreamed => {
                let sum = |figure: fn(&Figures) -> usize| gateway.iter().map(figure).sum::<usize>() as f64;
                let opened = sum(|round| round.connections) * 1e3 / sum(|round| round.calls);
                self.at_most(
                    &format!("connections for 1,000 SSE results, {placement}"),
                    opened,
                    10.0,
                    "",
                );
            }
            Kind::SmallTls | Kind::SmallMany | Kind::LargeTls | Kind::LargeStreamed | Kind::Cold => {}
        }
    }

    /// How much more CPU time a variant costs than the plain load. It may be more than [`GROWTH`] where nginx's grows more, too.
    fn growth(&mut self, measured: &Measured, plain: &Measured, placement: Placement) {
        let growth = |party| {
            let cpu = |measured: &Measured| Some(Summary::of(measured.of(placement, party)?).cpu());
            Some(cpu(measured)? / cpu(plain)?)
        };
        if let (Some(gateway), Some(nginx)) = (growth(Party::Gateway), growth(Party::Nginx)) {
            let title = measured.kind.title().rsplit_once(',').map_or("", |(what, _)| what);
            let what = format!("CPU of {title}, {placement}, of plain");
            self.at_most(&what, gateway, nginx.max(GROWTH), "");
        }
    }

    /// A figure that is met if it is no larger.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, wanted: f64, unit: &str) {
        self.line(what, measured, "<=", wanted, unit, measured <= wanted);
    }

    fn at_least(&mut self, what: &str, measured: f64, wanted: f64) {
        self.line(what, measured, ">=", wanted, "", measured >= wanted);
    }

    fn line(&mut self, what: &str, measured: f64, relation: &str, wanted: f64, unit: &str, is_met: bool) {
        let _ = writeln!(
            self.0,
            "  {what:<74} {measured:>7.2} {unit:<2}  wanted {relation} {wanted:>5.2} {unit:<2}  {}",
            if is_met { "met" } else { "MISSED" },
        );
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
