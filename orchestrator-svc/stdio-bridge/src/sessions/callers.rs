//! A server of 2026-07-28, which has no sessions: each caller has a process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::{Request, Response};
use hyper::body::Incoming;

use super::{Own, Refused, Sessions};
use crate::{
    answer::Body,
    http::{Asked, id, not_taken},
    in_flight::{Admitted, InFlight},
    seats::Opener,
    stdio::is_subscription,
    told::Told,
};

/// The process of a caller. Locked while one is started: further requests of this caller wait for it.
type Slot = Arc<tokio::sync::Mutex<Weak<Own>>>;

/// The processes of callers, as long as they have any.
#[derive(Default)]
pub(super) struct Callers(Mutex<HashMap<Opener, Slot>>);

impl Callers {
    fn of(&self, caller: &Opener) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(caller) {
            return Arc::clone(slot);
        }
        // No more remain than there are processes and requests that wait for one.
        slots.retain(|_, slot| slot.try_lock().is_err() || Arc::strong_count(slot) > 1 || has_process(slot));
        let slot = Slot::default();
        slots.insert(caller.clone(), Arc::clone(&slot));
        slot
    }
}

fn has_process(slot: &Slot) -> bool {
    slot.try_lock().is_ok_and(|own| own.strong_count() > 0)
}

impl Sessions {
    /// Answers a request.
    pub(super) async fn modern(
        self: Arc<Self>,
        request: Request<Incoming>,
        discovered: &str,
        in_flight: &InFlight,
    ) -> Response<Body> {
        let asked = match Asked::read(request, &self.spec.limits).await {
            Ok(asked) => asked,
            Err(answer) => return *answer,
        };
        let message = match asked.request(discovered) {
            Ok(message) => message,
            Err(answer) => return *answer,
        };
        // A process that is started now ends before the bridge does.
        let Some(_admitted) = in_flight.admit() else {
            return not_taken(id(&message));
        };
        match self.of_caller(&Opener::of(&asked.headers)).await {
            Ok((own, admitted)) => {
                let response = own.endpoint.pass(&message, &asked.headers, in_flight).await;
                // It does not keep a process: neither did a stream without a request.
                match is_subscription(&message) {
                    true => response,
                    false => admitted.until_answered(response),
                }
            }
            Err(refused) => self.refuse(id(&message), refused),
        }
    }

    /// The process of a caller, with a request admitted.
    async fn of_caller(self: &Arc<Self>, caller: &Opener) -> Result<(Arc<Own>, Admitted), Refused> {
        let slot = self.callers.of(caller);
        let mut current = slot.lock().await;
        if let Some(own) = current.upgrade()
            // Else it ends.
            && let Some(admitted) = own.in_flight.admit()
        {
            return Ok((own, admitted));
        }
        let (own, admitted) = self.own(caller, Told::Nothing).await?;
        *current = Arc::downgrade(&own);
        Ok((own, admitted))
    }
}
