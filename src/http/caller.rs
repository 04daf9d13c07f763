//! Who is calling, when there are proxies in between.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The caller's address: the peer's, unless that is a trusted proxy. Then `X-Forwarded-For` is read from the right, past the
/// trusted proxies, because everything left of the last trusted one is what a stranger wrote.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut caller = peer.to_canonical();
    let forwarded: Vec<&[u8]> =
        headers.get_all("x-forwarded-for").iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')).collect();
    for hop in forwarded.into_iter().rev() {
        if !is_trusted(caller) {
            break;
        }
        // What is no address was not written by a proxy that we trust: the hop before it is the last one known.
        let Some(address) = std::str::from_utf8(hop).ok().and_then(parse) else { break };
        caller = address.to_canonical();
    }
    caller
}

/// An address as proxies write it: alone, in brackets, with a port, in quotes.
fn parse(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let hop = hop.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(hop);
    let in_brackets = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_in_every_form_that_proxies_write() {
        for (hop, address) in [
            ("203.0.113.7", Some("203.0.113.7")),
            (" 203.0.113.7:4711\t", Some("203.0.113.7")),
            ("\"203.0.113.7\"", Some("203.0.113.7")),
            ("\"203.0.113.7:4711\"", Some("203.0.113.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            ("[203.0.113.7]", None),
            ("203.0.113.7:", None),
            ("203.0.113.7:99999", None),
            ("\"203.0.113.7", None),
            ("[2001:db8::1", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(parse(hop), address.map(|address| address.parse().unwrap()), "{hop}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let caller = |peer: &str, forwarded: &[&str]| {
            let headers =
                forwarded.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect();
            address(peer.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(caller("127.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(caller("127.0.0.1", &["6.6.6.6, 203.0.113.7, 10.1.2.3"]), "203.0.113.7");
        assert_eq!(caller("127.0.0.1", &["6.6.6.6", "203.0.113.7"]), "203.0.113.7");
        assert_eq!(caller("198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(caller("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(caller("127.0.0.1", &["6.6.6.6, garbage"]), "127.0.0.1");
        assert_eq!(caller("::ffff:127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
    }
}
