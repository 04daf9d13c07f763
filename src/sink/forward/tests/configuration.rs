//! What may be configured, and that none of it can be printed.

use super::destination::{CANARIES, KEY, config};
use crate::sink::forward::ForwardSink;

#[test]
fn what_cannot_work_is_refused_without_repeating_it() {
    let url = "url = \"https://crm.example.com/canary-path\"\n";
    for (toml, part) in [
        (String::new(), "forward.url is missing"),
        (format!("{url}url_file = \"f\""), "both set"),
        ("url = \"canary-path\"".into(), "not a URL"),
        ("url = \"ftp://example.com/canary-path\"".into(), "https://"),
        ("url = \"http://169.254.169.254/canary-path\"".into(), "link-local"),
        ("url = \"http://0xa9fea9fe/canary-path\"".into(), "link-local"),
        ("url = \"http://[fe80::1]/canary-path\"".into(), "link-local"),
        ("url = \"http://[::ffff:169.254.169.254]/canary-path\"".into(), "link-local"),
        ("url = \"http://100.100.100.200/canary-path\"".into(), "metadata"),
        (format!("{url}body = \"both\""), "`event`"),
        (format!("{url}signing_secrets = [\"canary-header\"]"), "whsec_"),
        (format!("{url}signing_secrets = [\"{KEY}\"]\nsigning_secret_file = \"f\""), "both set"),
        (format!("{url}timeout = \"2s\"\nconnect_timeout = \"2s\""), "connect_timeout is not shorter"),
        (format!("{url}timeout = \"0s\""), "is zero"),
        (format!("{url}headers = {{ Content-Length = \"1\" }}"), "content-length is set by the receiver"),
        (format!("{url}headers = {{ Webhook-Id = \"1\" }}"), "webhook-id is set by the receiver"),
        (format!("{url}headers = {{ ce-id = \"1\" }}"), "ce-id is set by the receiver"),
        (format!("{url}headers = {{ \"a b\" = \"1\" }}"), "name"),
        (format!("{url}headers = {{ a = \"canary-header\\n\" }}"), "value of the header a"),
        (format!("{url}headers = {{ a = \"1\", A = \"2\" }}"), "twice"),
        (format!("{url}header = 1"), "unknown field"),
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
    let url = "url = \"https://me@crm.example.com/canary-path\"\n";
    let key = |key: &str| format!("{url}{key} = \"{}\"", path.display());
    for (toml, text, part) in [
        (format!("url_file = \"{}\"", path.display()), "canary-path", "not a URL"),
        (format!("url_file = \"{}\"", path.display()), "http://a/canary-path\nhttp://b/", "has 2 lines"),
        (format!("url_file = \"{}\"", path.display()), "http://169.254.1.1/canary-path", "link-local"),
        (format!("url_file = \"{}\"", path.display()), "\n", "is empty"),
        (key("signing_secret_file"), "canary-header", "whsec_"),
        (key("headers_file"), "canary-header", "name: value"),
        (key("headers_file"), "host: canary-header", "set by the receiver"),
        (key("headers_file"), "authorization: Basic canary-header", "keep one"),
        (key("ca_file"), "canary-header", "no certificate"),
    ] {
        std::fs::write(&path, text).unwrap();
        let Err(error) = ForwardSink::new(&config(&toml).unwrap()) else { panic!("{toml} is taken") };
        let told = format!("{error:#} {error:?}");
        assert!(told.contains(part), "{told:?} should have {part:?}");
        assert!(part == "keep one" || told.contains(path.to_str().unwrap()), "{told}");
        assert!(CANARIES.iter().all(|canary| !told.contains(canary)), "{told}");
    }
}

#[test]
fn a_configuration_that_is_printed_hides_the_url_the_keys_and_the_headers_values() {
    let config = config(&format!(
        "url = \"https://canary-header:canary-query@crm.example.com:8443/canary-path?key=canary-query\"
         signing_secrets = [\"{KEY}\"]
         headers = {{ x-team = \"canary-header\" }}"
    ))
    .unwrap();
    let sink = ForwardSink::new(&config).unwrap();
    let shown = format!("{config:?} {config:#?} {}", sink.describe());
    assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{shown}");
    assert_eq!(sink.describe(), "events to https://crm.example.com:8443, signed, within 10s");
    assert!(shown.contains("Target(crm.example.com:8443)") && shown.contains("x-team"), "{shown}");
}
