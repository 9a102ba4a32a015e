//! Chandlery.
fn main() {}
