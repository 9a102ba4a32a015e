//! A caller at a gateway or an agent.

use std::sync::Arc;

use crate::{domain::Consumer, identity::Identified};

/// A caller at a gateway or an agent.
#[derive(Debug)]
pub(super) struct CallerAt {
    pub(super) identified: Identified,
    pub(super) consumer: Arc<Consumer>,
}
