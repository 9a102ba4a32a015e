//! Chandlery.

#[cfg(test)]
mod dev_issuer;

fn main() {}
