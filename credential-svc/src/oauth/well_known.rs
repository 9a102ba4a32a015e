//! Where metadata is.

use reqwest::Url;

/// Where an issuer's metadata may be, in the order of MCP: RFC 8414, section 3.1; then OpenID Connect Discovery 1.0 in the same manner, and
/// in its own (section 4.1).
pub(super) fn of_issuer(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/openid-configuration"));
    }
    at(issuer, paths, None)
}

/// Where a resource's metadata may be: RFC 9728, section 3.1; then at the root, as MCP permits.
pub(super) fn of_resource(resource: &Url) -> Vec<Url> {
    const SUFFIX: &str = "/.well-known/oauth-protected-resource";
    let path = match resource.path() {
        "/" => "",
        path => path,
    };
    let mut places = at(resource, vec![format!("{SUFFIX}{path}")], resource.query());
    // Servers that name themselves without the slash have their metadata there.
    let trimmed = format!("{SUFFIX}{}", path.trim_end_matches('/'));
    places.extend(at(resource, vec![trimmed, SUFFIX.to_owned()], None));
    places.dedup();
    places
}

fn at(origin: &Url, paths: Vec<String>, query: Option<&str>) -> Vec<Url> {
    let place = |path: String| {
        let mut url = origin.clone();
        url.set_path(&path);
        url.set_query(query);
        url.set_fragment(None);
        url
    };
    paths.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(places: Vec<Url>) -> Vec<String> {
        places.into_iter().map(String::from).collect()
    }

    #[test]
    fn of_issuers() {
        for issuer in ["https://as.example.com", "https://as.example.com/"] {
            assert_eq!(
                texts(of_issuer(&issuer.parse().unwrap())),
                [
                    "https://as.example.com/.well-known/oauth-authorization-server",
                    "https://as.example.com/.well-known/openid-configuration",
                ]
            );
        }
        for issuer in ["https://as.example.com/t/1", "https://as.example.com/t/1/"] {
            assert_eq!(
                texts(of_issuer(&issuer.parse().unwrap())),
                [
                    "https://as.example.com/.well-known/oauth-authorization-server/t/1",
                    "https://as.example.com/.well-known/openid-configuration/t/1",
                    "https://as.example.com/t/1/.well-known/openid-configuration",
                ]
            );
        }
    }

    #[test]
    fn of_resources() {
        let places = |url: &str| texts(of_resource(&url.parse().unwrap()));
        let base = "https://mcp.example.com/.well-known/oauth-protected-resource";
        assert_eq!(places("https://mcp.example.com"), [base.to_owned()]);
        assert_eq!(
            places("https://mcp.example.com/a/mcp"),
            [format!("{base}/a/mcp"), base.to_owned()]
        );
        assert_eq!(
            places("https://mcp.example.com/mcp/"),
            [format!("{base}/mcp/"), format!("{base}/mcp"), base.to_owned()]
        );
        assert_eq!(
            places("https://mcp.example.com/mcp?team=1"),
            [format!("{base}/mcp?team=1"), format!("{base}/mcp"), base.to_owned()]
        );
    }
}
