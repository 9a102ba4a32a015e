//! What the registry does for people and workloads: each operation looks up, asks the rules of the domain, and writes, in one transaction.

pub(crate) mod report;
