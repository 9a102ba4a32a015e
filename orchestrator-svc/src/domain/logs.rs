//! The last lines that a server wrote, which can be followed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::broadcast;

/// The most lines that are kept.
pub(crate) const KEPT_LINES: usize = 1_000;
/// The most bytes that are kept; the last line is kept whatever its length.
const KEPT_BYTES: usize = 1 << 20;
/// How many lines a follower may be behind before it misses some.
const BEHIND: usize = 256;

/// One line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) text: Arc<str>,
    /// Microseconds since 1970; 0 in a line that says how many lines a follower missed.
    pub(crate) time: i64,
}

/// Selects log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogQuery {
    /// The most lines to return of those already written.
    pub(crate) tail: usize,
    /// Only lines written since this time, in microseconds since 1970.
    pub(crate) since: i64,
    /// Continue with lines as they are written.
    pub(crate) follow: bool,
    /// Only lines of the process before the current one. They cannot be followed.
    pub(crate) previous: bool,
}

/// A ring buffer of lines that can be followed.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each line with the number of the run that wrote it.
    lines: VecDeque<(u64, LogLine)>,
    bytes: usize,
    run: u64,
    /// Created for the first follower: it takes 12 KB, and most logs have none.
    live: Option<broadcast::Sender<LogLine>>,
}

impl Logs {
    /// Lines that are pushed from now on are those of another process.
    pub(crate) fn begin_run(&self) {
        self.kept().run += 1;
    }

    pub(crate) fn push(&self, text: &str, time: i64) {
        let line = LogLine {
            text: text.into(),
            time,
        };
        let mut kept = self.kept();
        kept.bytes += line.text.len();
        let run = kept.run;
        kept.lines.push_back((run, line.clone()));
        while kept.lines.len() > KEPT_LINES || (kept.bytes > KEPT_BYTES && kept.lines.len() > 1) {
            if let Some((_, gone)) = kept.lines.pop_front() {
                kept.bytes -= gone.text.len();
            }
        }
        // Sent under the lock, since a new follower would miss the line or get it twice otherwise.
        if let Some(live) = &kept.live {
            let _ = live.send(line);
        }
    }

    /// The lines that a query selects. With `follow`, the stream ends when `self` is dropped.
    pub(crate) fn query(&self, query: LogQuery) -> BoxStream<'static, LogLine> {
        let (tail, live) = self.tail(query);
        let tail = futures::stream::iter(tail);
        let Some(live) = live else { return tail.boxed() };
        let live = futures::stream::unfold(live, |mut live| async move {
            match live.recv().await {
                Ok(line) => Some((line, live)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text =
                        format!("[{missed} lines left out: they were written faster than they were read]").into();
                    Some((LogLine { text, time: 0 }, live))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        tail.chain(live).boxed()
    }

    /// The texts of at most `count` last lines written since a time, in microseconds since 1970.
    pub(crate) fn last(&self, count: usize, since: i64) -> Vec<String> {
        let query = LogQuery {
            tail: count,
            since,
            follow: false,
            previous: false,
        };
        self.tail(query)
            .0
            .into_iter()
            .map(|line| line.text.to_string())
            .collect()
    }

    fn tail(&self, query: LogQuery) -> (Vec<LogLine>, Option<broadcast::Receiver<LogLine>>) {
        let mut kept = self.kept();
        let before = kept.run.checked_sub(1);
        let mut tail: Vec<_> = kept
            .lines
            .iter()
            .rev()
            .filter(|(run, _)| !query.previous || Some(*run) == before)
            .take(query.tail)
            .filter(|(_, line)| line.time >= query.since)
            .map(|(_, line)| line.clone())
            .collect();
        tail.reverse();
        let follows = query.follow && !query.previous;
        let live = follows.then(|| {
            let live = kept.live.get_or_insert_with(|| broadcast::channel(BEHIND).0);
            live.subscribe()
        });
        (tail, live)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const ALL: LogQuery = LogQuery {
        tail: usize::MAX,
        since: 0,
        follow: false,
        previous: false,
    };

    async fn texts(logs: &Logs, query: LogQuery) -> Vec<String> {
        logs.query(query).map(|line| line.text.to_string()).collect().await
    }

    #[tokio::test]
    async fn keeps_the_last_lines_and_passes_on_new_ones() {
        let logs = Logs::default();
        (0..1_500).for_each(|n| logs.push(&n.to_string(), n));
        assert_eq!(texts(&logs, LogQuery { tail: 2, ..ALL }).await, ["1498", "1499"]);
        assert_eq!(texts(&logs, ALL).await.len(), KEPT_LINES);
        assert_eq!(logs.last(5, 1499), ["1499"]);
        let mut follow = logs.query(LogQuery {
            tail: 0,
            follow: true,
            ..ALL
        });
        logs.push("7", 7);
        assert_eq!(&*follow.next().await.unwrap().text, "7");
        (0..300).for_each(|n| logs.push("x", n));
        let notice = follow.next().await.unwrap();
        assert!(notice.text.contains("44 lines") && notice.time == 0, "{notice:?}");
        drop(logs);
        assert_eq!(follow.count().await, BEHIND);
    }

    #[tokio::test]
    async fn is_bounded_by_bytes() {
        let logs = Logs::default();
        let long = "x".repeat(16 << 10);
        (0..1_000).for_each(|n| logs.push(&long, n));
        assert_eq!(texts(&logs, ALL).await.len(), KEPT_BYTES / long.len());
        logs.push(&"y".repeat(KEPT_BYTES * 2), 1);
        assert_eq!(texts(&logs, ALL).await.len(), 1);
    }

    #[tokio::test]
    async fn tells_runs_apart() {
        let logs = Logs::default();
        let previous = LogQuery { previous: true, ..ALL };
        logs.begin_run();
        logs.push("first", 1);
        assert!(texts(&logs, previous).await.is_empty());
        logs.begin_run();
        logs.push("second", 2);
        assert_eq!(texts(&logs, previous).await, ["first"]);
        assert_eq!(texts(&logs, ALL).await, ["first", "second"]);
    }
}
