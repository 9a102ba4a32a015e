//! Starts what is measured.

pub(crate) mod certificates;
pub(crate) mod external;
pub(crate) mod gateway;
pub(crate) mod nginx;
pub(crate) mod principals;
pub(crate) mod upstream;
