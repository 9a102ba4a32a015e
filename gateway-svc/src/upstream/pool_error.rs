//! Why a request has no answer.

use std::error::Error as StdError;

use service_kit::http1::Malformed;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// There is no connection.
    #[error("there is no connection")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// There is no connection, or no answer on it, in time.
    #[error("it has not begun to answer in time")]
    Late,
    /// The connection failed.
    #[error("the exchange broke off")]
    Exchange(#[source] Box<dyn StdError + Send + Sync>),
    /// The server is at fault: what it sent is no answer.
    #[error(transparent)]
    Malformed(Malformed),
}
