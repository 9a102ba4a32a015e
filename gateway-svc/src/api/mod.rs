//! The gRPC ToolService.
