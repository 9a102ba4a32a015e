//! Runs a program that sees and reaches only what it is given: for MCP servers, which are code of others that runs beside our
//! secrets. Linux, without root and without a container engine.
//!
//! A program that wants to start another asks a *launcher*, itself again as a process of its own ([`launch`]): after the clone of a process
//! with several threads hardly anything may be done, and the launcher has one. The launcher reads an [`Spec`], makes the
//! namespaces, and becomes the *init* of the new process namespace: it builds a file system of what the spec names, limits itself, and starts
//! the program. Which [`Layers`] there are is tried once, when the service starts ([`probe`]): what could be done then and cannot be done
//! for a program keeps it from starting.

mod condition;
mod descendants;
mod grants;
mod landlock;
mod launcher;
mod layers;
mod listening;
mod namespaces;
mod probe;
mod resources;
mod seccomp;
mod sockets;
mod spec;
mod status;
mod sys;

pub use descendants::{descendants, kill_all, living_parent, processes};
pub use launcher::launch;
pub use layers::{Layers, Level, Protection};
pub use probe::{pass_on, probe};
pub use resources::Resources;
pub use spec::{Access, Confinement, Grant, LAUNCHER, Spec};
pub use status::{Exit, Status};
