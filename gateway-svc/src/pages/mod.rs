//! The install page and its sign-in.
