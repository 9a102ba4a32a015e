//! The port for what runs servers: processes of this machine, or a cluster.
//!
//! The reconciler sets the desired state of each owner, with [`Runtime::apply`], [`Runtime::hold`], [`Runtime::stop`] and
//! [`Runtime::remove`]. The runtime reaches that state in the background, retries what fails, and publishes the actual state with
//! [`Runtime::observe`]. When it restarts a server that ended, and after which delay, is decided by the runtime. Every runtime passes the
//! tests in `runtime/suite.rs`.

use futures::stream::BoxStream;

use super::{
    logs::{LogLine, LogQuery},
    protection::Protection,
    spec::ServerSpec,
    status::{Held, Status},
};

/// Runs at most one server for each owner. An owner is the uid of an installation, or of an entry whose installations share a
/// server. A runtime treats it as any text: whatever characters it
/// has, it reaches nothing of another owner.
///
/// All methods may be called at any time and any number of times, for known and unknown owners. The last call for an owner decides.
#[async_trait::async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// Sets the server that should run for an owner, in place of what was set before. Returns once the spec is accepted, not once the
    /// server runs.
    ///
    /// A running server with the same [`ServerSpec::digest`] is not restarted; [`Status::generation`] follows the spec all the same. If the
    /// digest differs, the server is stopped and the new one started. A runtime may leave the server running and only change
    /// [`Status::spec_digest`] if both are the same once their secrets are put in ([`Launch::fingerprint`]).
    ///
    /// Secrets are drawn from [`ServerSpec::secrets`] just before a start. While the source is unavailable, the runtime retries, and a
    /// running server goes on. If a secret is missing, the runtime stops the server, is in the state of [`Self::hold`] with the reason and
    /// message of [`Missing`], and draws again when a spec is applied, also the same one.
    ///
    /// [`Launch::fingerprint`]: super::spec::Launch::fingerprint
    /// [`Missing`]: super::spec::Missing
    async fn apply(&self, owner: &str, spec: ServerSpec);

    /// Stops an owner's server and keeps it stopped, for a reason that its status shows to people. Returns once that is accepted. The files
    /// that the server wrote are kept.
    async fn hold(&self, owner: &str, held: Held);

    /// Stops an owner's server and forgets the owner: it has no status any more. Returns once the server has ended. The files that the
    /// server wrote are kept, since an installation may be missing in the registry only for a while.
    async fn stop(&self, owner: &str);

    /// Stops an owner's server as [`Self::stop`] does, and deletes everything that is stored for the owner. Returns once nothing is left.
    ///
    /// # Errors
    /// If something is left. The caller retries later.
    async fn remove(&self, owner: &str) -> Result<(), RuntimeError>;

    /// Restarts an owner's server, whether it runs or waits for a retry. Returns once that is accepted:
    /// [`Status::requested_restart`] is then the id of the restart, and [`Status::observed_restart`] becomes the id once the restart has
    /// an outcome: the server runs, has failed, or is held. A held server is not started. A call with the id of one of the owner's
    /// last restarts does nothing, see [`RecentRestarts`].
    ///
    /// [`RecentRestarts`]: super::restarts::RecentRestarts
    ///
    /// # Errors
    /// [`RuntimeError::Unknown`] for an owner without a status.
    async fn restart(&self, owner: &str, restart: Restart) -> Result<(), RuntimeError>;

    /// The status of an owner's server. `None` if nothing was applied or held for the owner.
    fn status(&self, owner: &str) -> Option<Status>;

    /// The status of every server: first the present one of each owner, then each change. Of several changes in a row, the stream may have
    /// only the last. It ends when the runtime is dropped.
    fn observe(&self) -> BoxStream<'static, Observed>;

    /// The lines that an owner's server wrote, with the values of `Launch::secrets` masked by the runtime. Empty for an unknown owner. With
    /// `follow`, the stream ends when the owner is stopped or removed; otherwise, after the last line.
    fn logs(&self, owner: &str, query: LogQuery) -> BoxStream<'static, LogLine>;

    /// What is protected from the servers of this runtime, and how far.
    fn protections(&self) -> Vec<Protection>;

    /// Ends all work of this process on servers: the service stops, or another orchestrator took over. A runtime whose servers depend on
    /// this process stops them, as [`Self::stop`] does for each owner; another one leaves them running. Returns once no work is in
    /// progress. The runtime can be used again afterwards, when this orchestrator takes over.
    async fn release(&self);
}

/// A restart that a person requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restart {
    /// Identifies the restart.
    pub(crate) id: String,
    /// Also fetch the newest versions of the server's package, if [`ServerSpec::revision`] is not a later one. A runtime that fetches no
    /// packages ignores this.
    pub(crate) update_package_of: Option<i64>,
}

/// A change of an owner's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) owner: String,
    /// `None`: the owner was stopped or removed.
    pub(crate) status: Option<Status>,
}

/// What a runtime could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The owner has no status.
    #[error("no server of this owner is known")]
    Unknown,
    /// A message for the log. What was done so far stays done; a retry does the rest.
    #[error("{0}")]
    Failed(String),
}
