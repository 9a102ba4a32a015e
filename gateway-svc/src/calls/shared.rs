//! Sessions that several clients share: what their servers say outside the answers to calls.
//!
//! Each is received once for all who listen. That a list has changed is for all of them, that a resource has changed for those who have subscribed to
//! it. Nothing else is: it may be about another client's call. What the server asks there is refused, since it would be for nobody in particular.

mod behind;
mod change;
mod hub;
mod places;
mod receiving;
mod successor;
#[cfg(test)]
mod tests;
mod topics;
mod used;

pub(super) use hub::Hub;
