//! Changes as they are logged, each object as the bytes it is, and windows of bounded size in which watchers get them.

use prost::bytes::Bytes;

/// What a change takes in memory and on the wire in addition to its object and its key.
pub(super) const OVERHEAD: usize = 64;

/// A place in the change log: behind this change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) revision: i64,
    position: i64,
}

impl Cursor {
    /// Behind all changes of a revision.
    pub(crate) const fn behind(revision: i64) -> Self {
        Self {
            revision,
            position: i64::MAX,
        }
    }

    /// Behind this change of a revision; of the last one, `i64::MAX`.
    pub(super) const fn position(self) -> i64 {
        self.position
    }

    /// Behind some changes of its revision, but not all.
    pub(crate) const fn is_inside(self) -> bool {
        self.position != i64::MAX
    }
}

/// A change as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) revision: i64,
    position: i64,
    /// An `ObjectKind`.
    pub(crate) kind: i64,
    pub(crate) key: String,
    /// An encoded `WatchedObject`; `None`: it is gone.
    pub(crate) object: Option<Bytes>,
}

impl Logged {
    pub(super) const fn new(revision: i64, position: i64, kind: i64, key: String, object: Option<Bytes>) -> Self {
        Self {
            revision,
            position,
            kind,
            key,
            object,
        }
    }

    pub(crate) fn size(&self) -> usize {
        OVERHEAD + self.key.len() + self.object.as_ref().map_or(0, Bytes::len)
    }

    pub(super) const fn position(&self) -> i64 {
        self.position
    }

    pub(crate) const fn cursor(&self) -> Cursor {
        Cursor {
            revision: self.revision,
            position: self.position,
        }
    }
}

/// Changes of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) revision: i64,
    pub(crate) changes: Vec<Logged>,
    pub(crate) part: Part,
}

/// How much of its revision a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// More is to come.
    Some,
    /// What was missing.
    Last,
}

/// Some changes behind a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) batches: Vec<Batch>,
    /// How far the log was read.
    pub(crate) through: Cursor,
    /// There is more behind that.
    pub(crate) more: bool,
}

/// Gathers changes in the order of the log until they are too large. A revision is taken in parts only if it is too large by itself.
#[derive(Debug)]
pub(crate) struct Window {
    after: Cursor,
    limit: usize,
    size: usize,
    changes: Vec<Logged>,
    /// Of the change that did not fit.
    left_out: Option<i64>,
}

impl Window {
    /// A window of `limit` bytes of changes behind `after`.
    pub(crate) const fn new(after: Cursor, limit: usize) -> Self {
        Self {
            after,
            limit,
            size: 0,
            changes: Vec::new(),
            left_out: None,
        }
    }

    /// Takes the next change, unless the window is full (`false`). A change that is too large comes alone.
    pub(crate) fn push(&mut self, change: Logged) -> bool {
        let size = change.size();
        if !self.changes.is_empty() && self.size + size > self.limit {
            self.left_out = Some(change.revision);
            return false;
        }
        self.size += size;
        self.changes.push(change);
        true
    }

    /// What was taken. `end` is how far the log was read if nothing was left out; `more` says whether it continues.
    pub(crate) fn finish(mut self, end: Cursor, more: bool) -> Read {
        let Some(left_out) = self.left_out else {
            return self.batches(end, more || end.is_inside());
        };
        let whole = self.changes.partition_point(|change| change.revision < left_out);
        let through = match self.changes.last() {
            // The last revision is whole here, or can wait until it is.
            _ if whole > 0 => Cursor::behind(self.changes[whole - 1].revision),
            Some(last) => last.cursor(),
            None => self.after,
        };
        if whole > 0 {
            self.changes.truncate(whole);
        }
        self.batches(through, true)
    }

    fn batches(self, through: Cursor, more: bool) -> Read {
        let mut batches: Vec<Batch> = Vec::new();
        let begun = self.after.is_inside().then_some(self.after.revision);
        let ends_it = |revision: i64| revision < through.revision || !through.is_inside();
        if let Some(revision) = begun
            && ends_it(revision)
            && self.changes.first().is_none_or(|change| change.revision != revision)
        {
            // What is left of it is for others: the watcher must hear that its part is all.
            batches.push(Batch {
                revision,
                changes: Vec::new(),
                part: Part::Last,
            });
        }
        for change in self.changes {
            match batches.last_mut() {
                Some(batch) if batch.revision == change.revision => batch.changes.push(change),
                _ => {
                    let revision = change.revision;
                    batches.push(Batch {
                        revision,
                        changes: vec![change],
                        part: match (begun == Some(revision), ends_it(revision)) {
                            (false, true) => Part::Whole,
                            (true, true) => Part::Last,
                            (_, false) => Part::Some,
                        },
                    });
                }
            }
        }
        Read { batches, through, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, position: i64, size: usize) -> Logged {
        Logged {
            revision,
            position,
            kind: 1,
            key: String::new(),
            object: Some(vec![0; size.saturating_sub(OVERHEAD)].into()),
        }
    }

    /// Reads a log in windows; each batch as its revision, its number of changes and which part it is.
    fn read(log: &[Logged], limit: usize) -> Vec<(i64, usize, Part)> {
        let mut after = Cursor::behind(0);
        let mut all = Vec::new();
        loop {
            let mut window = Window::new(after, limit);
            for change in log.iter().filter(|change| change.cursor() > after) {
                if !window.push(change.clone()) {
                    break;
                }
            }
            let read = window.finish(Cursor::behind(9), false);
            for batch in &read.batches {
                let size: usize = batch.changes.iter().map(Logged::size).sum();
                assert!(size <= limit || batch.changes.len() == 1, "{batch:?}");
                all.push((batch.revision, batch.changes.len(), batch.part));
            }
            assert!(read.through > after, "{read:?}");
            after = read.through;
            if !read.more {
                assert_eq!(after, Cursor::behind(9));
                return all;
            }
        }
    }

    #[test]
    fn cuts_only_revisions_that_are_too_large_by_themselves() {
        let log = [
            change(1, 0, 300),
            change(2, 0, 400),
            // Fits, but not behind the others.
            change(3, 0, 400),
            change(3, 1, 600),
            // Does not fit.
            change(5, 0, 500),
            change(5, 1, 500),
            change(5, 2, 300),
            change(5, 3, 5000),
            change(5, 4, 100),
            change(6, 0, 100),
        ];
        assert_eq!(
            read(&log, 1000),
            [
                (1, 1, Part::Whole),
                (2, 1, Part::Whole),
                (3, 2, Part::Whole),
                (5, 2, Part::Some),
                (5, 1, Part::Some),
                (5, 1, Part::Some),
                (5, 1, Part::Last),
                (6, 1, Part::Whole),
            ]
        );
        assert_eq!(read(&log, 100_000).len(), 5);
        assert_eq!(read(&[], 1000), []);
    }

    /// A watcher of few kinds, where the rest of a large revision is of others.
    #[test]
    fn a_part_is_always_followed_by_the_last_one() {
        let inside = change(5, 0, 900).cursor();
        let window = Window::new(inside, 1000);
        let read = window.finish(Cursor::behind(5), false);
        assert_eq!(
            read.batches,
            [Batch {
                revision: 5,
                changes: Vec::new(),
                part: Part::Last
            }]
        );
        let mut window = Window::new(inside, 1000);
        assert!(window.push(change(6, 0, 100)));
        let parts: Vec<_> = window
            .finish(Cursor::behind(6), false)
            .batches
            .into_iter()
            .map(|batch| (batch.revision, batch.changes.len(), batch.part))
            .collect();
        assert_eq!(parts, [(5, 0, Part::Last), (6, 1, Part::Whole)]);
        let window = Window::new(inside, 1000);
        assert_eq!(window.finish(change(5, 3, 0).cursor(), true).batches, [], "it goes on");
    }

    #[test]
    fn a_revision_that_ends_where_the_window_does_is_whole() {
        let log = [
            change(1, 0, 500),
            change(1, 1, 500),
            change(2, 0, 1000),
            change(3, 0, 100),
        ];
        let parts = read(&log, 1000);
        assert_eq!(parts, [(1, 2, Part::Whole), (2, 1, Part::Whole), (3, 1, Part::Whole)]);
    }
}
