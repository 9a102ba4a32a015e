//! The lease for running servers: one orchestrator holds it, and reports of others are refused.

use contracts::registry::{
    AcquireRuntimeLeaseRequest, AcquireRuntimeLeaseResponse, ReleaseRuntimeLeaseRequest, RuntimeLease,
};
use service_kit::status::Violations;

use super::Registry;
use crate::{
    domain::Error,
    store::{Tx, runtime_lease},
};

/// How long a lease lasts, in microseconds: after an orchestrator has died, no other starts servers before that.
const LASTS: i64 = 15_000_000;
const MAX_HOLDER: usize = 256;
/// Attempts to take a lease that others change meanwhile.
const TRIES: usize = 3;

/// Takes or renews the lease, if no other orchestrator holds it.
pub(crate) async fn acquire(
    registry: &Registry,
    request: &AcquireRuntimeLeaseRequest,
) -> Result<AcquireRuntimeLeaseResponse, Error> {
    let mut violations = Violations::new();
    if request.holder.is_empty() || request.holder.len() > MAX_HOLDER || request.holder.contains('\0') {
        violations.add("holder", format!("must have 1 to {MAX_HOLDER} bytes, none of them NUL"));
    }
    if request.epoch < 0 {
        violations.add("epoch", "must not be negative");
    }
    violations.into_result(())?;
    let clock = registry.clock.now_micros();
    // Most requests are of orchestrators on standby: they take no lock.
    let known = runtime_lease::get(&mut registry.db.read().await?, clock).await?;
    if let Err(others) = next(request, known.as_ref()) {
        return Ok(answer(false, others.lease.clone(), others.remaining));
    }
    for _ in 0..TRIES {
        let mut tx = registry.db.write_quietly().await?;
        let known = runtime_lease::get(&mut tx, clock).await?;
        let lease = match next(request, known.as_ref()) {
            Ok(lease) => lease,
            Err(others) => return Ok(answer(false, others.lease.clone(), others.remaining)),
        };
        let before = known.map(|known| known.lease);
        if runtime_lease::put(&mut tx, before.as_ref(), &lease, LASTS, clock).await? {
            tx.commit().await?;
            return Ok(answer(true, lease, LASTS));
        }
    }
    Err(Error::Internal(
        "the lease for running servers was changed by others during each attempt".to_owned(),
    ))
}

/// The lease that a request gets, or the one that another holds.
fn next<'a>(
    request: &AcquireRuntimeLeaseRequest,
    known: Option<&'a runtime_lease::Kept>,
) -> Result<RuntimeLease, &'a runtime_lease::Kept> {
    let of = |epoch| RuntimeLease {
        holder: request.holder.clone(),
        epoch,
    };
    let Some(known) = known else {
        return Ok(of(request.epoch.max(1)));
    };
    let runtime_lease::Kept { lease, remaining } = known;
    let is_own = lease.holder == request.holder;
    let renews = is_own && request.epoch == lease.epoch && request.epoch > 0;
    let is_free = *remaining <= 0 || (is_own && request.replaces);
    // A database that was restored has an older lease than the one that its holder renews.
    let is_older = request.epoch > lease.epoch && (is_own || is_free);
    if renews || is_older {
        Ok(of(request.epoch))
    } else if is_free {
        Ok(of(lease.epoch.saturating_add(1)))
    } else {
        Err(known)
    }
}

fn answer(held: bool, lease: RuntimeLease, remaining: i64) -> AcquireRuntimeLeaseResponse {
    let remaining = remaining.max(0);
    AcquireRuntimeLeaseResponse {
        held,
        lease: Some(lease),
        remaining: Some(prost_types::Duration {
            seconds: remaining / 1_000_000,
            nanos: i32::try_from(remaining % 1_000_000 * 1_000).unwrap_or_default(),
        }),
    }
}

/// Ends a lease, so that others need not wait until it expires.
pub(crate) async fn release(registry: &Registry, request: &ReleaseRuntimeLeaseRequest) -> Result<(), Error> {
    let Some(lease) = &request.lease else {
        return Err(Error::invalid("lease", "must be set"));
    };
    let clock = registry.clock.now_micros();
    let mut tx = registry.db.write_quietly().await?;
    if runtime_lease::put(&mut tx, Some(lease), lease, 0, clock).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Refuses what is not reported under the present lease. An orchestrator of a version without leases names none, and may report while no
/// other holds it.
pub(crate) async fn check(tx: &mut Tx, lease: Option<&RuntimeLease>, clock: i64) -> Result<(), Error> {
    let known = runtime_lease::get(tx, clock).await?;
    let is_present = match (lease, &known) {
        (Some(lease), Some(known)) => *lease == known.lease,
        (Some(_), None) => false,
        (None, known) => known.as_ref().is_none_or(|known| known.remaining <= 0),
    };
    if is_present { Ok(()) } else { Err(Error::LeaseLost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(holder: &str, epoch: i64, replaces: bool) -> AcquireRuntimeLeaseRequest {
        AcquireRuntimeLeaseRequest {
            holder: holder.to_owned(),
            epoch,
            replaces,
        }
    }

    fn kept(holder: &str, epoch: i64, remaining: i64) -> runtime_lease::Kept {
        let holder = holder.to_owned();
        runtime_lease::Kept {
            lease: RuntimeLease { holder, epoch },
            remaining,
        }
    }

    #[test]
    fn one_holds_it_and_the_epoch_grows_with_each_holder() {
        let epoch = |request: &AcquireRuntimeLeaseRequest, known: Option<&runtime_lease::Kept>| {
            next(request, known).ok().map(|lease| lease.epoch)
        };
        assert_eq!(epoch(&request("a", 0, true), None), Some(1));
        let held = kept("a", 4, 5);
        assert_eq!(epoch(&request("a", 4, false), Some(&held)), Some(4), "renewed");
        assert_eq!(epoch(&request("b", 0, true), Some(&held)), None, "another's");
        assert_eq!(
            epoch(&request("a", 0, true), Some(&held)),
            Some(5),
            "the next process of the same name"
        );
        assert_eq!(epoch(&request("a", 3, false), Some(&held)), None, "lost to it");
        assert_eq!(epoch(&request("a", 0, false), Some(&held)), None);
        let ended = kept("a", 4, 0);
        assert_eq!(
            epoch(&request("a", 4, false), Some(&ended)),
            Some(4),
            "late, and nobody took it"
        );
        assert_eq!(epoch(&request("b", 0, false), Some(&ended)), Some(5));
        // A restored database has an older one.
        assert_eq!(epoch(&request("a", 9, false), Some(&held)), Some(9));
        assert_eq!(epoch(&request("b", 9, false), Some(&ended)), Some(9));
        assert_eq!(epoch(&request("b", 9, false), Some(&held)), None);
        assert_eq!(epoch(&request("b", 9, false), None), Some(9));
    }
}
