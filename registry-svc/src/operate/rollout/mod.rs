//! What follows from a change of an entry, in the background: its installations move to its current revision, or go with it.
//!
//! Level-triggered: an entry is marked unfinished in the transaction that changes it, and stays so until nothing is left to be
//! done. Each step is one bounded transaction, so that other writes get their turn. A step reads the state again before it acts: any replica may
//! run it, or several at once, and any may be killed in the middle.

mod rollouts;

use std::{sync::Arc, time::Duration};

use contracts::registry::{Entry, Installation};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Registry, written};
use crate::{
    domain::{
        Actor, Error, conditions,
        entry::EntrySpec,
        installation::{Step, Values, follow},
        time::timestamp,
    },
    store::{Tx, cleanup, consumers, entries, installations, revisions},
};

pub(crate) use rollouts::Rollouts;

/// How long a step may delay other writes, about: a call waits for a step, and for the gateways to put it in force.
const STEP: Duration = Duration::from_millis(7);
/// Installations that a step moves or deletes: the fewest, those of the first one, and the most.
const AT_ONCE: (i64, i64, i64) = (1, 16, 128);
/// A tool assignment takes less time than an installation.
const ASSIGNMENTS_TO_ONE: i64 = 4;
/// Work that another replica has left behind is found after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// After an error.
const PAUSE: Duration = Duration::from_millis(500);

/// How much one step does, learned from how long those before it took.
#[derive(Debug)]
struct Pace {
    installations: i64,
}

impl Pace {
    const fn new() -> Self {
        Self {
            installations: AT_ONCE.1,
        }
    }

    const fn assignments(&self) -> i64 {
        self.installations * ASSIGNMENTS_TO_ONE
    }

    /// Takes the duration of a step, from the lock to the commit.
    fn learn(&mut self, took: Duration) {
        let next = if took > STEP * 2 {
            self.installations / 2
        } else if took > STEP {
            self.installations - 1
        } else {
            self.installations + 1
        };
        self.installations = next.clamp(AT_ONCE.0, AT_ONCE.2);
    }
}

/// Works until `stop`.
pub(crate) async fn run(registry: Arc<Registry>, stop: CancellationToken) {
    // Where the search for unfinished entries continues.
    let mut behind = String::new();
    let mut pace = Pace::new();
    loop {
        let pause = match step(&registry, &mut behind, &mut pace).await {
            Ok(Some(took)) => {
                registry.rollouts.progress();
                // As long as a step took, it leaves the disk to others, but no longer than a step should take.
                tokio::select! {
                    () = tokio::time::sleep(took.min(STEP)) => continue,
                    () = stop.cancelled() => return,
                }
            }
            Ok(None) => LOOK_AGAIN,
            Err(error) => {
                tracing::warn!(error = %error, entry.uid = %behind, "a step of a rollout failed; trying again");
                PAUSE
            }
        };
        tokio::select! {
            () = registry.rollouts.woken() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One step; says how long its transaction took. `None`: nothing was to be done.
async fn step(registry: &Registry, behind: &mut String, pace: &mut Pace) -> Result<Option<Duration>, Error> {
    let mut tx = registry.db.read().await?;
    let found = entries::unfinished_after(&mut tx, behind).await?;
    drop(tx);
    if let Some(uid) = found {
        // One step for each entry in turn: a large entry, or one that fails, does not delay the others.
        behind.clone_from(&uid);
        let mut tx = registry.write(Actor::Registry).await?;
        let begin = Instant::now();
        if let Some(entry) = entries::by_uid(&mut tx, &uid).await? {
            advance(&mut tx, &entry, pace).await?;
            // A step that changed nothing watched gives its revision back: no watcher would ever acknowledge it.
            if tx.has_changes() {
                entries::set_rollout_revision(&mut tx, &uid).await?;
            }
        }
        tx.commit().await?;
        let took = begin.elapsed();
        pace.learn(took);
        return Ok(Some(took));
    }
    // Once a round, what is left of other deletions.
    let lap = !std::mem::take(behind).is_empty();
    let mut tx = registry.db.read().await?;
    let leftovers = consumers::has_leftovers(&mut tx).await? || cleanup::has_next(&mut tx).await?;
    drop(tx);
    if !leftovers {
        return Ok(lap.then_some(Duration::ZERO));
    }
    let mut tx = registry.write(Actor::Registry).await?;
    let begin = Instant::now();
    let more = consumers::delete_leftovers(&mut tx, pace.assignments()).await?;
    let removed = cleanup::remove_next(&mut tx).await?;
    tx.commit().await?;
    let took = begin.elapsed();
    pace.learn(took);
    Ok((lap || more || removed).then_some(took))
}

async fn advance(tx: &mut Tx, entry: &Entry, pace: &Pace) -> Result<(), Error> {
    if entry.delete_time.is_none() {
        return move_some(tx, entry, pace.installations).await;
    }
    let now = tx.now();
    let mut some = installations::of_entry(tx, &entry.uid, pace.installations).await?;
    if !some.is_empty() {
        for installation in &mut some {
            mark_deleted(installation, now);
        }
        return Ok(installations::update(tx, &mut some, 0).await?);
    }
    if !cleanup::remove_assignments_of_entry(tx, &entry.uid, pace.assignments()).await? {
        entries::set_unfinished(tx, &entry.uid, false).await?;
    }
    Ok(())
}

/// Moves up to `limit` installations to the current revision, or records what their owners must provide.
async fn move_some(tx: &mut Tx, entry: &Entry, limit: i64) -> Result<(), Error> {
    let number = entry.entry_revision;
    let mut some = installations::unsettled(tx, &entry.uid, number, limit).await?;
    if some.is_empty() {
        revisions::retire(tx, &entry.uid, number).await?;
        return Ok(entries::set_unfinished(tx, &entry.uid, false).await?);
    }
    let now = tx.now();
    let next = EntrySpec::of_revision(written(revisions::get(tx, &entry.uid, number).await?)?);
    let mut running: Option<(i64, EntrySpec)> = None;
    for installation in &mut some {
        let from = installation.running_entry_revision;
        // They come in the order of the revision they were settled at: nearly always all run the same one.
        let spec = match &running {
            Some((known, spec)) if *known == from => spec,
            _ => {
                let revision = written(revisions::get(tx, &entry.uid, from).await?)?;
                &running.insert((from, EntrySpec::of_revision(revision))).1
            }
        };
        settle(installation, spec, &next, number, now);
    }
    Ok(installations::update(tx, &mut some, number).await?)
}

/// Moves an installation that runs `running` to `next`, or holds it.
fn settle(installation: &mut Installation, running: &EntrySpec, next: &EntrySpec, number: i64, now: i64) {
    let values: Values = std::mem::take(&mut installation.values).into_iter().collect();
    match follow(running, next, &values) {
        Step::Move {
            values,
            runs_differently,
        } => {
            installation.values = values.into_iter().collect();
            installation.reinstall_required = None;
            installation.running_entry_revision = number;
            installation.generation += i64::from(runs_differently);
            installation.conditions =
                conditions::applicable(next.has_own_runtimes(), &installation.conditions, Some(timestamp(now)));
        }
        Step::Hold(why) => {
            installation.values = values.into_iter().collect();
            installation.reinstall_required = Some(why);
        }
    }
    installation.update_time = Some(timestamp(now));
    installation.state = conditions::state(installation).into();
}

/// Marks an installation deleted: it is removed once credential-svc and orchestrator-svc have reported their cleanup.
pub(super) fn mark_deleted(installation: &mut Installation, now: i64) {
    installation.delete_time = Some(timestamp(now));
    installation.update_time = Some(timestamp(now));
    installation.expire_time = None;
    installation.state = conditions::state(installation).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_about_as_long_as_it_may() {
        // What an installation takes, in microseconds, and how many are then moved at once.
        for (each, expected) in [(1, 128), (200, 35), (1_000, 7), (100_000, 1)] {
            let mut pace = Pace::new();
            for _ in 0..500 {
                pace.learn(Duration::from_micros(each * u64::try_from(pace.installations).unwrap()));
            }
            assert!((pace.installations - expected).abs() <= 1, "{each}: {pace:?}");
        }
    }
}
