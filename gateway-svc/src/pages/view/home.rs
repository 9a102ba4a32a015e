//! The page at the root: what this is, and where everything is.

use axum::{http::StatusCode, response::Response};
use maud::html;

use crate::pages::Pages;

pub(in crate::pages) fn page(pages: &Pages) -> Response {
    let [gateway, agent] = pages.mcp_endpoints();
    let body = html! {
        h1 { "A private MCP registry" }
        p {
            "Chandlery holds the catalog of the MCP servers that your organization has approved, and is the gateway through which agents \
             call their tools."
        }
        section aria-labelledby="people" {
            h2 #people { "For people" }
            p {
                "Your client shows you a link when a tool requires an installation or a credential. It opens a page like "
                code.wrap { (pages.public) "/install/ENTRY" } ", and asks you to sign in."
            }
            p { a.button href={ (pages.prefix) "/signin" } { "Sign in" } }
        }
        section aria-labelledby="clients" {
            h2 #clients { "For MCP clients" }
            p { "Endpoints speak streamable HTTP and require a bearer token: of your sign-in service, or a gateway token." }
            dl {
                dt { "A gateway" } dd { code.wrap { (gateway) } }
                dt { "An agent" } dd { code.wrap { (agent) } }
            }
        }
        @if pages.grpc_port.is_some() || !pages.probes.is_empty() {
            section aria-labelledby="operators" {
                h2 #operators { "For operators" }
                dl {
                    @if let Some(port) = pages.grpc_port { dt { "gRPC API, with reflection" } dd { "port " code { (port) } } }
                    @if !pages.probes.is_empty() {
                        dt { "Health" }
                        @for path in pages.probes { dd { a href={ (pages.prefix) (path) } { code { (path) } } } }
                    }
                }
            }
        }
    };
    pages.page(StatusCode::OK, "Private MCP registry", None, &body, false)
}
