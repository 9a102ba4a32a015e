//! How many processes each caller may have, where each session has one.
//!
//! Callers share the processes that there are, and one caller gets no more than half of them. One more is for the gateway itself, which lists
//! the server's tools: callers cannot take it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Names the caller in `initialize`: the same opaque text for the same caller. Removed from requests to servers.
pub const CALLER_HEADER: &str = "chandlery-caller";

/// Who opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Opener {
    /// The gateway itself, not for a caller.
    Gateway,
    Caller(Box<[u8]>),
}

impl Opener {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let caller = headers.get(CALLER_HEADER);
        caller.map_or(Self::Gateway, |caller| Self::Caller(caller.as_bytes().into()))
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// All are taken.
    All,
    /// The caller has its share.
    Share,
}

/// One for each process that a session may have.
pub(crate) struct Seats {
    callers: Arc<Semaphore>,
    gateway: Arc<Semaphore>,
    /// The most for one caller.
    each: usize,
    /// Of callers who have or wait for seats; others are removed with the next new caller.
    shares: Mutex<HashMap<Opener, Weak<Semaphore>>>,
}

/// The right to one process, until it is dropped.
pub(crate) struct Seat {
    opener: Opener,
    /// Of the opener's own.
    share: OwnedSemaphorePermit,
    /// Of those for all callers.
    _common: Option<OwnedSemaphorePermit>,
}

impl Seat {
    pub(crate) fn opener(&self) -> &Opener {
        &self.opener
    }
}

impl Seats {
    /// `callers` is the number for all callers together.
    pub(crate) fn new(callers: usize) -> Self {
        Self {
            callers: Arc::new(Semaphore::new(callers)),
            gateway: Arc::new(Semaphore::new(1)),
            each: callers.div_ceil(2),
            shares: Mutex::default(),
        }
    }

    /// The most that one caller gets.
    pub(crate) fn each(&self) -> usize {
        self.each
    }

    /// A seat that is free.
    pub(crate) fn try_take(&self, opener: &Opener) -> Result<Seat, Busy> {
        let share = self.share(opener).try_acquire_owned();
        let share = share.map_err(|_| self.refusal(opener))?;
        let common = match opener {
            Opener::Gateway => None,
            Opener::Caller(_) => Some(Arc::clone(&self.callers).try_acquire_owned().map_err(|_| Busy::All)?),
        };
        Ok(Seat::new(opener, share, common))
    }

    /// Waits for a seat.
    pub(crate) async fn take(&self, opener: &Opener) -> Result<Seat, Busy> {
        let share = self.share(opener).acquire_owned().await;
        let share = share.map_err(|_| self.refusal(opener))?;
        let common = match opener {
            Opener::Gateway => None,
            Opener::Caller(_) => {
                let common = Arc::clone(&self.callers).acquire_owned().await;
                Some(common.map_err(|_| Busy::All)?)
            }
        };
        Ok(Seat::new(opener, share, common))
    }

    /// How many seats the one who has this seat has, or is about to get.
    pub(crate) fn held(&self, seat: &Seat) -> usize {
        self.each.saturating_sub(seat.share.semaphore().available_permits())
    }

    fn refusal(&self, opener: &Opener) -> Busy {
        match opener {
            Opener::Gateway => Busy::All,
            Opener::Caller(_) => Busy::Share,
        }
    }

    fn share(&self, opener: &Opener) -> Arc<Semaphore> {
        if *opener == Opener::Gateway {
            return Arc::clone(&self.gateway);
        }
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(opener).and_then(Weak::upgrade) {
            return share;
        }
        // No more remain than there are seats and requests that wait for one.
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        shares.insert(opener.clone(), Arc::downgrade(&share));
        share
    }
}

impl Seat {
    fn new(opener: &Opener, share: OwnedSemaphorePermit, common: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            opener: opener.clone(),
            share,
            _common: common,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
        task::Poll,
    };

    use pretty_assertions::assert_eq;

    use super::*;

    fn caller(name: &str) -> Opener {
        Opener::Caller(name.as_bytes().into())
    }

    fn taken(seats: &Seats, opener: &Opener, number: usize) -> Vec<Seat> {
        (0..number).map(|_| seats.try_take(opener).ok().unwrap()).collect()
    }

    #[test]
    fn one_caller_gets_no_more_than_half() {
        let seats = Seats::new(4);
        let mut alice = taken(&seats, &caller("alice"), 2);
        assert_eq!(seats.try_take(&caller("alice")).err(), Some(Busy::Share));
        let bob = taken(&seats, &caller("bob"), 1);
        assert_eq!((seats.held(&alice[0]), seats.held(&bob[0])), (2, 1));
        let carol = taken(&seats, &caller("carol"), 1);
        assert_eq!(seats.try_take(&caller("bob")).err(), Some(Busy::All));
        assert_eq!(seats.held(&bob[0]), 1, "the refused seat is not kept");
        drop(carol);
        assert_eq!(seats.try_take(&caller("alice")).err(), Some(Busy::Share));
        alice.pop();
        assert!(seats.try_take(&caller("alice")).is_ok());
    }

    #[test]
    fn callers_cannot_take_the_gateways_own_seat() {
        for (number, each) in [(1, 1), (2, 1), (4, 2)] {
            let seats = Seats::new(number);
            let callers = ["alice", "bob"].iter().take(number / each);
            let _theirs: Vec<_> = callers.map(|name| taken(&seats, &caller(name), each)).collect();
            let own = taken(&seats, &Opener::Gateway, 1);
            assert_eq!(seats.try_take(&Opener::Gateway).err(), Some(Busy::All), "{number}");
            drop(own);
            assert_eq!(seats.try_take(&caller("carol")).err(), Some(Busy::All), "{number}");
            assert!(seats.try_take(&Opener::Gateway).is_ok(), "{number}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_gets_a_seat_of_their_share_when_one_is_free() {
        let seats = Seats::new(2);
        let alice = taken(&seats, &caller("alice"), 1);
        let (again, carol) = (caller("alice"), caller("carol"));
        // A seat is free, but she has her share.
        let mut again = pin!(seats.take(&again));
        assert!(waits(again.as_mut()).await);
        let bob = taken(&seats, &caller("bob"), 1);
        let mut carol = pin!(seats.take(&carol));
        assert!(waits(carol.as_mut()).await);
        let mut own = pin!(seats.take(&Opener::Gateway));
        assert!(!waits(own.as_mut()).await, "the gateway has a seat of its own");
        drop(bob);
        let carol = carol.await.ok().unwrap();
        assert!(waits(again.as_mut()).await);
        drop(alice);
        assert_eq!(again.await.ok().unwrap().opener(), &caller("alice"));
        assert_eq!(carol.opener(), &caller("carol"));
    }

    async fn waits(mut seat: Pin<&mut impl Future<Output = Result<Seat, Busy>>>) -> bool {
        poll_fn(|cx| Poll::Ready(seat.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn a_session_that_names_no_caller_is_the_gateways() {
        let mut headers = HeaderMap::new();
        assert_eq!(Opener::of(&headers), Opener::Gateway);
        headers.insert(CALLER_HEADER, "alice".parse().unwrap());
        assert_eq!(Opener::of(&headers), caller("alice"));
    }

    #[test]
    fn callers_who_have_none_are_forgotten() {
        let seats = Seats::new(2);
        for name in ["alice", "bob", "carol"] {
            drop(taken(&seats, &caller(name), 1));
        }
        assert_eq!(seats.shares.lock().unwrap().len(), 1);
    }
}
