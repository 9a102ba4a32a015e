//! Forwards to MCP servers.
