//! What one watcher is sent: a snapshot or a resumption, then every change in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contracts::registry::{Bookmark, Compacted, Resumed, SnapshotBegin, SnapshotEnd};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, interval, timeout, timeout_at},
};

use super::{
    relay::{Message, SnapshotObjects},
    send::{Budget, Ended, PART, Room, STALLED, Sender},
    start::Start,
    tail::Tail,
};
use crate::{
    domain::Error,
    operate::propagation::Watcher,
    store::{
        self, Db, Head, SNAPSHOTS,
        changes::{Batch, Cursor, Logged},
        snapshot::Snapshot,
    },
};

/// After this time without a message, a bookmark shows the watcher that the connection works.
const QUIET: Duration = Duration::from_secs(10);
/// The objects of a snapshot are sent in messages of about this size: many small ones take less memory than few large ones, and no more
/// time.
const SNAPSHOT_PART: usize = 256 << 10;
/// A watcher that reads nothing of its snapshot for this time is dropped if others wait for theirs.
const HURRIED: Duration = Duration::from_secs(5);
/// So is one whose snapshot has taken this time by then, however steadily it reads.
const HURRIED_WHOLE: Duration = Duration::from_secs(120);
/// So is one whose snapshot has taken this time although no other waits: its transaction keeps the database from removing old rows.
const WHOLE: Duration = Duration::from_secs(600);
/// A bookmark is sent after this time if revisions have passed that the watcher gets nothing of.
const PASSED: Duration = Duration::from_secs(1);

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Streams {
    db: Db,
    tail: Tail,
    budget: Budget,
    snapshots: Semaphore,
    /// Watchers that wait for their snapshots.
    waiting: AtomicUsize,
}

/// Why a stream ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The watcher is gone.
    Ended,
    /// The watcher must start again with a snapshot, and was sent that.
    Compacted,
    /// The database failed.
    Storage(Error),
}

impl From<Ended> for End {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<store::Error> for End {
    fn from(error: store::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Streams {
    pub(crate) fn new(db: Db) -> Self {
        Self {
            tail: Tail::new(db.clone()),
            db,
            budget: Budget::default(),
            snapshots: Semaphore::new(SNAPSHOTS as usize),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Sends until the stream ends.
    pub(crate) async fn run(&self, start: &Start, watcher: &Watcher, sender: &Sender) -> End {
        let sent = match self.start(start, watcher, sender).await {
            Ok(position) => self.follow(start.kinds, position, watcher, sender).await,
            Err(end) => Err(end),
        };
        match sent {
            Ok(never) => match never {},
            Err(End::Compacted) => match sender.send(Message::Compacted(Compacted {})).await {
                Ok(()) => End::Compacted,
                Err(ended) => ended.into(),
            },
            Err(end) => end,
        }
    }

    /// Brings the watcher to a revision from which it can follow.
    async fn start(&self, start: &Start, watcher: &Watcher, sender: &Sender) -> Result<Position, End> {
        let head = self.db.look().await?;
        let Some((revision, epoch)) = &start.resume else {
            return self.snapshot(head, start.kinds, watcher, sender).await;
        };
        if *epoch != head.epoch || !(head.compacted..=head.revision).contains(revision) {
            return Err(End::Compacted);
        }
        watcher.sending(*revision);
        watcher.ack(*revision);
        let resumed = Message::Resumed(Resumed {
            revision: head.revision,
        });
        sender.send(resumed).await?;
        Ok(Position {
            epoch: head.epoch.into(),
            cursor: Cursor::behind(*revision),
            sent: (*revision, Instant::now()),
        })
    }

    async fn snapshot(&self, head: Head, kinds: i64, watcher: &Watcher, sender: &Sender) -> Result<Position, End> {
        let epoch: Arc<str> = head.epoch.as_str().into();
        let database_epoch = head.epoch;
        sender
            .send(Message::SnapshotBegin(SnapshotBegin { database_epoch }))
            .await?;
        let _turn = self.turn(sender).await?;
        let mut tx = self.db.snapshot().await?;
        let head = store::head(&mut tx).await?;
        if !head.known || *head.epoch != *epoch {
            return Err(End::Compacted);
        }
        self.db.make_last(&head).await?;
        let mut snapshot = Snapshot::new(tx, kinds);
        let (hurried_until, until) = (Instant::now() + HURRIED_WHOLE, Instant::now() + WHOLE);
        loop {
            let mut room = self.budget.take(SNAPSHOT_PART).await?;
            let objects = snapshot.part(SNAPSHOT_PART).await?;
            if objects.is_empty() {
                break;
            }
            let objects = Message::SnapshotObjects(SnapshotObjects { objects });
            let patience = if self.waiting.load(Ordering::Relaxed) > 0 {
                HURRIED.min(hurried_until.saturating_duration_since(Instant::now()))
            } else {
                STALLED.min(until.saturating_duration_since(Instant::now()))
            };
            sender.send_of(objects, &mut room, patience).await?;
        }
        let revision = head.revision;
        watcher.sending(revision);
        sender.send(Message::SnapshotEnd(SnapshotEnd { revision })).await?;
        Ok(Position {
            epoch,
            cursor: Cursor::behind(revision),
            sent: (revision, Instant::now()),
        })
    }

    /// Waits for one of the few snapshots that are read at once. Meanwhile, the watcher hears that it is not forgotten.
    async fn turn(&self, sender: &Sender) -> Result<SemaphorePermit<'_>, End> {
        if let Ok(turn) = self.snapshots.try_acquire() {
            return Ok(turn);
        }
        let _waiting = Waiting::new(&self.waiting);
        let turn = self.snapshots.acquire();
        tokio::pin!(turn);
        let mut quiet = interval(QUIET);
        quiet.reset();
        loop {
            tokio::select! {
                biased;
                turn = &mut turn => return turn.map_err(|_| End::Ended),
                _ = quiet.tick() => sender.send(Message::SnapshotObjects(SnapshotObjects::default())).await?,
            }
        }
    }

    /// Waits for room to read into. Meanwhile, the watcher hears that it is not forgotten.
    async fn room(&self, position: &Position, sender: &Sender) -> Result<Room, End> {
        loop {
            match timeout(QUIET, self.budget.take(PART)).await {
                Ok(room) => return Ok(room?),
                Err(_) => {
                    sender
                        .send(Message::alive(position.sent.0, position.cursor.is_inside()))
                        .await?
                }
            }
        }
    }

    async fn follow(
        &self,
        kinds: i64,
        mut position: Position,
        watcher: &Watcher,
        sender: &Sender,
    ) -> Result<std::convert::Infallible, End> {
        let mut latest = self.db.latest();
        loop {
            if latest.borrow_and_update().epoch != position.epoch {
                return Err(End::Compacted);
            }
            let mut room = self.room(&position, sender).await?;
            let read = self.tail.read(&position.epoch, position.cursor, kinds).await?;
            let read = read.ok_or(End::Compacted)?;
            room.shrink(read.batches.iter().map(size).sum());
            for batch in read.batches {
                let revision = batch.revision;
                watcher.sending(revision);
                sender.send_of(batch.into(), &mut room, STALLED).await?;
                position.sent = (revision, Instant::now());
            }
            drop(room);
            position.cursor = read.through;
            if read.more {
                continue;
            }
            let Position { epoch, cursor, sent } = &mut position;
            let due = sent.1 + if sent.0 < cursor.revision { PASSED } else { QUIET };
            let news = latest.wait_for(|latest| latest.epoch != *epoch || latest.revision > cursor.revision);
            match timeout_at(due, news).await.map(|news| news.is_ok()) {
                Ok(true) if Instant::now() < due => {}
                // The database's handle is gone, and with it the server.
                Ok(false) => return Err(End::Ended),
                _ => {
                    let revision = cursor.revision;
                    watcher.sending(revision);
                    sender.send(Message::Bookmark(Bookmark { revision })).await?;
                    *sent = (revision, Instant::now());
                }
            }
        }
    }
}

/// A watcher that waits for its snapshot, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a watcher has come.
#[derive(Debug)]
struct Position {
    epoch: Arc<str>,
    cursor: Cursor,
    /// The last revision it was sent, and when.
    sent: (i64, Instant),
}

fn size(batch: &Batch) -> usize {
    batch.changes.iter().map(Logged::size).sum()
}
