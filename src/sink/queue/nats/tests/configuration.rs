//! What may be configured, and that nothing secret of it can be printed.

use super::{CANARY, config};
use crate::sink::queue::Broker as _;
use crate::sink::queue::nats::NatsSink;

const SUBJECT: &str = "subject = \"whatsapp.{status}\"\n";

#[test]
fn what_cannot_work_is_refused_without_repeating_what_is_secret() {
    let url = format!("url = \"nats://127.0.0.1\"\n{SUBJECT}");
    let url = url.as_str();
    let subject = |subject: &str| format!("url = \"nats://127.0.0.1\"\nsubject = \"{subject}\"");
    let stream = |rest: &str| format!("{url}create_stream = {{ {rest} }}");
    for (toml, part) in [
        (SUBJECT.to_owned(), "url is missing"),
        (format!("{url}url_file = \"f\""), "both set"),
        (format!("url = \"{CANARY}\"\n{SUBJECT}"), "not a URL"),
        (format!("url = \"http://{CANARY}@127.0.0.1\"\n{SUBJECT}"), "nats:// or tls://"),
        (format!("url = \"nats://127.0.0.1,http://{CANARY}@127.0.0.1\"\n{SUBJECT}"), "nats:// or tls://"),
        ("url = \"nats://127.0.0.1\"".into(), "subject is missing"),
        (subject("whatsapp.{instance}"), "has {instance}, expected one of {instance_id}"),
        (subject("whatsapp..{status}"), "two in a row"),
        (subject(".whatsapp"), "dot at an end"),
        (subject("whatsapp."), "dot at an end"),
        (subject("whats app"), "' '"),
        (subject("whatsapp.*"), "'*'"),
        (subject("whatsapp.>"), "'>'"),
        (subject("$JS.API"), "begins with $ or _"),
        (subject("_INBOX.{status}"), "begins with $ or _"),
        (format!("{url}nkey_file = \"f\"\ncredentials_file = \"g\""), "both set"),
        (format!("{url}cert_file = \"f\""), "cert_file is set without key_file"),
        (format!("{url}timeout = \"0s\""), "is zero"),
        (format!("{url}body = \"both\""), "`event`"),
        (format!("{url}stream = 1"), "unknown field"),
        (stream(""), "missing field `name`"),
        (stream("name = \"a.b\""), "letters, digits, hyphens or underscores"),
        (stream("name = \"\""), "1 to 255"),
        (stream("name = \"a\", replicas = 0"), "from 1 to 5"),
        (stream("name = \"a\", replicas = 6"), "from 1 to 5"),
        (stream("name = \"a\", max_age = \"1h\", duplicate_window = \"2h\""), "longer than max_age"),
        (stream("name = \"a\", duplicate_window = \"1ms\""), "100ms at least"),
        (stream("name = \"a\", subjects = []"), "unknown field"),
    ] {
        let told = config(&toml).expect_err(&toml);
        assert!(told.contains(part), "{told:?} should have {part:?}");
        assert!(!told.contains(CANARY), "{told}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_its_key_and_path_and_not_by_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let with = |url: &str, key: &str| format!("{url}{SUBJECT}{key} = \"{}\"", path.display());
    let url = "url = \"nats://127.0.0.1\"\n";
    let user = "url = \"nats://a:b@127.0.0.1\"\n";
    for (toml, text, part) in [
        (with("", "url_file"), CANARY, "not a URL"),
        (with("", "url_file"), "http://canary-7f31@127.0.0.1", "nats://"),
        (with("", "url_file"), "", "is empty"),
        (with(url, "nkey_file"), CANARY, "begins with SU"),
        (with(url, "nkey_file"), "SUcanary-7f31\nb", "2 lines"),
        (with(url, "credentials_file"), CANARY, "credentials_file"),
        (with(user, "nkey_file"), CANARY, "keep one"),
        (with(user, "credentials_file"), CANARY, "keep one"),
        (with("url = \"nats://a:b@h,nats://c:d@h\"\n", "url_file"), CANARY, "both set"),
        (with(url, "ca_file"), CANARY, "no certificate"),
    ] {
        std::fs::write(&path, text).unwrap();
        let built =
            config(&toml).and_then(|config| NatsSink::new(&config).map_err(|error| format!("{error:#} {error:?}")));
        let Err(told) = built else { panic!("{toml} is taken") };
        assert!(told.contains(part), "{told:?} should have {part:?}");
        assert!(!told.contains(CANARY), "{told}");
    }
    let several = format!("url = \"nats://a:b@h,nats://c:d@h\"\n{SUBJECT}");
    let Err(error) = NatsSink::new(&config(&several).unwrap()) else { panic!("{several} is taken") };
    assert!(error.to_string().contains("different users"), "{error}");
}

#[test]
fn what_it_does_is_said_without_what_is_secret() {
    let toml = format!(
        "url = \"nats://{CANARY}:{CANARY}@a.example,tls://{CANARY}:{CANARY}@b.example:4333\"\nsubject = \"status.{{chat}}\"
         cloudevents = true\nbody = \"callback\"\ncreate_stream = {{ name = \"S\" }}\ntimeout = \"3s\""
    );
    let config = config(&toml).unwrap();
    let sink = NatsSink::new(&config).unwrap();
    assert_eq!(
        sink.describe(),
        "callbacks to JetStream at a.example, b.example:4333 as status.{chat}, in the stream S, which is made, with CloudEvents \
         headers, each acknowledged by the stream within 3s"
    );
    let shown = format!("{config:?} {config:#?} {} {:?}", sink.describe(), sink.servers);
    assert!(!shown.contains(CANARY), "{shown}");
}
