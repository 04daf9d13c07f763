//! The client of Plugchat's `update-webhooks`: where an account is told which URL to post its callbacks to.

mod answer;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use url::{Host, Url};

use crate::network::{self, NoAnswer};
use crate::secret::{self, Hidden, Secret};

/// Where webhooks are registered, as Plugchat documents it.
const ENDPOINT: &str = "https://app.plugchat.com.br/api/integrations/update-webhooks";

/// The account at Plugchat.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Authorization Token of Plugchat's administration panel.
    pub token: Option<Secret>,
    /// The same from a file.
    pub token_file: Option<PathBuf>,
    /// Where webhooks are registered.
    #[serde(deserialize_with = "crate::config::units::url")]
    #[schemars(schema_with = "crate::config::units::url_schema")]
    pub endpoint: Url,
}

impl Default for Config {
    fn default() -> Self {
        Self { token: None, token_file: None, endpoint: Url::parse(ENDPOINT).expect("a constant that is a URL") }
    }
}

impl Config {
    /// Checks what the types alone don't say.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err("plugchat.token and plugchat.token_file are both set; keep one of them".into());
        }
        Ok(())
    }

    /// The token, when one is configured.
    pub(crate) fn load_token(&self) -> Result<Option<Secret>, String> {
        secret::one_of("plugchat.token", self.token.as_ref(), self.token_file.as_ref())
    }
}

/// A URL that Plugchat may be given: https, with a host. It has the receiver's secret in it, so `Debug` and `Display` hide
/// all that may be one.
#[derive(Clone)]
pub struct CallbackUrl {
    url: Url,
    shown: String,
}

impl CallbackUrl {
    /// Reads a URL that has its secret anywhere behind the host.
    ///
    /// # Errors
    /// A fragment that says what is wrong with it and doesn't repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
        if url.scheme() != "https" {
            return Err("is not https, and Plugchat takes https URLs only".into());
        }
        if url.fragment().is_some() {
            return Err("has a fragment (#), which no caller would send".into());
        }
        let shown = format!("{}/…", url.origin().ascii_serialization());
        Ok(Self { url, shown })
    }

    /// Reads a URL whose last part is its secret: the others may be shown.
    ///
    /// # Errors
    /// Likewise.
    pub fn parse_with_secret_last(text: &str) -> Result<Self, String> {
        let Self { url, .. } = Self::parse(text)?;
        let folder = url.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let shown = format!("{}{folder}/…", url.origin().ascii_serialization());
        Ok(Self { url, shown })
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({})", self.shown)
    }
}

/// Plugchat accepted the URL.
#[derive(Debug)]
pub struct Accepted {
    /// The answer's status: any success.
    pub status: StatusCode,
    /// What the answer says in words, secrets taken out; Plugchat documents none.
    pub said: Option<String>,
}

/// Why a URL was not registered. The text says what it means and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Plugchat answered, and it was no success.
    #[error("{}{}", answer::explain(*status), said.as_ref().map(|said| format!(" It said: {said}")).unwrap_or_default())]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// What the answer says in words, secrets taken out.
        said: Option<String>,
    },
    /// There was no answer.
    #[error("no answer from {host}: {why}{}", if *is_unknown { "; the URL may have been registered or not" } else { "" })]
    NoAnswer {
        /// Who was asked.
        host: String,
        /// Why there was none.
        why: String,
        /// Whether the request may have got there all the same.
        is_unknown: bool,
    },
}

/// Speaks to Plugchat for one account.
pub struct Client {
    http: reqwest::Client,
    endpoint: Url,
    token: Secret,
}

impl Client {
    /// Prepares requests, each with `timeout` for all of it. Connects to nothing.
    ///
    /// # Errors
    /// A sentence that says which setting can't be used, and what to do.
    pub fn new(config: &Config, token: Secret, timeout: Duration) -> Result<Self, String> {
        check_token(&token)?;
        let endpoint = config.endpoint.clone();
        check_endpoint(&endpoint)?;
        let http = network::client(&endpoint).timeout(timeout).build().map_err(|error| {
            let error = NoAnswer::from(&error);
            format!("TLS cannot be set up: {error} (are this host's CA certificates installed?)")
        })?;
        Ok(Self { http, endpoint, token })
    }

    /// What [`set_message_status`](Self::set_message_status) would send, secrets hidden.
    pub fn preview(&self, url: &CallbackUrl) -> String {
        let endpoint = format!("{}{}", self.endpoint.origin().ascii_serialization(), self.endpoint.path());
        let endpoint = Hidden::new([self.token.expose()]).redact(&endpoint);
        let body = body(&url.to_string());
        format!("PUT {endpoint}\nAuthorization: Bearer …\nContent-Type: application/json\n\n{body}")
    }

    /// Makes `url` the one that status callbacks are posted to. No other webhook of the account is mentioned.
    ///
    /// # Errors
    /// [`Error`]: anything but a success.
    pub async fn set_message_status(&self, url: &CallbackUrl) -> Result<Accepted, Error> {
        let request =
            self.http.put(self.endpoint.clone()).bearer_auth(self.token.expose()).json(&body(url.url.as_str()));
        let response = request.send().await.map_err(|error| {
            let why = NoAnswer::from(&error);
            let host = self.endpoint.host_str().unwrap_or_default().to_owned();
            Error::NoAnswer { host, why: why.to_string(), is_unknown: !why.is_before_sending() }
        })?;
        let status = response.status();
        let said = answer::read(response, &Hidden::with_url(&url.url, [self.token.expose()])).await;
        if status.is_success() { Ok(Accepted { status, said }) } else { Err(Error::Refused { status, said }) }
    }
}

/// The documented form. Only this one key: what becomes of those that are left out is not documented, and one that is sent
/// is overwritten.
fn body(url: &str) -> serde_json::Value {
    json!({ "value": { "messageStatus": url } })
}

fn check_token(token: &Secret) -> Result<(), String> {
    let text = token.expose();
    if text.to_ascii_lowercase().starts_with("bearer ") {
        return Err("the token begins with \"Bearer\"; keep only what follows it".into());
    }
    if text.contains(char::is_whitespace) || !text.is_ascii() || HeaderValue::from_str(text).is_err() {
        return Err("the token has characters that no token has; copy it again from Plugchat's panel".into());
    }
    Ok(())
}

fn check_endpoint(endpoint: &Url) -> Result<(), String> {
    match endpoint.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(endpoint) => Ok(()),
        "http" => Err("plugchat.endpoint is http, and the token would travel in the clear; make it https".into()),
        _ => Err(format!("plugchat.endpoint is not an https URL; Plugchat documents {ENDPOINT}")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_url_never_shows_its_secret() {
        let text = "https://user:pass@status.example.com:8443/hook/s3cret?token=t0ken";
        let url = CallbackUrl::parse(text).unwrap();
        assert_eq!(url.to_string(), "https://status.example.com:8443/…");
        let url = CallbackUrl::parse_with_secret_last(text).unwrap();
        assert_eq!(url.to_string(), "https://status.example.com:8443/hook/…");
        assert_eq!(format!("{url:?}"), "CallbackUrl(https://status.example.com:8443/hook/…)");
    }

    #[test]
    fn only_an_https_url_can_be_registered() {
        for wrong in ["http://h.example/s3cret", "ftp://h.example/s3cret", "https://", "s3cret", "https://h/s3cret#x"] {
            let error = CallbackUrl::parse(wrong).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        for wrong in ["Bearer t0ken", "two words", "t0k\u{7}en", "tokén"] {
            let error = check_token(&Secret::new(wrong)).unwrap_err();
            assert!(!error.contains(wrong), "{error}");
        }
        assert_eq!(check_token(&Secret::new("t0ken-._~+/=")), Ok(()));
    }

    #[test]
    fn the_token_goes_in_the_clear_to_this_host_alone() {
        for (endpoint, is_allowed) in [
            ("https://app.plugchat.com.br/x", true),
            ("http://127.0.0.1:1/x", true),
            ("http://[::1]:1/x", true),
            ("http://localhost/x", true),
            ("http://127.0.0.1.example.com/x", false),
            ("http://10.0.0.1/x", false),
            ("http://app.plugchat.com.br/x", false),
            ("file:///x", false),
        ] {
            assert_eq!(check_endpoint(&Url::parse(endpoint).unwrap()).is_ok(), is_allowed, "{endpoint}");
        }
    }
}
