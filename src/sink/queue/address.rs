//! Where a broker is.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::secret::{Hidden, Secret};

/// A broker's URL, or several of one cluster, separated by commas. They may have passwords in them, so `Debug` shows the hosts alone.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Address(#[schemars(with = "String")] Vec<Url>);

impl Address {
    /// The one that is configured, as a value or as a file's only line.
    ///
    /// # Errors
    /// When there is none or two, or when it isn't one of a broker of this kind, whose URLs have these `schemes`.
    pub(super) fn load(url: Option<&Self>, file: Option<&Path>, schemes: &[&str]) -> Result<Self, String> {
        let address = match (url, file) {
            (Some(_), Some(_)) => return Err("url and url_file are both set; keep one of them".into()),
            (None, None) => return Err("url is missing; set it, or url_file".into()),
            (Some(url), None) => url.clone(),
            (None, Some(path)) => {
                let line = Secret::read_one(path).map_err(|error| format!("url_file: {error}"))?;
                Self::try_from(line.expose().to_owned())
                    .map_err(|error| format!("url_file: {}: {error}", path.display()))?
            }
        };
        if address.0.iter().any(|url| !schemes.contains(&url.scheme())) {
            let expected = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
            return Err(format!("url: expected a URL that begins with {expected}"));
        }
        Ok(address)
    }

    /// Each URL in full, for the client alone.
    pub(super) fn urls(&self) -> &[Url] {
        &self.0
    }

    /// What may be shown: hosts and ports.
    pub(super) fn places(&self) -> String {
        self.0.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// What must not be, as a broker's or a client's words may repeat it.
    pub(super) fn hidden(&self) -> Hidden {
        let parts = |url| [Url::as_str(url), url.username(), url.password().unwrap_or_default()];
        Hidden::new(self.0.iter().flat_map(parts))
    }
}

fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let urls = text.split(',').map(|url| Url::parse(url.trim()).map_err(|error| format!("not a URL ({error})")));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        if urls.iter().any(|url| url.host_str().is_none_or(str::is_empty)) {
            return Err("a URL has no host".into());
        }
        Ok(Self(urls))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.places())
    }
}
