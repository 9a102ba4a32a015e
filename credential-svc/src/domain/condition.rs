//! The condition CREDENTIAL_READY, which is reported to the registry.

/// CREDENTIAL_READY of an installation or an entry, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) ready: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) observed_generation: i64,
    pub(crate) credential_generation: i64,
}
