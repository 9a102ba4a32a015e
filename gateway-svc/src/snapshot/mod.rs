//! What the registry says, in memory.
