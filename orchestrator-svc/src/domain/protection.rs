//! What is protected from servers, which are code of others.

/// One thing, and how far it is protected. For the contract's `Protection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protection {
    /// A name of the contract.
    pub(crate) subject: &'static str,
    pub(crate) level: ProtectionLevel,
    /// For people: by what, or what is missing.
    pub(crate) explanation: String,
}

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtectionLevel {
    None,
    Partial,
    Enforced,
}
