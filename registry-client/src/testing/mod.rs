//! For tests of the services: a FAKE registry-svc. Behind the feature `testing`.
//!
//! It serves what workloads call of registry-svc (WatchService, AccessService and ReportService) and keeps everything in memory.
//! A service must not depend on registry-svc, so its own tests run against this one; the journeys of `integration-tests` run against the
//! real one. What it leaves out: every watch begins with a snapshot, shows all kinds, and gets no bookmarks; nothing
//! follows from conditions, such as an installation's state. `registry-svc/tests/fake_registry.rs` compares the two.

mod access;
mod effects;
mod lease;
mod objects;
mod registry;
mod report;
mod reports;
mod watch;

pub use objects::{Objects, Watched};
pub use registry::{FakeRegistry, Gate};
pub use reports::Reports;
