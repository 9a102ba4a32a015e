//! What is protected from servers, which are third-party code.

/// What is protected, and how far. Shown as the contract's `Protection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protection {
    /// One of the subjects that the contract lists.
    pub(crate) subject: &'static str,
    pub(crate) level: ProtectionLevel,
    /// For people: the mechanism, or what it would require.
    pub(crate) explanation: String,
}

/// The degree of a protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtectionLevel {
    None,
    Partial,
    Enforced,
}
