//! What a configuration means, for people and for programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Serialize, Serializer};

use crate::cli::{Usage, output};
use crate::config::Config;
use crate::http::{self, OtherTypes};

/// A secret shorter than this can be guessed by somebody patient.
const SHORT_SECRET: usize = 16;

/// nginx keeps connections to the receiver for a minute, and must be the one to close them.
const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The effective configuration, its keys as in the file, secrets left out.
#[derive(Serialize)]
pub(super) struct Report {
    /// `None`: there is no file.
    configuration: Option<PathBuf>,
    server: Server,
    store: Store,
    admin: Admin,
    log: Log,
    plugchat: Plugchat,
    sinks: Vec<Sink>,
    /// What is risky, or may not be meant.
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct Server {
    listen: String,
    path: String,
    public_url: Option<String>,
    /// How many are configured.
    secrets: usize,
    #[serde(skip)]
    has_made_one: bool,
    allow_from: Vec<String>,
    trusted_proxies: Vec<String>,
    other_types: &'static str,
    limits: Limits,
}

#[derive(Serialize)]
struct Limits {
    #[serde(serialize_with = "size")]
    body: u64,
    #[serde(serialize_with = "duration")]
    header_timeout: Duration,
    #[serde(serialize_with = "duration")]
    body_timeout: Duration,
    #[serde(serialize_with = "duration")]
    idle_timeout: Duration,
    connections: usize,
    in_flight: usize,
}

#[derive(Serialize)]
struct Store {
    path: PathBuf,
    #[serde(serialize_with = "duration")]
    retention: Duration,
    #[serde(serialize_with = "duration")]
    body_retention: Duration,
    #[serde(serialize_with = "size")]
    max_size: u64,
}

#[derive(Serialize)]
struct Admin {
    listen: String,
    /// Whether there is one.
    token: bool,
}

#[derive(Serialize)]
struct Log {
    format: &'static str,
    level: String,
}

#[derive(Serialize)]
struct Plugchat {
    host: String,
    /// Whether there is one.
    token: bool,
}

#[derive(Serialize)]
struct Sink {
    name: String,
    kind: &'static str,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl Report {
    /// Reads the files that the configuration names.
    pub(super) fn new(config: &Config, file: Option<&Path>) -> anyhow::Result<Self> {
        let mut remarks = Vec::new();
        let server = Server::new(&config.server, &config.store.sqlite.path, &mut remarks)?;
        let sinks = config.sinks.iter().map(|(name, sink)| {
            let description = sink.describe().map_err(|error| Usage(format!("sinks.{name}: {error:#}")))?;
            Ok(Sink { name: name.to_string(), kind: sink.kind(), description, reached: None, found: None })
        });
        let sinks = sinks.collect::<Result<Vec<_>, Usage>>()?;
        if sinks.is_empty() {
            remarks.push("no sink is configured: status changes are stored and go nowhere".into());
        }
        let store = &config.store.sqlite;
        Ok(Self {
            configuration: file.map(Path::to_owned),
            server,
            store: Store {
                path: store.path.clone(),
                retention: store.retention,
                body_retention: store.body_retention.unwrap_or(store.retention),
                max_size: store.max_size,
            },
            admin: Admin {
                listen: config.admin.listen.to_string(),
                token: config.admin.load_token().map_err(Usage)?.is_some(),
            },
            log: Log {
                format: if config.log.is_pretty() { "pretty" } else { "json" },
                level: config.log.level.to_string(),
            },
            plugchat: Plugchat {
                host: config.plugchat.endpoint.host_str().unwrap_or_default().to_owned(),
                token: config.plugchat.load_token().map_err(Usage)?.is_some(),
            },
            sinks,
            remarks,
        })
    }

    /// Tries to reach every sink.
    pub(super) async fn reach(&mut self, config: &Config) -> anyhow::Result<()> {
        for (told, sink) in self.sinks.iter_mut().zip(config.sinks.values()) {
            let reached = sink.reach().await;
            told.reached = Some(reached.is_ok());
            told.found = Some(reached.unwrap_or_else(|error| format!("{error:#}")));
        }
        if !self.is_all_reached() {
            self.remarks.push("a sink can't be reached: changes for it would wait in the store".into());
        }
        Ok(())
    }

    /// Whether no sink was tried in vain.
    pub(super) fn is_all_reached(&self) -> bool {
        self.sinks.iter().all(|sink| sink.reached != Some(false))
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        let Self { configuration, server, store, admin, log, plugchat, sinks, remarks } = self;
        let say = |key: &str, value: &str| output::line(&format!("{key:<16} {value}"));
        let or = |list: &[String], nobody: &str| if list.is_empty() { nobody.to_owned() } else { list.join(", ") };
        let file = configuration.as_ref().map(|file| file.display().to_string());
        say("configuration", file.as_deref().unwrap_or("built-in defaults"));
        say("listens on", &format!("{}, path {}/{{secret}}", server.listen, server.path));
        say("public URL", server.public_url.as_deref().unwrap_or("not set: nothing can be registered"));
        say("secrets", &server.describe_secrets());
        say("callers", &or(&server.allow_from, "anyone with the secret"));
        say("trusted proxies", &or(&server.trusted_proxies, "none"));
        say(
            "other types",
            if server.other_types == "accept" { "answered 200, and kept" } else { "answered 422, and kept" },
        );
        say("limits", &server.limits.describe());
        say(
            "store",
            &format!(
                "{}, kept for {}, callbacks' texts for {}, at most {}",
                store.path.display(),
                humantime::format_duration(store.retention),
                humantime::format_duration(store.body_retention),
                ByteSize(store.max_size)
            ),
        );
        let token = if admin.token { "with a token" } else { "without a token" };
        say("administration", &format!("{}, {token}", admin.listen));
        say("log", &format!("{}, level {}", log.format, log.level));
        let token = if plugchat.token { "with a token" } else { "no token: register asks for --token-file" };
        say("Plugchat", &format!("{}, {token}", plugchat.host));
        for sink in sinks {
            say("sink", &format!("{}: {}, {}", sink.name, sink.kind, sink.description));
            if let Some(found) = &sink.found {
                say("", found);
            }
        }
        remarks.iter().for_each(|remark| output::remark(remark));
    }
}

impl Server {
    fn new(server: &http::Config, folder: &Path, remarks: &mut Vec<String>) -> anyhow::Result<Self> {
        if server.public_url.as_ref().is_some_and(|url| url.scheme() != "https") {
            remarks
                .push("server.public_url is not https: Plugchat takes https URLs only, and register refuses it".into());
        }
        let has_own = server.secrets_file.is_some() || !server.secrets.is_empty();
        // Without one of its own, the receiver makes one at its first start; asking for it here would make it.
        let secrets = if has_own { server.load_secrets(folder)? } else { Vec::new() };
        if secrets.iter().any(|secret| secret.expose().len() < SHORT_SECRET) {
            remarks.push(format!(
                "a secret has fewer than {SHORT_SECRET} characters: take a longer one, from a password generator"
            ));
        }
        let limits = &server.limits;
        if limits.idle_timeout < SHORT_IDLE_TIMEOUT {
            remarks.push(format!(
                "server.limits.idle_timeout is {}: a proxy that keeps its connections for longer (nginx: 60s) will now and then \
                 post on one that is just being closed, and the callback is lost",
                humantime::format_duration(limits.idle_timeout)
            ));
        }
        let list = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect();
        Ok(Self {
            listen: server.listen.to_string(),
            path: server.path.clone(),
            public_url: server.public_url.as_ref().map(ToString::to_string),
            secrets: secrets.len(),
            has_made_one: folder.join(http::SECRET_FILE).exists(),
            allow_from: list(&server.allow_from),
            trusted_proxies: list(&server.trusted_proxies),
            other_types: if server.other_types == OtherTypes::Accept { "accept" } else { "reject" },
            limits: Limits {
                body: limits.body,
                header_timeout: limits.header_timeout,
                body_timeout: limits.body_timeout,
                idle_timeout: limits.idle_timeout,
                connections: limits.connections,
                in_flight: limits.in_flight,
            },
        })
    }

    fn describe_secrets(&self) -> String {
        match (self.secrets, self.has_made_one) {
            (0, true) => "the one in the store's folder".to_owned(),
            (0, false) => "none configured: one is made at the first start, in the store's folder".to_owned(),
            (count, _) => format!("{count} configured"),
        }
    }
}

impl Limits {
    fn describe(&self) -> String {
        format!(
            "body {}, headers {}, body time {}, idle {}, {} connections, {} in flight",
            ByteSize(self.body),
            humantime::format_duration(self.header_timeout),
            humantime::format_duration(self.body_timeout),
            humantime::format_duration(self.idle_timeout),
            self.connections,
            self.in_flight
        )
    }
}

/// As durations are written in the configuration.
fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// As sizes are written in the configuration, to the byte.
fn size<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bytes}B"))
}
