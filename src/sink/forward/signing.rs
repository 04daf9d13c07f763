//! Signatures by [Standard Webhooks](https://www.standardwebhooks.com).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;

/// What the standard allows a key to have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const PREFIX: &str = "whsec_";

/// A key that requests are signed with: `whsec_` and the base64 of 24 to 64 bytes. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(description = "whsec_ and the base64 of 24 to 64 bytes.", extend("pattern" = "^whsec_"))]
pub struct SigningKey(#[schemars(with = "String")] Vec<u8>);

impl SigningKey {
    /// `v1,` and the base64 of the HMAC-SHA256 over the id, the attempt's time in seconds, and the body.
    pub(super) fn sign(&self, id: &str, at_s: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{at_s}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The key as it is written, without the prefix.
    pub(super) fn expose(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl TryFrom<String> for SigningKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or("a signing secret begins with whsec_, and the base64 of 24 to 64 bytes follows")?;
        let bytes = STANDARD.decode(key).map_err(|_| "what follows whsec_ in a signing secret is not base64")?;
        if !KEY_BYTES.contains(&bytes.len()) {
            return Err(format!(
                "a signing secret has {} bytes, expected {} to {}",
                bytes.len(),
                KEY_BYTES.start(),
                KEY_BYTES.end()
            ));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_example_is_signed_as_it_says() {
        let key = SigningKey::try_from("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()).unwrap();
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            key.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    #[test]
    fn a_malformed_key_is_refused_and_not_repeated() {
        for (text, part) in [
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_"),
            ("whsec_C2FVsBQIhrscChlQIMV b5sSYspob7oD", "not base64"),
            ("whsec_C2FVsBQIhrscChlQIMV", "not base64"),
            ("whsec_C2FVsBQIhrsc", "has 9 bytes, expected 24 to 64"),
            ("whsec_", "has 0 bytes"),
        ] {
            let told = SigningKey::try_from(text.to_owned()).unwrap_err();
            assert!(told.contains(part) && !told.contains("C2FV"), "{told}");
        }
    }
}
