//! The port for what runs servers: processes of this machine, or a cluster.
//!
//! The reconciler says what should be of each owner, by [`Runtime::apply`], [`Runtime::hold`], [`Runtime::stop`] and
//! [`Runtime::remove`]; the runtime makes it so, in its own time and as often as that takes, and says how it stands by
//! [`Runtime::observe`]. How it starts a server again that ended, and how long it waits before, is its own affair. Every runtime passes the
//! suite in `runtime/suite.rs`.

use futures::stream::BoxStream;

use super::{
    logs::{LogLine, LogQuery},
    protection::Protection,
    spec::ServerSpec,
    status::{Held, Status},
};

/// Runs one server for each owner that should have one. An owner is an installation, by uid; other texts are of no owner and get
/// nothing.
///
/// All methods may be called at any time, for any owner, and again.
#[async_trait::async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// From now on this is what should run. Returns when that is taken, not when it runs. Takes the place of what was said before of
    /// this owner. The same digest as before restarts nothing; its generation is observed nevertheless.
    async fn apply(&self, owner: &str, spec: ServerSpec);

    /// From now on nothing should run, for a reason that people are shown. What the server has stored stays.
    async fn hold(&self, owner: &str, held: Held);

    /// From now on nothing should run, and nothing is said of this owner any more. What the server has stored stays: absence
    /// deletes nothing.
    async fn stop(&self, owner: &str);

    /// As [`Self::stop`], and nothing is left of the owner: no process and nothing stored. Returns when that is so.
    ///
    /// # Errors
    /// When something is left; to be called again later.
    async fn remove(&self, owner: &str) -> Result<(), RuntimeError>;

    /// Starts the server again, also one that runs well or waits after a failure; a held one is not started. Returns when that is taken;
    /// `Status::observed_restart` follows. A restart whose id is the last one's is not done again.
    ///
    /// # Errors
    /// When this runtime knows nothing of the owner.
    async fn restart(&self, owner: &str, restart: Restart) -> Result<(), RuntimeError>;

    /// How an owner's server does. `None`: this runtime knows nothing of the owner.
    fn status(&self, owner: &str) -> Option<Status>;

    /// How all servers do: first each that there is, then each whenever it changes. Of several changes in a row, only the last may
    /// come. Goes on until the runtime is dropped.
    fn observe(&self) -> BoxStream<'static, Observed>;

    /// The lines that an owner's server wrote. Empty where there was none. Ends when all that was asked for has come, or the owner's
    /// server is removed or stopped for good.
    fn logs(&self, owner: &str, query: LogQuery) -> BoxStream<'static, LogLine>;

    /// What is protected from the servers here, and how far.
    fn protections(&self) -> Vec<Protection>;

    /// Whoever calls this says no more what should run: the service ends, or another orchestrator does it from now on. As
    /// [`Self::stop`] for all owners where servers are reached through this process alone; elsewhere they go on. Returns when nothing is under way
    /// any more.
    async fn release(&self);
}

/// A restart that a person requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restart {
    /// Tells it from others, before and after.
    pub(crate) id: String,
    /// Also fetch the newest versions of the server's package, if the spec's revision is still this one.
    pub(crate) update_package_of: Option<i64>,
}

/// How one owner's server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) owner: String,
    /// `None`: there is nothing more to say of it.
    pub(crate) status: Option<Status>,
}

/// What a runtime could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// It was told nothing of this owner.
    #[error("there is no server of this installation here")]
    Unknown,
    /// For the log. What was done so far stays; a retry does the rest.
    #[error("{0}")]
    Failed(String),
}
