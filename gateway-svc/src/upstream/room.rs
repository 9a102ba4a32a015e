//! The memory budget for answers. A long answer waits for room, and its server with it, so that the gateway never holds more than the budget.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use service_kit::per_caller::PerCaller;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::UpstreamError;

/// This much of each answer is not counted: almost all are shorter.
pub(super) const FREE: usize = 256 << 10;

/// The wait for a turn, as a multiple of the wait for room.
const TURN: u32 = 5;

/// Bytes of one permit.
const UNIT: usize = 1 << 10;

/// How much of long answers may be in memory at a time, and how long an answer waits for others to be released.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Arc<Semaphore>,
    own: PerCaller,
    /// Bytes for each caller.
    each: usize,
    /// Limits those with long answers kept [`Together`]: one of each caller at a time, and a number of all callers'.
    own_together: PerCaller,
    all_together: Arc<Semaphore>,
    patience: Duration,
}

/// Answers that are kept until the last of them has arrived: those to one batch. A batch that keeps some answers waits for room for more, and two
/// such batches could wait for each other. So no more batches may have long answers at a time than cannot take all the room together;
/// the next one begins when one of them has all of its answers.
#[derive(Debug, Default)]
pub(crate) struct Together(OnceCell<[OwnedSemaphorePermit; 2]>);

impl Together {
    /// How much may be kept. It leaves a caller room for two more of the longest answers.
    pub(crate) const MOST: usize = 32 << 20;

    async fn begins(&self, rooms: &Rooms, caller: &Arc<str>) -> Option<()> {
        let turn = || async {
            // The caller's own first: a caller that waits for itself holds nothing that is for all.
            let own = rooms.own_together.of(caller).acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>([own, Arc::clone(&rooms.all_together).acquire_owned().await?])
        };
        self.0.get_or_try_init(turn).await.ok().map(drop)
    }
}

impl Rooms {
    /// `total` bytes, `each` of them for one caller.
    pub(super) fn new(total: usize, each: usize, patience: Duration) -> Self {
        Self {
            all: Arc::new(Semaphore::new(total / UNIT)),
            own: PerCaller::new(each / UNIT),
            each,
            own_together: PerCaller::new(1),
            // They hold no more than a half of it.
            all_together: Arc::new(Semaphore::new((total / (2 * Together::MOST)).max(1))),
            patience,
        }
    }

    /// Waits for room for an answer of at most this many bytes. An answer takes room once: one that held some and waited for more
    /// would wait for others who do the same. For answers that are kept together see [`Together`].
    ///
    /// # Errors
    /// If others do not release theirs in time.
    pub(super) async fn take(
        &self,
        caller: &Arc<str>,
        bytes: usize,
        together: Option<&Together>,
    ) -> Result<Room, UpstreamError> {
        let units = u32::try_from(bytes.min(self.each) / UNIT).unwrap_or(u32::MAX);
        let refused = || UpstreamError::NoRoom { within: self.patience };
        if let Some(together) = together {
            // A batch may wait for a call that takes long.
            let turn = timeout(self.patience * TURN, together.begins(self, caller)).await;
            turn.ok().flatten().ok_or_else(refused)?;
        }
        let both = async {
            // The caller's own first: a caller that waits for itself holds nothing that is for all.
            let own = self.own.of(caller).acquire_many_owned(units).await;
            let all = Arc::clone(&self.all).acquire_many_owned(units).await;
            Some(Room {
                own: own.ok()?,
                all: all.ok()?,
            })
        };
        match timeout(self.patience, both).await {
            Ok(Some(room)) => Ok(room),
            // They are never closed.
            Ok(None) | Err(_) => Err(refused()),
        }
    }
}

/// The memory that an answer takes of the budget, returned on drop.
#[derive(Debug)]
pub(super) struct Room {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Room {
    /// The message, which holds as much room as it is long until the last reference to a part of it is dropped.
    pub(super) fn hold(mut self, message: Bytes) -> Bytes {
        let needed = message.len().div_ceil(UNIT);
        for permit in [&mut self.own, &mut self.all] {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
        Bytes::from_owner(Held { message, _room: self })
    }
}

struct Held {
    message: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

/// The changed text of a message. That of a long one holds the room of the message.
pub(super) fn changed(text: Vec<u8>, message: &Bytes) -> Bytes {
    if message.len() <= FREE {
        return text.into();
    }
    let _message = message.clone();
    Bytes::from_owner(Changed { text, _message })
}

struct Changed {
    text: Vec<u8>,
    _message: Bytes,
}

impl AsRef<[u8]> for Changed {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};
    use std::pin::pin;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn names() -> [Arc<str>; 3] {
        ["users/alice", "users/bob", "users/carol"].map(Arc::from)
    }

    #[tokio::test]
    async fn a_caller_waits_for_their_own_answers() {
        let [alice, bob, _] = names();
        let rooms = Rooms::new(8 * FREE, 2 * FREE, Duration::from_secs(60));
        let first = rooms.take(&alice, 2 * FREE, None).await.unwrap();
        let mut second = pin!(rooms.take(&alice, FREE, None));
        assert!(poll!(&mut second).is_pending());
        assert!(
            rooms.take(&bob, 2 * FREE, None).now_or_never().is_some(),
            "bob waits for nobody"
        );
        // What it did not need is returned at once, the rest with the last piece.
        let held = first.hold(Bytes::from(vec![7; FREE + 1]));
        assert!(poll!(&mut second).is_pending());
        let piece = held.slice(5..7);
        drop(held);
        assert!(poll!(&mut second).is_pending());
        assert_eq!(piece, [7, 7][..]);
        drop(piece);
        assert!(second.now_or_never().is_some());
        assert_eq!(rooms.all.available_permits(), 8 * FREE / UNIT, "nothing is lost");
    }

    #[tokio::test]
    async fn the_budget_of_all_callers_and_the_wait_for_it_are_bounded() {
        let [alice, bob, carol] = names();
        let rooms = Rooms::new(4 * FREE, 2 * FREE, PATIENCE);
        let held = [
            rooms.take(&alice, 2 * FREE, None).await.unwrap(),
            rooms.take(&bob, 2 * FREE, None).await.unwrap(),
        ];
        let refused = UpstreamError::NoRoom { within: PATIENCE };
        assert_eq!(rooms.take(&carol, FREE, None).await.unwrap_err(), refused);
        drop(held);
        assert!(rooms.take(&carol, FREE, None).now_or_never().is_some());
        // A request for more than one caller's budget gets that budget.
        assert!(rooms.take(&carol, usize::MAX, None).now_or_never().is_some());
    }

    /// Two batches that keep what the other waits for would wait until they time out.
    #[tokio::test]
    async fn those_who_keep_answers_do_not_wait_for_each_other() {
        const LONG: usize = 14 << 20;
        let [alice, bob, carol] = names();
        let rooms = Rooms::new(4 * Together::MOST, 2 * Together::MOST, Duration::from_secs(60));
        let (first, second) = (Together::default(), Together::default());
        let take = async |caller: &Arc<str>, together: &Together| rooms.take(caller, LONG, Some(together)).await;
        let one = take(&alice, &first).now_or_never().unwrap().unwrap();
        let kept = one.hold(Bytes::from(vec![7; LONG]));
        let mut of_second = Box::pin(take(&alice, &second));
        assert!(
            poll!(&mut of_second).is_pending(),
            "nothing of it is kept before the first has all"
        );
        assert!(
            take(&alice, &first).now_or_never().is_some(),
            "the first waits for nobody"
        );
        assert!(
            rooms.take(&alice, LONG, None).now_or_never().is_some(),
            "nor does what is not kept"
        );
        // As many batches of other callers at a time as keep half of the budget.
        let (of_bob, of_carol) = (Together::default(), Together::default());
        assert!(take(&bob, &of_bob).now_or_never().is_some());
        assert!(take(&carol, &of_carol).now_or_never().is_none());
        // The next one begins although the client has not read the answers yet.
        drop(first);
        assert!(of_second.now_or_never().is_some());
        drop(of_bob);
        assert!(take(&carol, &of_carol).now_or_never().is_some());
        drop((second, of_carol, kept));
        assert_eq!(
            rooms.all.available_permits(),
            4 * Together::MOST / UNIT,
            "nothing is lost"
        );
        assert_eq!(rooms.all_together.available_permits(), 2, "no turn is lost");
    }
}
