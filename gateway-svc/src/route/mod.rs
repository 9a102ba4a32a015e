//! Gateway to exposed name to assignment.
