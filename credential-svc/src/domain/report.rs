//! What the registry is told.

/// CREDENTIAL_READY of an installation or an entry, as the registry takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
    pub(crate) credential_generation: i64,
}
