//! What many rounds say together.

use std::fmt;

use crate::{load::Figures, usage::Cpu};

/// The median of all rounds, and the quartiles, between which half of them are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // Between two values, in proportion.
        let at = |share: f64| {
            let place = values.len().saturating_sub(1) as f64 * share;
            let below = values.get(place.floor() as usize).copied().unwrap_or(f64::NAN);
            let above = values.get(place.ceil() as usize).copied().unwrap_or(f64::NAN);
            below + (above - below) * place.fract()
        };
        Self {
            lower: at(0.25),
            median: at(0.5),
            upper: at(0.75),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lower, median, upper } = self;
        write!(f, "{median:.2} ({lower:.2} to {upper:.2})")
    }
}

/// The rounds of one target in one placement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    /// A second.
    pub(crate) calls: Spread,
    /// In microseconds.
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
    pub(crate) p999: Spread,
    /// The CPU time of a call in microseconds: of all rounds together, since its ticks are too coarse for one, and how the rounds differ.
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) cpu: Spread,
    /// That of the upstream.
    pub(crate) upstream_user: f64,
    pub(crate) upstream_system: f64,
}

impl Summary {
    pub(crate) fn of(rounds: &[Figures]) -> Self {
        let spread = |figure: fn(&Figures) -> f64| Spread::of(rounds.iter().map(figure));
        let calls: usize = rounds.iter().map(|round| round.calls).sum();
        let a_call = |time: std::time::Duration| time.as_secs_f64() * 1e6 / calls as f64;
        let proxy: Cpu = rounds.iter().map(|round| round.proxy).sum();
        let upstream: Cpu = rounds.iter().map(|round| round.upstream).sum();
        Self {
            calls: spread(rate),
            p50: spread(|round| round.percentiles[0]),
            p99: spread(|round| round.percentiles[1]),
            p999: spread(|round| round.percentiles[2]),
            user: a_call(proxy.user),
            system: a_call(proxy.system),
            cpu: spread(cpu),
            upstream_user: a_call(upstream.user),
            upstream_system: a_call(upstream.system),
        }
    }

    /// CPU time of a call in microseconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// Calls a second.
pub(crate) fn rate(round: &Figures) -> f64 {
    round.calls as f64 / round.elapsed.as_secs_f64()
}

/// CPU time of a call in microseconds.
pub(crate) fn cpu(round: &Figures) -> f64 {
    round.proxy.total().as_secs_f64() * 1e6 / round.calls as f64
}

/// How the figures of two targets compare in rounds that were measured one after another, and so under the same conditions.
pub(crate) fn ratio(ours: &[Figures], theirs: &[Figures], figure: fn(&Figures) -> f64) -> Spread {
    Spread::of(
        ours.iter()
            .zip(theirs)
            .map(|(ours, theirs)| figure(ours) / figure(theirs)),
    )
}

/// How the medians compare that two targets add to those of the upstream.
pub(crate) fn added_ratio(ours: &[Figures], theirs: &[Figures], direct: &[Figures]) -> Spread {
    let rounds = ours.iter().zip(theirs).zip(direct);
    Spread::of(rounds.map(|((ours, theirs), direct)| {
        let added = |round: &Figures| round.percentiles[0] - direct.percentiles[0];
        added(ours) / added(theirs)
    }))
}
