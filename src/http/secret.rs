//! The shared secret of the callback URL.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::secret::Secret;

/// The secrets that are valid now; several during a rotation.
pub(crate) struct Secrets {
    /// Digests, all of one length: comparing them says nothing of the secrets' lengths.
    digests: Vec<[u8; 32]>,
    /// Whether each was presented since the start.
    used: Vec<AtomicBool>,
}

impl Secrets {
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        Self {
            digests: secrets.iter().map(|secret| Sha256::digest(secret.expose()).into()).collect(),
            used: secrets.iter().map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.digests.len()
    }

    /// Whether the secret with this number (from 1) is presented for the first time since the start, while there are others: that
    /// is how a rotation is followed.
    pub(crate) fn is_first_use(&self, number: u32) -> bool {
        let used = usize::try_from(number).ok().and_then(|number| self.used.get(number.checked_sub(1)?));
        self.used.len() > 1
            && used.is_some_and(|used| !used.load(Ordering::Relaxed) && !used.swap(true, Ordering::Relaxed))
    }

    /// The number (from 1) of the secret that was presented, in time that doesn't depend on which, or on how much of it is right.
    fn find(&self, presented: &[u8]) -> Option<u32> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut found = 0u32;
        for (number, valid) in (1u32..).zip(&self.digests) {
            let same: Choice = valid.ct_eq(&digest);
            found.conditional_assign(&number, same);
        }
        (found > 0).then_some(found)
    }

    /// Looks where a caller may present it: the path's last part, `?token=`, `Authorization: Bearer`.
    pub(crate) fn check(&self, in_path: Option<&str>, query: Option<&str>, headers: &HeaderMap) -> Option<u32> {
        let in_query =
            query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("token="));
        let decoded = in_path.into_iter().chain(in_query).map(|text| percent_decode_str(text).collect::<Vec<u8>>());
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii().to_vec())
        });
        decoded.chain(bearer).filter(|presented| !presented.is_empty()).find_map(|presented| self.find(&presented))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_may_be_and_by_its_number() {
        let secrets = Secrets::new(&[Secret::new("one"), Secret::new("tw/o ü")]);
        let none = HeaderMap::new();
        let bearer = |text: &str| HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
        assert_eq!(secrets.check(Some("one"), None, &none), Some(1));
        assert_eq!(secrets.check(Some("tw%2Fo%20%C3%BC"), None, &none), Some(2));
        assert_eq!(secrets.check(None, Some("a=b&token=one"), &none), Some(1));
        assert_eq!(secrets.check(None, None, &bearer("bearer one")), Some(1));
        assert_eq!(secrets.check(Some("wrong"), Some("token=one"), &none), Some(1));
        for (path, query, headers) in [
            (None, None, none.clone()),
            (Some(""), Some("token="), bearer("Bearer ")),
            (Some("onE"), Some("token=on"), bearer("Basic one")),
            (Some("one "), Some("xtoken=one"), bearer("one")),
        ] {
            assert_eq!(secrets.check(path, query, &headers), None, "{path:?} {query:?} {headers:?}");
        }
    }
}
