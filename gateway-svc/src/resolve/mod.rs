//! Assignment to installation.
