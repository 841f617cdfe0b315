//! Where a fetch may go: the first URL, and redirects by req D16.
//!
//! A target is resolved by the URL standard, then checked: scheme http or https, port 80 or 443, no
//! user-info, bounded length. The check comes before any packet. Where that standard mends what RFC 3986 does not
//! allow (backslashes, a scheme without `//` and host), so that two readers would see two hosts, nothing is
//! followed. The fragment is dropped: it is never sent.

use std::net::IpAddr;

use url::Url;

use crate::{
    base::{limits::URL_BYTES_MAX, octets::Octets},
    lookup::tls::server_name,
    observation::{RedirectReason, RedirectRefusal},
    plan::Host,
};

/// A URL that may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    host: Host,
    port: u16,
}

impl Target {
    /// The first URL of a fetch: http and port 80 (req D15), or https and port 443.
    ///
    /// # Errors
    /// The host or path is none; the text says so.
    pub fn first(host: &Host, path: &str, https: bool) -> Result<Self, String> {
        let scheme = if https { "https" } else { "http" };
        let authority = match host {
            Host::Name(name) => name.clone(),
            Host::Ip(IpAddr::V4(address)) => address.to_string(),
            Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
        };
        let url =
            Url::parse(&format!("{scheme}://{authority}{path}")).map_err(|e| format!("{authority}{path}: {e}"))?;
        let target = Self::checked(url).map_err(|reason| format!("{reason:?}"))?;
        // What was asked about is what is fetched: the URL standard reads some names as addresses.
        if target.host != *host {
            return Err(format!("{authority} does not stand for itself in a URL"));
        }
        Ok(target)
    }

    /// The target of redirect number `redirect`, from 1, found at `self`.
    ///
    /// # Errors
    /// It may not be followed; the value says why.
    pub fn redirected(&self, location: &[u8], redirect: u8) -> Result<Self, RedirectRefusal> {
        let refuse = |reason| RedirectRefusal { redirect, target: Octets::first(location, URL_BYTES_MAX), reason };
        let not_a_url = |text: &str| refuse(RedirectReason::NotAUrl(text.to_owned()));
        if location.len() > URL_BYTES_MAX {
            return Err(not_a_url("longer than 2048 octets"));
        }
        if !location.iter().all(|b| (0x21..=0x7e).contains(b) && *b != b'\\') {
            return Err(not_a_url("holds octets that may not stand in a URL"));
        }
        let text = std::str::from_utf8(location).map_err(|_| not_a_url("not ASCII"))?;
        if !names_its_host(text) {
            return Err(not_a_url("no host"));
        }
        let url = self.url.join(text).map_err(|e| not_a_url(&e.to_string()))?;
        Self::checked(url).map_err(refuse)
    }

    fn checked(mut url: Url) -> Result<Self, RedirectReason> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RedirectReason::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RedirectReason::UserInfo);
        }
        url.set_fragment(None);
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(RedirectReason::NotAUrl("longer than 2048 octets".to_owned()));
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if !matches!(port, 80 | 443) {
            return Err(RedirectReason::Port(port));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => host_name(name)?,
            Some(url::Host::Ipv4(address)) => Host::Ip(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Ip(address.into()),
            None => return Err(RedirectReason::NotAUrl("no host".to_owned())),
        };
        if url.scheme() == "https" && server_name(&host).is_none() {
            return Err(RedirectReason::NotAUrl("TLS cannot name the host".to_owned()));
        }
        Ok(Self { url, host, port })
    }

    /// Whom to resolve or connect to.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// 80 or 443.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is wanted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The request for this URL: GET, one connection, nothing encoded, no cookies.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: parallax/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
        .into_bytes()
    }
}

/// Whether a host stands where it should: after the scheme and `//`, or after `//` alone; or there is neither.
fn names_its_host(location: &str) -> bool {
    let scheme = location.get(..location.find(':').unwrap_or(0)).unwrap_or_default();
    let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let rest = if is_http { &location[scheme.len() + 1..] } else { location };
    match rest.strip_prefix("//") {
        Some(authority) => !authority.is_empty() && !authority.starts_with(['/', '?', '#']),
        None => !is_http,
    }
}

/// A host name that can be asked for in DNS.
fn host_name(name: &str) -> Result<Host, RedirectReason> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = !name.is_empty()
        && name.len() <= crate::base::limits::NAME_OCTETS_MAX
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if fits {
        Ok(Host::Name(name.to_ascii_lowercase()))
    } else {
        Err(RedirectReason::NotAUrl("the host is no domain name".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Target {
        Target::first(&Host::Name("www.customer.example".to_owned()), "/.well-known/acme-challenge/t", false)
            .expect("good")
    }

    #[test]
    fn ok_targets() {
        for (location, url) in [
            ("/other", "http://www.customer.example/other"),
            ("other?q=1", "http://www.customer.example/.well-known/acme-challenge/other?q=1"),
            ("http://OTHER.example/x", "http://other.example/x"),
            ("http://other.example:80/x", "http://other.example/x"),
            ("http://other.example:443/x", "http://other.example:443/x"),
            ("https://other.example/x", "https://other.example/x"),
            ("//other.example/x#fragment", "http://other.example/x"),
            ("?q=http://x.example/", "http://www.customer.example/.well-known/acme-challenge/t?q=http://x.example/"),
            ("HTTPS://OTHER.example", "https://other.example/"),
            ("http://@other.example/x", "http://other.example/x"),
            ("http://other.example:/x", "http://other.example/x"),
            ("http://0x08080808/x", "http://8.8.8.8/x"),
        ] {
            assert_eq!(start().redirected(location.as_bytes(), 1).expect(location).as_str(), url);
        }
    }

    #[test]
    fn d10_err_targets() {
        for (location, reason) in [
            ("https://www.customer.example:9443/t", RedirectReason::Port(9443)),
            ("ftp://www.customer.example/t", RedirectReason::Scheme("ftp".to_owned())),
            ("javascript:alert(1)", RedirectReason::Scheme("javascript".to_owned())),
            ("http://user:pass@www.customer.example/", RedirectReason::UserInfo),
            ("http://user@www.customer.example/", RedirectReason::UserInfo),
            ("//:pass@www.customer.example/", RedirectReason::UserInfo),
            ("http://www.customer.example:0/", RedirectReason::Port(0)),
            ("http://www.customer.example:25/", RedirectReason::Port(25)),
        ] {
            let refusal = start().redirected(location.as_bytes(), 3).expect_err(location);
            assert_eq!((refusal.redirect, refusal.reason), (3, reason), "{location}");
        }
        let long = format!("/{}", "x".repeat(2050));
        // Shorter than the bound, and longer once its quotation marks are percent-encoded.
        let grows = format!("/{}", "\"".repeat(1000));
        for location in [
            "http://",
            "http://a b/",
            "http://exa\tmple/",
            "http://\u{e4}.example/",
            "http://a..b/",
            "http:///x",
            "http:/x",
            "https:x",
            "///x",
            "//",
            "http://?x",
            "http:\\\\x.example\\y",
            "/a\\b",
            "http://x.example:abc/",
            "http://x.example:99999/",
            &long,
            &grows,
        ] {
            let refusal = start().redirected(location.as_bytes(), 1).expect_err(location);
            assert!(matches!(refusal.reason, RedirectReason::NotAUrl(_)), "{location}");
        }
    }

    #[test]
    fn err_a_name_that_a_url_would_read_as_an_address_is_not_fetched() {
        for name in ["8.8.0x808", "0x7f.1", "1.2.3"] {
            assert!(Target::first(&Host::Name(name.to_owned()), "/t", false).is_err(), "{name}");
        }
    }

    #[test]
    fn the_request_names_the_host_and_never_the_fragment() {
        let target = start().redirected(b"http://other.example:443/x?y#z", 1).expect("good");
        let request = String::from_utf8(target.request()).expect("ASCII");
        assert!(request.starts_with("GET /x?y HTTP/1.1\r\nHost: other.example:443\r\n"), "{request}");
    }
}
