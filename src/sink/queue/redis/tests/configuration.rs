//! What may be configured, and that none of it can be printed.

use super::destination::{config, sink_to};
use crate::sink::queue::Broker as _;
use crate::sink::queue::redis::RedisSink;

const CANARIES: [&str; 2] = ["canary-user", "canary-password"];

#[test]
fn what_cannot_work_is_refused_without_repeating_it() {
    let url = "url = \"redis://canary-user:canary-password@redis.example.com\"\n";
    let stream = "stream = \"changes\"\n";
    for (toml, part) in [
        (stream.to_owned(), "url is missing"),
        (url.to_owned(), "stream is missing"),
        ("url_file = \"f\"".into(), "stream is missing"),
        (format!("{url}{stream}url_file = \"f\""), "both set"),
        (format!("url = \"http://canary-password@a/\"\n{stream}"), "redis:// or rediss://"),
        (format!("url = \"canary-password\"\n{stream}"), "not a URL"),
        (format!("url = \"redis://\"\n{stream}"), "no host"),
        (format!("url = \"redis://a:1,redis://b:1\"\n{stream}"), "expected one URL"),
        (format!("url = \"redis://canary-user@a\"\n{stream}"), "a user without a password"),
        (format!("url = \"redis://canary-user:canary-password%ff@a\"\n{stream}"), "the password is not UTF-8"),
        (format!("url = \"redis://canary-user%ff:canary-password@a\"\n{stream}"), "the user is not UTF-8"),
        (format!("url = \"redis://a/canary-password\"\n{stream}"), "the number of a database"),
        (format!("url = \"redis://a/-1\"\n{stream}"), "the number of a database"),
        (format!("url = \"redis://a/0?password=canary-password\"\n{stream}"), "the number of a database"),
        (format!("url = \"rediss://a/#insecure\"\n{stream}"), "the number of a database"),
        (format!("{url}stream = \"changes.{{instance}}\""), "has {instance}, expected one of {instance_id}"),
        (format!("{url}{stream}max_length = 0"), "nonzero"),
        (format!("{url}{stream}body = \"both\""), "`event`"),
        (format!("{url}{stream}timeout = \"0s\""), "is zero"),
        (format!("{url}{stream}ca_file = \"f\""), "begin it with rediss://"),
        (format!("{url}{stream}cert_file = \"f\"\nkey_file = \"f\""), "begin it with rediss://"),
        (format!("url = \"rediss://a\"\n{stream}cert_file = \"f\""), "cert_file is set without key_file"),
        (format!("{url}{stream}key = 1"), "unknown field"),
    ] {
        let told = config(&toml).expect_err(&toml);
        assert!(told.contains(part), "{told:?} should have {part:?}");
        assert!(CANARIES.iter().all(|canary| !told.contains(canary)), "{told}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_its_key_and_path_and_not_by_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let url_file = format!("url_file = \"{}\"\nstream = \"changes\"\n", path.display());
    let tls = "url = \"rediss://a\"\nstream = \"changes\"\n";
    for (toml, text, part) in [
        (url_file.clone(), "canary-password", "url_file: "),
        (url_file.clone(), "redis://canary-password@a", "a user without a password"),
        (url_file.clone(), "redis://a,redis://:canary-password@b", "expected one URL"),
        (format!("{url_file}ca_file = \"f\""), "redis://:canary-password@a", "begin it with rediss://"),
        (format!("{tls}ca_file = \"{}\"", path.display()), "canary-password", "ca_file: "),
    ] {
        std::fs::write(&path, text).unwrap();
        let Err(error) = RedisSink::new(&config(&toml).unwrap()) else { panic!("{toml} is taken") };
        let told = format!("{error:#} {error:?}");
        assert!(told.contains(part), "{told:?} should have {part:?}");
        assert!(CANARIES.iter().all(|canary| !told.contains(canary)), "{told}");
    }
}

#[test]
fn a_configuration_that_is_printed_hides_the_user_and_the_password() {
    let url = "rediss://canary-user:canary-password@redis.example.com:6380/7";
    let more = "stream = \"changes:{instance_id}\"\nmax_length = 1000000";
    let config = config(&format!("url = \"{url}\"\n{more}")).unwrap();
    let sink = sink_to(url, more);
    let shown = format!("{config:?} {config:#?} {}", sink.describe());
    assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{shown}");
    assert_eq!(
        sink.describe(),
        "events into the stream changes:{instance_id} at rediss://redis.example.com:6380/7, trimmed to about 1000000 \
         entries, confirmed by the entry's id within 10s"
    );
    assert_eq!(
        sink_to("redis://[::1]", "body = \"callback\"\ntimeout = \"1m\"").describe(),
        "callbacks into the stream changes at redis://[::1]/0, confirmed by the entry's id within 1m"
    );
}
