use super::*;

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(Some((Path::new("c.toml"), text)), &variables).expect_err("it is refused").to_string()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Config {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(Some((Path::new("c.toml"), text)), &variables).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_mistake_is_told_by_line_and_key_and_what_was_expected() {
    for (text, parts) in [
        (
            "[server]\nlisten = \"127.0.0.1:80\"\nlisen = 1",
            vec!["c.toml line 3", "server.lisen", "unknown field", "`listen`"],
        ),
        ("[server.limits]\nbody = \"64 apples\"", vec!["line 2", "server.limits.body", "64KiB"]),
        ("[server.limits]\nheader_timeout = 10", vec!["line 2", "header_timeout", "expected a string"]),
        ("[server]\n\nallow_from = [\"10.0.0.0/8\", \"all\"]", vec!["line 3", "server.allow_from"]),
        (
            "[sinks.a.log]\n[sinks.a.filter]\ntransition = [\"advanced\"]",
            vec!["line 3", "filter.transition", "`advance`"],
        ),
        ("[sinks.A.log]", vec!["line 1", "lower-case"]),
        ("[sinks.a.delivery]\nstart = \"now\"", vec!["sinks.a", "no kind"]),
        ("[sinks.a.log]\n[sinks.a.forward]\nurl = \"http://b/\"", vec!["sinks.a", "several kinds"]),
        ("[sinks.a.forward]\nbody = \"event\"", vec!["sinks.a: forward.url is missing", "forward.url_file"]),
        ("[sinks.a.forward]\nurl = \"crm\"", vec!["line 2, sinks.a.forward.url", "not a URL"]),
        ("[sinks.a.forward]\nheaders = { host = \"b\" }", vec!["line 2, sinks.a.forward.headers", "host is set"]),
        ("[server\n", vec!["line 1"]),
        ("[admin]\nlisten = \"0.0.0.0:1\"", vec!["admin.listen", "admin.token"]),
        (
            "[store.sqlite]\nretention = \"1d\"\nbody_retention = \"2d\"",
            vec!["store.sqlite.body_retention", "longer than store.sqlite.retention"],
        ),
        ("[server]\npath = \"status/\"", vec!["line 2", "server.path", "begins with a slash"]),
    ] {
        let told = refusal(text, &[]);
        for part in parts {
            assert!(told.contains(part), "{told:?} should have {part:?}");
        }
    }
}

#[test]
fn a_refusal_never_shows_a_secret() {
    for text in [
        "[server]\nsecrets = [5544123498765]",
        "[admin]\ntoken = 5544123498765",
        "[admin]\ntoken = 5544123498765x",
        "[sinks.a.forward]\nurl = 5544123498765",
        "[sinks.a.forward]\nurl = \"5544123498765\"",
        "[sinks.a.forward]\nsigning_secrets = \"5544123498765\"",
        "[sinks.a.forward]\nsigning_secrets = [5544123498765]",
        "[sinks.a.forward]\nheaders = { a = 5544123498765 }",
        "[sinks.a.forward]\nheaders = { a = [5544123498765] }",
        "[sinks.a.forward]\nheaders = \"5544123498765\"",
    ] {
        assert!(!refusal(text, &[]).contains("123498765"), "{text}");
    }
    let told = refusal("", &[("PLUGCHAT_RECEIVER__SERVER__SECRETS", "canary")]);
    assert!(told.contains("PLUGCHAT_RECEIVER__SERVER__SECRETS") && !told.contains("canary"), "{told}");
}

#[test]
fn a_variable_stands_over_the_file_and_is_named_when_it_is_wrong() {
    let config = read(
        "[server]\nlisten = \"127.0.0.1:1\"\n[sinks.my-log.log]",
        &[
            ("PLUGCHAT_RECEIVER__SERVER__LISTEN", "127.0.0.1:2"),
            ("PLUGCHAT_RECEIVER__SERVER__SECRETS", "[\"one\", \"two\"]"),
            ("PLUGCHAT_RECEIVER__ADMIN__TOKEN", "123456"),
            ("PLUGCHAT_RECEIVER__SINKS__MY_LOG__LOG__PHONE", "full"),
            ("PLUGCHAT_RECEIVER_CONFIG", "somewhere"),
        ],
    );
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.server.secrets.len(), 2);
    assert_eq!(config.admin.token.map(|token| token.expose().to_owned()).as_deref(), Some("123456"));
    assert_eq!(config.sinks.len(), 1);
    let told = refusal("", &[("PLUGCHAT_RECEIVER__SERVER__LIMITS__BODY", "much")]);
    assert!(told.starts_with("environment variable PLUGCHAT_RECEIVER__SERVER__LIMITS__BODY"), "{told}");
}

#[test]
fn the_example_is_the_defaults() {
    let example = include_str!("../../config.example.toml");
    let defaults = format!("{:?}", Config::default());
    assert_eq!(format!("{:?}", read(example, &[])), defaults);
    // Options that have no default are shown commented out: those must be right, too, so they are tried with all else.
    let shown: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(option)
                if option.starts_with("[sinks.")
                    || option
                        .split(" = ")
                        .next()
                        .is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
            {
                option
            }
            _ => line,
        })
        // Of what can come from a file too, one is tried.
        .filter(|line| {
            !["secrets_file", "token_file", "url_file", "signing_secret_file", "nkey_file"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .collect::<Vec<_>>()
        .join("\n");
    assert_ne!(format!("{:?}", read(&shown, &[])), defaults);
}
