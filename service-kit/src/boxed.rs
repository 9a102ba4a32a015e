//! Futures in memory of their own.

use std::pin::Pin;

/// Boxes the future that `make` returns, where it stays. `Box::pin` gets one that is made already, and copies it: also all the room for what it has not
/// come to yet, which is most of a large one.
#[inline(always)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::<F>::new_uninit();
    Box::into_pin(Box::write(place, make()))
}
