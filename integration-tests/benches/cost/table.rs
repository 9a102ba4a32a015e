//! The figures, as lines of a table, each written as soon as it is measured.

use std::{fmt, time::Duration};

/// Latencies of `/livez`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Livez {
    median: Duration,
    p99: Duration,
    most: Duration,
}

/// The figures of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The large size.
    pub(crate) bytes: usize,
    /// Nanoseconds per byte at the small size.
    pub(crate) small: f64,
    /// Nanoseconds per byte at the large size.
    pub(crate) large: f64,
    pub(crate) livez: Livez,
}

/// What the columns are.
pub(crate) const HEAD: &str = "\
| shape | bytes | ns/byte at 1/8 of the size | ns/byte | ratio | /livez p50 ms | p99 | most |
| --- | --- | --- | --- | --- | --- | --- | --- |";

impl Livez {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: usize| {
            times
                .get((times.len() * share / 100).min(times.len() - 1))
                .copied()
                .unwrap_or_default()
        };
        Self {
            median: at(50),
            p99: at(99),
            most: at(100),
        }
    }
}

impl fmt::Display for Livez {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{:6.2} | {:6.2} | {:6.2}",
            ms(self.median),
            ms(self.p99),
            ms(self.most)
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            bytes,
            small,
            large,
            livez,
        } = self;
        let ratio = large / small;
        write!(
            f,
            "| {name} | {bytes} | {small:.2} | {large:.2} | {ratio:.2} | {livez} |"
        )
    }
}
