//! What may be configured, and that nothing secret of it can be printed.

use super::place::{config, sink};
use crate::sink::queue::Broker as _;

const WHOLE: &str = "url = \"amqp://canary-user:canary-word@rabbit.example.com/canary\"\nexchange = \"whatsapp\"\n";

#[test]
fn what_cannot_work_is_refused_without_repeating_it() {
    let url = "url = \"amqp://canary-user:canary-word@rabbit/\"\n";
    let exchange = "exchange = \"whatsapp\"\n";
    let with = |lines: &str| format!("{url}{exchange}{lines}");
    let keyed = |lines: &str| with(&format!("routing_key = \"s.{{status}}\"\n{lines}"));
    let long = "x".repeat(256);
    for (toml, part) in [
        (String::new(), "url is missing"),
        (format!("{url}url_file = \"f\""), "url_file"),
        ("url = \"http://canary-user:canary-word@rabbit/\"".into(), "amqp:// or amqps://"),
        ("url = \"amqp://canary-user:canary-word@rabbit/?canary-word=1\"".into(), "its query may have these alone"),
        ("url = \"amqp://canary-user:canary-word@rabbit/?heartbeat=canary-word\"".into(), "no such value"),
        ("url = \"amqp://canary-user:canary-word@rabbit/%ff\"".into(), "no such value"),
        (format!("url = \"amqp://rabbit/{long}\""), "255"),
        (url.into(), "exchange is missing"),
        (format!("{url}exchange = \"{long}\""), "exchange is longer than 255"),
        (with(""), "routing_key is missing"),
        (with("routing_key = \"\""), "is empty"),
        (with("routing_key = \"{phone}\""), "has {phone}"),
        (with("routing_key = \"{status}{status}{status}{status}\""), "longer than 255"),
        (keyed("timeout = \"0s\""), "is zero"),
        (keyed("cert_file = \"f\""), "key_file"),
        (keyed("declare = { type = \"topic\" }"), "unknown field"),
        (keyed("declare = { exchange_type = \"headers\" }"), "`topic`"),
        (keyed("declare = { queue = \"\" }"), "declare.queue"),
        (keyed(&format!("declare = {{ queue = \"{long}\" }}")), "declare.queue"),
        (keyed("declare = { exchange_type = \"direct\", queue = \"q\" }"), "a direct exchange routes whole keys"),
        (with("routing_key = \"s-{status}\"\ndeclare = { queue = \"q\" }"), "alone between dots"),
        (format!("{url}exchange = \"\"\nrouting_key = \"q\"\ndeclare = {{}}"), "the default exchange"),
        (keyed("exchanges = 1"), "unknown field"),
    ] {
        let told = config(&toml).expect_err(&toml);
        assert!(told.contains(part), "{toml}: {told:?} should have {part:?}");
        // The parser of TOML shows the line; the program's own one doesn't.
        let is_told_by_toml = told.starts_with("TOML");
        assert!(is_told_by_toml || !told.contains("canary"), "{told}");
    }
}

#[test]
fn what_it_does_is_described_and_what_is_secret_is_not_shown() {
    for (lines, described) in [
        (
            "routing_key = \"status.{status}\"",
            "events to rabbit.example.com, the exchange \"whatsapp\", routing key status.{status}, each confirmed \
             within 10s",
        ),
        (
            "routing_key = \"s.{instance_id}.{status}\"\nbody = \"callback\"\ncloudevents = true\ntimeout = \"3s\"\n\
             declare = { queue = \"status\" }",
            "callbacks to rabbit.example.com, the exchange \"whatsapp\", declared with type topic and a queue \"status\" \
             bound by \"s.*.*\", routing key s.{instance_id}.{status}, with CloudEvents headers, each confirmed within 3s",
        ),
        (
            "routing_key = \"s\"\ndeclare = { exchange_type = \"fanout\" }",
            "events to rabbit.example.com, the exchange \"whatsapp\", declared with type fanout, routing key s, each \
             confirmed within 10s",
        ),
    ] {
        let lines = format!("{WHOLE}{lines}");
        assert_eq!(sink(&lines).describe(), described);
        let shown = format!("{:?}", config(&lines).unwrap());
        assert!(shown.contains("Address(rabbit.example.com)") && !shown.contains("canary"), "{shown}");
    }
    let default = "url = \"amqp://[::1]:5671, amqp://b\"\nexchange = \"\"\nrouting_key = \"queue\"";
    let described = "events to [::1]:5671, b, the default exchange, routing key queue, each confirmed within 10s";
    assert_eq!(sink(default).describe(), described);
}
