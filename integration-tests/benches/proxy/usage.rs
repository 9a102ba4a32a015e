//! What processes use, according to `/proc`.

use std::{fs, iter::Sum, ops::Sub, time::Duration};

use integration_tests::process::descendants;

/// CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Cpu {
    /// That of these processes so far: `/proc/PID/stat`, fields 14 and 15, in ticks of 10 ms.
    pub(crate) fn of(pids: &[i32]) -> Self {
        let ticks = |ticks: &str| Some(Duration::from_millis(10 * ticks.parse::<u64>().ok()?));
        pids.iter()
            .filter_map(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                // The name, in parentheses, may contain anything; the fields after it are fixed.
                let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
                Some(Self {
                    user: ticks(fields.next()?)?,
                    system: ticks(fields.next()?)?,
                })
            })
            .sum()
    }

    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

impl Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            user: sum.user + one.user,
            system: sum.system + one.system,
        })
    }
}

/// Resident memory in MB.
pub(crate) fn resident(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

/// Resident memory of all descendants of a process, in MB.
pub(crate) fn resident_of_children(pid: i32) -> f64 {
    descendants(pid).iter().map(|process| resident(process.pid)).sum()
}
