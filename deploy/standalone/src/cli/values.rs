//! Parsers of option values, with error messages that show an example.

use std::{net::SocketAddr, ops::RangeInclusive};

use ipnet::IpNet;
use url::Url;

/// Parses an address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Parses a network.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| "must be a network, such as 10.1.0.0/16, or 10.1.2.3/32 for one address".to_owned())
}

/// Parses a URL.
pub(super) fn url(text: &str) -> Result<Url, String> {
    text.parse()
        .map_err(|_| "must be a URL, such as https://tools.example.com".to_owned())
}

/// Parses a number of seconds within a range.
pub(super) fn seconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let seconds = text.parse().ok().filter(|seconds| range.contains(seconds));
        seconds.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("must be a number of seconds from {least} to {most}, without a unit, such as {most}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_an_example() {
        assert!(address("127.0.0.1:0").is_ok() && address("[::]:80").is_ok());
        for bad in ["banana", "localhost:8080", "127.0.0.1"] {
            assert!(address(bad).unwrap_err().contains("127.0.0.1:8080"), "{bad}");
        }
        assert!(network("10.0.0.0/8").is_ok() && network("::1/128").is_ok());
        assert!(network("10.0.0.1").unwrap_err().contains("/32"));
        let seconds = seconds(1..=3600);
        assert_eq!((seconds("1"), seconds("3600")), (Ok(1), Ok(3600)));
        for bad in ["15s", "0", "3601", "1.5", "-1", ""] {
            assert!(seconds(bad).unwrap_err().contains("from 1 to 3600"), "{bad}");
        }
        assert!(url("https://a.example").is_ok() && url("foo").unwrap_err().contains("https://"));
    }
}
