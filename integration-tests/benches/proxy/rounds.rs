//! The rounds of one load: many short ones of all targets in turn, so that other work of the machine affects all alike.

use std::time::Duration;

use crate::{
    client::Client,
    cores::{Cores, Placement},
    load::{Figures, Party, load},
    scenario::{Kind, Running},
};

const ROUND: Duration = Duration::from_millis(700);
const WARM_UP: Duration = Duration::from_millis(400);

/// The rounds of one target in one placement.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) placement: Placement,
    pub(crate) party: Party,
    pub(crate) rounds: Vec<Figures>,
}

/// All rounds of a load. A round of a series was measured right before or after the same round of the others.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    pub(crate) series: Vec<Series>,
}

impl Measured {
    /// The rounds of this target in this placement, if it was measured.
    pub(crate) fn of(&self, placement: Placement, party: Party) -> Option<&[Figures]> {
        let series = self.series.iter();
        let mut found = series.filter(|series| series.placement == placement && series.party == party);
        found.next().map(|series| &series.rounds[..])
    }
}

/// Measures a load in all placements.
pub(crate) async fn measure(running: &Running, cores: &Cores, kind: Kind, rounds: usize) -> Measured {
    let targets = running.targets(kind);
    let upstream = running.upstream.pid();
    let mut series: Vec<Series> = Vec::new();
    for placement in cores.placements() {
        series.extend(targets.iter().map(|target| Series {
            placement: *placement,
            party: target.party,
            rounds: Vec::new(),
        }));
    }
    for target in &targets {
        load(target.clone(), kind.load(), upstream, WARM_UP).await;
    }
    let mut connections = Client::connect(&running.upstream.plain).await;
    for round in 0..rounds {
        for turn in 0..series.len() {
            // Forwards and backwards, so that nobody is always measured after the same.
            let index = if round % 2 == 0 { turn } else { series.len() - 1 - turn };
            let Series { placement, rounds, .. } = &mut series[index];
            let target = &targets[index % targets.len()];
            cores.place(*placement, &target.processes, &[upstream]);
            let before = connections.connections(&running.upstream.plain).await;
            let mut figures = load(target.clone(), kind.load(), upstream, ROUND).await;
            figures.connections = connections.connections(&running.upstream.plain).await - before;
            rounds.push(figures);
        }
    }
    for target in &targets {
        cores.place(Placement::Unpinned, &target.processes, &[upstream]);
    }
    Measured { kind, series }
}
