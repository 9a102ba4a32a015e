
mod follow;
mod values;

pub(crate) use follow::{Step, follow};
pub(crate) use values::{Values, check};
