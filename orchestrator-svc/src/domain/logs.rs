//! The last lines a server wrote, and those to come.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::broadcast;

/// Lines kept.
pub(crate) const KEPT: usize = 1_000;

/// One line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) text: String,
    /// Microseconds since 1970.
    pub(crate) time: i64,
}

/// A ring of lines that can be followed.
#[derive(Debug)]
pub(crate) struct Logs {
    lines: Mutex<VecDeque<LogLine>>,
    live: broadcast::Sender<LogLine>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            live: broadcast::channel(KEPT).0,
        }
    }
}

impl Logs {
    pub(crate) fn push(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        // Under the lock, so that a follower gets each line once.
        let _ = self.live.send(line);
    }

    /// The last `count` lines not older than `since`, and what comes after them.
    pub(crate) fn tail(&self, count: usize, since: i64) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = lines.len().saturating_sub(count);
        let tail = lines.iter().skip(skip).filter(|l| l.time >= since).cloned().collect();
        (tail, self.live.subscribe())
    }

    /// The texts of the last lines written since then.
    pub(crate) fn last(&self, count: usize, since: i64) -> Vec<String> {
        self.tail(count, since).0.into_iter().map(|l| l.text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_passes_on_new_ones() {
        let logs = Logs::default();
        let line = |n: i64| LogLine {
            text: n.to_string(),
            time: n,
        };
        (0..1_500).for_each(|n| logs.push(line(n)));
        let (tail, mut live) = logs.tail(2, 0);
        assert_eq!(tail, [line(1498), line(1499)]);
        assert_eq!(logs.tail(usize::MAX, 0).0.len(), KEPT);
        assert_eq!(logs.last(5, 1499), ["1499"]);
        logs.push(line(7));
        assert_eq!(live.recv().await.unwrap(), line(7));
    }
}
