//! A fake registry-svc for the tests of the other services. Requires the feature `testing`.
//!
//! It serves the services that workloads call (WatchService, AccessService and ReportService), and keeps everything in
//! memory. A service must not depend on registry-svc, so its own tests run against this fake; the journeys of
//! `integration-tests` run against the real one. The fake is simpler: every watch begins with a snapshot, has all
//! kinds, and gets no bookmarks; and nothing is derived from conditions, such as an installation's state.
//! `registry-svc/tests/fake_registry.rs` compares the two.

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
