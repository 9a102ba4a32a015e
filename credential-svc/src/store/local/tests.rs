//! On the real engine.
