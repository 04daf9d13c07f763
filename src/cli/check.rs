//! `check`

use std::path::Path;
use std::process::ExitCode;

use super::{Usage, output};
use crate::config::Config;

/// Read the configuration and say what it means, secrets hidden
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  plugchat-receiver check --config config.toml")]
pub(super) struct Check {
    /// Reach every sink, too.
    #[arg(long)]
    connect: bool,
}

/// A secret shorter than this can be guessed by somebody patient.
const SHORT_SECRET: usize = 16;

impl Check {
    pub(super) fn run(self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let server = &config.server;
        let say = |key: &str, value: &str| output::line(&format!("{key:<16} {value}"));
        say("configuration", &file.map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string()));
        say("listens on", &format!("{}, path {}/{{secret}}", server.listen, server.path));
        say("public URL", server.public_url.as_ref().map_or("not set: nothing can be registered", url::Url::as_str));
        if server.public_url.as_ref().is_some_and(|url| url.scheme() != "https") {
            output::remark("server.public_url is not https: Plugchat takes https URLs only, and register refuses it");
        }
        let folder = &config.store.sqlite.path;
        let secrets = match (&server.secrets_file, server.secrets.len()) {
            (None, 0) if folder.join("secret").exists() => "the one in the store's folder".to_owned(),
            (None, 0) => "none configured: one is made at the first start, in the store's folder".to_owned(),
            _ => {
                let secrets = server.load_secrets(folder).map_err(|error| Usage(format!("{error:#}")))?;
                if secrets.iter().any(|secret| secret.expose().len() < SHORT_SECRET) {
                    output::remark(&format!(
                        "a secret has fewer than {SHORT_SECRET} characters: take a longer one, from a password generator"
                    ));
                }
                format!("{} configured", secrets.len())
            }
        };
        say("secrets", &secrets);
        let list = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let allowed =
            if server.allow_from.is_empty() { "anyone with the secret".into() } else { list(&server.allow_from) };
        say("callers", &allowed);
        say("trusted proxies", &list(&server.trusted_proxies));
        say(
            "other types",
            if server.other_types == crate::http::OtherTypes::Accept {
                "answered 200, and kept"
            } else {
                "answered 422, and kept"
            },
        );
        let limits = &server.limits;
        say(
            "limits",
            &format!(
                "body {}, headers {}, body time {}, idle {}, {} connections, {} in flight",
                bytesize::ByteSize(limits.body),
                humantime::format_duration(limits.header_timeout),
                humantime::format_duration(limits.body_timeout),
                humantime::format_duration(limits.idle_timeout),
                limits.connections,
                limits.in_flight
            ),
        );
        let store = &config.store.sqlite;
        say(
            "store",
            &format!(
                "{}, kept for {}, at most {}",
                store.path.display(),
                humantime::format_duration(store.retention),
                bytesize::ByteSize(store.max_size)
            ),
        );
        let token = config.admin.load_token().map_err(Usage)?;
        say(
            "administration",
            &format!("{}, {}", config.admin.listen, if token.is_some() { "with a token" } else { "without a token" }),
        );
        say("log", &format!("{}, level {}", if config.log.is_pretty() { "pretty" } else { "json" }, config.log.level));
        let token = config.plugchat.load_token().map_err(Usage)?;
        let host = config.plugchat.endpoint.host_str().unwrap_or_default();
        say(
            "Plugchat",
            &format!(
                "{host}, {}",
                if token.is_some() { "with a token" } else { "no token: register asks for --token-file" }
            ),
        );
        let mut unreached = false;
        for (name, sink) in &config.sinks {
            let description = sink.describe().map_err(|error| Usage(format!("sinks.{name}: {error:#}")))?;
            say("sink", &format!("{name}: {}, {description}", sink.kind()));
            if self.connect {
                match super::block_on(sink.reach()) {
                    Ok(found) => say("", &found),
                    Err(error) => {
                        say("", &format!("{error:#}"));
                        unreached = true;
                    }
                }
            }
        }
        if config.sinks.is_empty() {
            output::remark("no sink is configured: status changes are stored and go nowhere");
        }
        if unreached {
            output::remark("a sink can't be reached: changes for it would wait in the store");
            return Ok(ExitCode::from(2));
        }
        Ok(ExitCode::SUCCESS)
    }
}
