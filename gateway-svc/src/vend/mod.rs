//! The headers an installation sends to its upstream.
