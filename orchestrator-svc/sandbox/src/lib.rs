//! Runs a program in a sandbox, in which it sees and reaches only what it is given. For MCP servers, which are third-party code on a machine
//! with secrets. Requires Linux, but neither root nor a container engine.
//!
//! To start a sandboxed program, a process starts its own executable again as the *launcher* ([`launch`]). A separate process is required
//! because a process with several threads can do hardly anything safely after a fork; the launcher has one thread. The launcher reads a
//! [`Spec`], creates the namespaces, and continues as the *init* of the new process namespace: it mounts a file system of what the spec names,
//! restricts itself, and starts the program. Which [`Layers`] are available is tested once, when the service starts ([`probe`]). If one of
//! them fails for a program later, the program is not started.

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
