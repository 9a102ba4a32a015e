//! The text that the program prints once it is ready.

use std::{fmt, net::SocketAddr};

use url::Url;

use crate::dev_issuer::SignInCode;

/// Where the program listens, how to sign in, and what to try next.
pub(crate) struct Banner<'a> {
    pub(crate) public_url: &'a Url,
    /// Whether the first start has created the gateway `default`.
    pub(crate) has_default_gateway: bool,
    pub(crate) grpc: SocketAddr,
    /// Whether this process terminates TLS at the gRPC address.
    pub(crate) grpc_serves_tls: bool,
    /// The code for the development issuer's sign-in page; `None` without that issuer.
    pub(crate) sign_in_code: Option<&'a SignInCode>,
    /// The data folder as the user typed it, for commands to copy; `None` if it is the default.
    pub(crate) data_dir: Option<&'a str>,
    /// The program as the user called it, for commands to copy.
    pub(crate) program: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.public_url.as_str().trim_end_matches('/');
        let (grpc, program) = (self.grpc, self.program);
        let plaintext = if self.grpc_serves_tls { "" } else { "-plaintext " };
        writeln!(f, "Chandlery is running.")?;
        writeln!(f)?;
        if self.has_default_gateway {
            writeln!(f, "  MCP endpoint   {url}/mcp/default")?;
        } else {
            writeln!(f, "  MCP endpoints  {url}/mcp/GATEWAY, of gateways that admins create")?;
        }
        writeln!(f, "  gRPC           {grpc} (with reflection)")?;
        match self.sign_in_code {
            Some(code) => writeln!(f, "  Sign in        any email address, with the code {code}")?,
            None => writeln!(f, "  Sign in        with the configured issuers")?,
        }
        if self.sign_in_code.is_some() {
            let data_dir = self
                .data_dir
                .map(|path| format!(" --data-dir {path}"))
                .unwrap_or_default();
            writeln!(
                f,
                "  Make a token   {program} token{data_dir} --user alice@example.com [--group NAME] [--admin]"
            )?;
            writeln!(f)?;
            writeln!(f, "Try next:")?;
            writeln!(
                f,
                "  TOKEN=$({program} token{data_dir} --user alice@example.com --admin)"
            )?;
            writeln!(
                f,
                "  grpcurl {plaintext}-H \"authorization: Bearer $TOKEN\" -d '{{\"parent\":\"gateways/default\"}}' {grpc} chandlery.gateway.v1.ToolService/ListTools"
            )?;
            writeln!(
                f,
                "  grpcurl {plaintext}-H \"authorization: Bearer $TOKEN\" -d '{{\"parent\":\"gateways/default\",\"exposed_name\":\"demo__hello\",\"arguments_json\":\"{{\\\"name\\\":\\\"Alice\\\"}}\"}}' {grpc} chandlery.gateway.v1.ToolService/CallTool"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_an_existing_gateway() {
        let text = |has_default_gateway| {
            Banner {
                public_url: &"https://tools.example.com".parse().unwrap(),
                has_default_gateway,
                grpc: "127.0.0.1:9090".parse().unwrap(),
                grpc_serves_tls: false,
                sign_in_code: None,
                data_dir: None,
                program: "chandlery",
            }
            .to_string()
        };
        assert!(text(true).contains("https://tools.example.com/mcp/default"));
        assert!(!text(false).contains("/mcp/default") && text(false).contains("/mcp/GATEWAY"));
    }
}
