//! How the RabbitMQ sink is configured.

use std::path::PathBuf;
use std::time::Duration;

use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use super::super::{Address, Template};
use super::declare::Declaration;
use crate::config::units;
use crate::sink::body::Body;
use crate::sink::tls;

/// The forms of its URLs.
const SCHEMES: [&str; 2] = ["amqp", "amqps"];

/// What a URL's query may have in it.
const PARAMETERS: [&str; 4] = ["auth_mechanism", "channel_max", "frame_max", "heartbeat"];

/// Where messages go, and in which form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker, or several nodes of its cluster; this or `url_file` must be set.
    pub url: Option<Address>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// The exchange; the empty text is the default one, which takes a routing key for a queue's name.
    pub exchange: Option<String>,
    /// The routing key of each message.
    pub routing_key: Option<Template>,
    /// What is declared at the broker after connecting. Unset: nothing.
    pub declare: Option<Declare>,
    /// What a message's body is.
    pub body: Body,
    /// Whether messages have the attributes of CloudEvents 1.0 as headers, too.
    pub cloudevents: bool,
    /// How long connecting may take, and how long a batch's confirmations.
    #[serde(deserialize_with = "units::duration::deserialize")]
    #[schemars(schema_with = "units::duration::schema")]
    pub timeout: Duration,
    /// Certificate authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM) by which the receiver shows who it is.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            exchange: None,
            routing_key: None,
            declare: None,
            body: Body::default(),
            cloudevents: false,
            timeout: Duration::from_secs(10),
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// What is declared, durable all of it. What is there already has to be the same.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Declare {
    /// The exchange's type.
    pub exchange_type: ExchangeType,
    /// A quorum queue, bound to the exchange for all that the sink publishes.
    pub queue: Option<String>,
}

/// How an exchange that is declared routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeType {
    /// By patterns of routing keys.
    #[default]
    Topic,
    /// By whole routing keys.
    Direct,
    /// To every queue.
    Fanout,
}

impl Config {
    /// Checks what the types alone don't say, and what can be checked without reading the files.
    pub(in crate::sink::queue) fn validate(&self) -> Result<(), String> {
        if self.url_file.is_none() || self.url.is_some() {
            nodes(&self.load_address()?)?;
        }
        self.load_exchange()?;
        self.load_routing_key()?;
        self.load_declare()?;
        self.tls().validate()
    }

    /// The broker.
    pub(super) fn load_address(&self) -> Result<Address, String> {
        Address::load(self.url.as_ref(), self.url_file.as_deref(), &SCHEMES)
    }

    /// The exchange's name.
    pub(super) fn load_exchange(&self) -> Result<ShortString, String> {
        let name = self.exchange.as_deref();
        let name = name.ok_or("exchange is missing; set it, or to \"\" for the default exchange")?;
        ShortString::try_new(name).map_err(|_| "exchange is longer than 255 bytes".into())
    }

    /// What routing keys are made of.
    pub(super) fn load_routing_key(&self) -> Result<Template, String> {
        let template = self.routing_key.clone().ok_or("routing_key is missing")?;
        if template.longest() > usize::from(u8::MAX) {
            return Err("routing_key may become longer than 255 bytes, which is the most that AMQP allows".into());
        }
        Ok(template)
    }

    /// What is declared, if anything is.
    pub(super) fn load_declare(&self) -> Result<Option<Declaration>, String> {
        let Some(Declare { exchange_type, queue }) = &self.declare else { return Ok(None) };
        let exchange_type = *exchange_type;
        if self.exchange.as_deref() == Some("") {
            return Err("declare: the default exchange is always there, and nothing can be bound to it".into());
        }
        let Some(queue) = queue else { return Ok(Some(Declaration { exchange_type, queue: None })) };
        let queue = ShortString::try_new(queue.as_str()).ok().filter(|queue| !queue.as_str().is_empty());
        let queue = queue.ok_or("declare.queue: expected a name of 1 to 255 bytes")?;
        let routing_key = self.load_routing_key()?;
        let key = routing_key.with_all("*");
        let is_constant = key == routing_key.to_string();
        if exchange_type == ExchangeType::Direct && !is_constant {
            return Err("declare.queue: a direct exchange routes whole keys, and routing_key has variables; \
                        declare a topic exchange, or bind a queue by hand for each key"
                .into());
        }
        // A whole word is all that stands for any.
        let is_bindable = key.split('.').all(|word| word == "*" || !word.contains('*'));
        if exchange_type == ExchangeType::Topic && !is_bindable {
            return Err("declare.queue: in routing_key each variable has to stand alone between dots".into());
        }
        let key = ShortString::try_new(key).map_err(|_| "routing_key is longer than 255 bytes")?;
        Ok(Some(Declaration { exchange_type, queue: Some((queue, key)) }))
    }

    pub(super) fn tls(&self) -> tls::Files<'_> {
        tls::Files { ca: self.ca_file.as_deref(), cert: self.cert_file.as_deref(), key: self.key_file.as_deref() }
    }
}

/// What each URL of the address says.
///
/// # Errors
/// When one of them says it in a way that means nothing to RabbitMQ.
pub(super) fn nodes(address: &Address) -> Result<Vec<AMQPUri>, String> {
    address.urls().iter().map(node).collect()
}

fn node(url: &Url) -> Result<AMQPUri, String> {
    if url.query_pairs().any(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
        return Err(format!("url: its query may have these alone: {}", PARAMETERS.join(", ")));
    }
    // The parser's own words may repeat a part of the URL.
    let mut uri: AMQPUri =
        url.as_str().parse().map_err(|_| "url: what is in its query, or is percent-encoded, has no such value")?;
    if let Some(Host::Ipv6(ip)) = url.host() {
        uri.authority.host = ip.to_string();
    }
    // To the letter it would be a virtual host without a name.
    if uri.vhost.is_empty() {
        uri.vhost = "/".into();
    }
    if uri.vhost.len() > usize::from(u8::MAX) {
        return Err("url: the virtual host's name is longer than 255 bytes".into());
    }
    Ok(uri)
}
