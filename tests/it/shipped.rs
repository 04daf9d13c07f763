//! The files in `deploy/` that nothing here can run fit the program: the units, and the compose file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use plugchat_receiver::service::STOPS_WITHIN;
use plugchat_receiver::{Config, config};
use yaml_rust2::{Yaml, YamlLoader};

use crate::support::repository;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(repository("deploy").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The value of a unit's setting that is there once.
fn setting(unit: &str, name: &str) -> String {
    let values: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].to_owned()
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.strip_suffix('s').and_then(|number| number.parse().ok()).expect("seconds"))
}

#[test]
fn the_units_fit_the_program() {
    let (service, socket) = (shipped("plugchat-receiver.service"), shipped("plugchat-receiver.socket"));
    assert_eq!(setting(&socket, "ListenStream"), Config::default().server.listen.to_string());
    assert!(!socket.contains("FileDescriptorName=admin"), "the socket is for callbacks");
    assert!(seconds(&setting(&service, "TimeoutStopSec")) > STOPS_WITHIN);
    // What is fed every half of this has to have the time to find out whether the store commits.
    assert!(seconds(&setting(&service, "WatchdogSec")) >= Duration::from_secs(30));
    assert_eq!(setting(&service, "Type"), "notify");
    assert_eq!(setting(&service, "Requires"), "plugchat-receiver.socket");
    let credential = setting(&service, "LoadCredential");
    let (name, file) = credential.split_once(':').expect("a name and a file");
    assert_eq!(file, "/etc/plugchat-receiver/config.toml");
    let variable = format!("PLUGCHAT_RECEIVER_CONFIG=/run/credentials/%n/{name}");
    assert_eq!(setting(&service, "Environment"), variable);
}

#[test]
fn the_proxies_close_idle_connections_before_the_receiver_does() {
    let nginx = shipped("nginx.conf");
    let kept = nginx.lines().find_map(|line| line.trim().strip_prefix("keepalive_timeout ")?.strip_suffix(';'));
    assert!(seconds(kept.expect("a time")) < Config::default().server.limits.idle_timeout);
    assert!(shipped("Caddyfile").contains("keepalive off"));
}

/// What is at this path of keys.
fn at<'a>(yaml: &'a Yaml, keys: &[&str]) -> &'a Yaml {
    keys.iter().fold(yaml, |yaml, key| {
        let inner = &yaml[*key];
        assert!(!inner.is_badvalue(), "{keys:?}: no {key}");
        inner
    })
}

fn texts(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().expect("a list").iter().map(|item| item.as_str().expect("text")).collect()
}

fn pairs(yaml: &Yaml) -> Vec<(String, String)> {
    let text = |yaml: &Yaml| yaml.as_str().expect("text").to_owned();
    yaml.as_hash().expect("a mapping").iter().map(|(key, value)| (text(key), text(value))).collect()
}

#[test]
fn the_compose_file_names_what_is_there() {
    let compose = YamlLoader::load_from_str(&shipped("compose.yaml")).expect("YAML").remove(0);
    let (receiver, caddy) = (at(&compose, &["services", "receiver"]), at(&compose, &["services", "caddy"]));

    let folder = repository("deploy").join(at(receiver, &["build", "context"]).as_str().expect("a path"));
    let dockerfile = std::fs::read_to_string(folder.join("Dockerfile")).expect("it is there");
    for (argument, _) in pairs(at(receiver, &["build", "args"])) {
        assert!(dockerfile.lines().any(|line| line == format!("ARG {argument}")), "{argument}");
    }

    // As the receiver will have it: on top of the image's own environment.
    let image = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    let mut variables: Vec<(String, String)> = image.map(|(name, value)| (name.into(), value.into())).collect();
    for (name, value) in pairs(at(receiver, &["environment"])) {
        let start = value.find("${").unwrap_or(value.len());
        let end = value.find('}').map_or(value.len(), |end| end + 1);
        let filled_in =
            if start < end && start < value.len() { value.replace(&value[start..end], "a.example") } else { value };
        variables.push((name, filled_in));
    }
    let config = config::parse(None, &variables).expect("every variable is an option");
    assert_eq!(config.server.public_url.expect("it is set").as_str(), "https://a.example/");

    // Caddy finds the receiver, and is believed.
    let environment = pairs(at(caddy, &["environment"]));
    let caddyfile = shipped("Caddyfile");
    for (name, _) in &environment {
        assert!(caddyfile.contains(&format!("{{${name}:")), "{name}");
    }
    let port = config.server.listen.port();
    assert!(environment.contains(&("STATUS_RECEIVER".into(), format!("receiver:{port}"))), "{environment:?}");
    let network = at(&compose, &["networks", "inside", "ipam", "config"])[0]["subnet"].as_str().expect("a network");
    let network: IpNet = network.parse().expect("a network");
    assert_eq!(config.server.trusted_proxies, [network]);
    assert!(matches!(network.addr(), IpAddr::V4(address) if address.is_private()));
    for service in [receiver, caddy] {
        assert_eq!(texts(at(service, &["networks"])), ["inside"]);
    }

    // Nothing of the receiver's is open to the world but by way of Caddy, which needs both ports.
    assert!(receiver["ports"].is_badvalue());
    assert_eq!(texts(at(caddy, &["ports"])), ["80:80", "443:443"]);

    let volumes: BTreeSet<&str> =
        at(&compose, &["volumes"]).as_hash().expect("a mapping").keys().filter_map(Yaml::as_str).collect();
    let mut used = BTreeSet::new();
    for mount in [texts(at(receiver, &["volumes"])), texts(at(caddy, &["volumes"]))].concat() {
        let source = mount.split(':').next().expect("a source");
        if source.starts_with('.') {
            assert!(repository("deploy").join(source).is_file(), "{mount}");
        } else {
            used.insert(source);
        }
    }
    assert_eq!(used, volumes);
    assert_eq!(texts(at(receiver, &["volumes"])), ["data:/data"]);
    assert!(dockerfile.contains("VOLUME /data"));
    assert!(seconds(at(receiver, &["stop_grace_period"]).as_str().expect("a time")) > STOPS_WITHIN);
}

#[test]
fn the_compose_file_of_several_receivers_names_what_is_there() {
    let folder = repository("deploy/several-receivers");
    let compose = YamlLoader::load_from_str(&shipped("several-receivers/compose.yaml")).expect("YAML").remove(0);
    let (caddy, template) = (at(&compose, &["services", "caddy"]), at(&compose, &["x-receiver"]));
    let context = folder.join(at(template, &["build", "context"]).as_str().expect("a path"));
    assert!(context.join("Dockerfile").is_file());

    // Both have the same configuration, and this is it.
    let secrets = "PLUGCHAT_RECEIVER__SERVER__SECRETS";
    let variables: Vec<_> = pairs(at(template, &["environment"]))
        .into_iter()
        .map(|(name, _)| {
            let value = if name == secrets { "[\"a long secret\"]" } else { "https://a.example" };
            (name, value.to_owned())
        })
        .collect();
    let file = folder.join("config.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let config = config::parse(Some((&file, &text)), &variables).expect("it is a configuration");
    assert_eq!((config.server.secrets.len(), config.sinks.len()), (1, 1));
    let network = at(&compose, &["networks", "inside", "ipam", "config"])[0]["subnet"].as_str().expect("a network");
    assert_eq!(config.server.trusted_proxies, [network.parse::<IpNet>().expect("a network")]);

    let environment = pairs(at(caddy, &["environment"]));
    let caddyfile = shipped("Caddyfile");
    let mut receivers = Vec::new();
    for (name, value) in &environment {
        assert!(caddyfile.contains(&format!("{{${name}:")), "{name}");
        if name == "STATUS_RECEIVER" {
            receivers = value.split(' ').map(|receiver| receiver.strip_suffix(":8080").expect("its port")).collect();
        }
    }
    assert_eq!(receivers, ["receiver-1", "receiver-2"]);
    let volumes = at(&compose, &["volumes"]).as_hash().expect("a mapping").keys();
    let mut volumes: BTreeSet<&str> = volumes.filter_map(Yaml::as_str).collect();
    let mut servers = Vec::new();
    for (name, service) in at(&compose, &["services"]).as_hash().expect("a mapping") {
        let name = name.as_str().expect("a name");
        let mounts = texts(at(service, &["volumes"]));
        let stores: Vec<_> = mounts.iter().filter(|mount| mount.ends_with(":/data")).collect();
        assert_eq!(stores, [&format!("{name}:/data")], "each has a store of its own");
        assert!(volumes.remove(name), "{name}");
        for mount in mounts.iter().filter(|mount| mount.starts_with('.')) {
            let source = mount.split(':').next().expect("a source");
            assert!(folder.join(source).is_file(), "{mount}");
        }
        servers.extend(name.starts_with("nats-").then(|| format!("nats://{name}:4222")));
    }
    assert!(volumes.is_empty(), "{volumes:?}");
    assert!(text.contains(&format!("url = \"{}\"", servers.join(","))), "{servers:?}");
}
