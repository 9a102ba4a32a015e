//! Chandlery.
