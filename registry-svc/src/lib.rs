//! Chandlery's registry: entries, installations, gateways, agents and teams.

#[expect(dead_code, reason = "wired to the store and the API next")]
mod domain;
