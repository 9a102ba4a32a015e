//! The install link.

use url::Url;

use super::{ConsumerKind, ConsumerRef};

/// Makes links to our own pages.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    public_url: Url,
}

impl Links {
    /// Below the URL that people reach the gateway at.
    pub(crate) fn new(public_url: Url) -> Self {
        Self { public_url }
    }

    /// The URL that people reach the gateway at.
    pub(crate) fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// The URL of a path below the public URL.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// The MCP endpoint that has exactly this URL; it may not exist.
    pub(crate) fn endpoint(&self, url: &str) -> Option<ConsumerRef> {
        let path = url.strip_prefix(self.public_url.as_str().trim_end_matches('/'))?;
        let gateway = path.strip_prefix("/mcp/").map(|slug| format!("gateways/{slug}"));
        let agent = || {
            Some(format!(
                "agents/{}",
                path.strip_prefix("/agents/")?.strip_suffix("/mcp")?
            ))
        };
        ConsumerRef::parse(&gateway.or_else(agent)?)
    }

    /// `<public url>/install/{entry}?gateway={gateway}` (or `?agent={agent}`): where a caller of this consumer installs the entry or
    /// repairs their installation. Carries no secret and no sign-in.
    pub(crate) fn install(&self, entry: &str, consumer: Option<&ConsumerRef>) -> String {
        let mut url = self.public_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["install", entry]);
        }
        if let Some(consumer) = consumer {
            let key = match consumer.kind {
                ConsumerKind::Gateway => "gateway",
                ConsumerKind::Agent => "agent",
            };
            url.query_pairs_mut().append_pair(key, &consumer.slug);
        }
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_one_url() {
        for public_url in ["https://tools.example.com", "https://example.com/chandlery/"] {
            let links = Links::new(public_url.parse().unwrap());
            for name in ["gateways/default", "agents/helper"] {
                let endpoint = ConsumerRef::parse(name).unwrap();
                let url = links.below(&endpoint.mcp_path());
                assert_eq!(links.endpoint(&url), Some(endpoint));
                for other in [format!("{url}/"), format!("{url}?a"), url.replace("https", "http")] {
                    assert_eq!(links.endpoint(&other), None, "{other}");
                }
            }
            assert_eq!(links.endpoint(&links.below("/install/time")), None);
        }
    }

    #[test]
    fn points_to_the_install_page() {
        let links = Links::new("https://tools.example.com".parse().unwrap());
        let gateway = ConsumerRef::new(ConsumerKind::Gateway, "default");
        assert_eq!(
            links.install("time", Some(&gateway)),
            "https://tools.example.com/install/time?gateway=default"
        );
        let below = Links::new("https://example.com/chandlery/".parse().unwrap());
        let agent = ConsumerRef::new(ConsumerKind::Agent, "helper");
        assert_eq!(
            below.install("time", Some(&agent)),
            "https://example.com/chandlery/install/time?agent=helper"
        );
        assert_eq!(
            below.install("time", None),
            "https://example.com/chandlery/install/time"
        );
    }
}
