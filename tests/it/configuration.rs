//! The configuration: what is wrong is told by its place and what was expected, the environment stands over the file, and no
//! message shows a secret.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::support::{Home, JSON, callback, output_of, program};

/// Runs `check` with this text as the configuration.
fn check(config: &str, variables: &[(&str, &str)]) -> (i32, String, String) {
    let home = Home::bare();
    std::fs::write(home.config(), config).expect("the configuration can be written");
    output_of(home.command(&["check"]).envs(variables.iter().copied()))
}

#[test]
fn a_mistake_is_told_by_file_line_and_key_and_what_was_expected() {
    for (config, parts) in [
        ("[server]\n\nlisen = \"127.0.0.1:80\"", vec!["line 3", "server.lisen", "unknown field", "`listen`"]),
        ("# a remark\n[sever]", vec!["line 2", "sever", "unknown field", "`server`"]),
        ("[server]\nlisten = 8080", vec!["line 2", "server.listen", "expected a string"]),
        ("[server]\nlisten = \"localhost\"", vec!["line 2", "server.listen", "127.0.0.1:8080"]),
        ("[admin]\nlisten = \"8081\"", vec!["line 2", "admin.listen", "127.0.0.1:8080"]),
        ("[server]\nallow_from = [\"10.0.0.0/8\",\n \"all\"]", vec!["line 2", "server.allow_from", "203.0.113.0/24"]),
        ("[server]\ntrusted_proxies = \"10.0.0.0/8\"", vec!["line 2", "server.trusted_proxies", "expected a list"]),
        ("[server]\nother_types = \"ignore\"", vec!["line 2", "server.other_types", "`reject` or `accept`"]),
        ("[server]\npublic_url = \"status.example.com\"", vec!["line 2", "server.public_url", "https://"]),
        ("[server]\npublic_url = \"https://x/?a=b\"", vec!["server.public_url", "without", "a query"]),
        ("[server]\npath = \"status\"", vec!["line 2", "server.path", "begins with a slash"]),
        ("[server.limits]\nheader_timeout = \"10\"", vec!["line 2", "server.limits.header_timeout", "\"30s\""]),
        ("[server.limits]\nbody_timeout = \"0s\"", vec!["line 2", "server.limits.body_timeout", "is zero"]),
        ("[server.limits]\nidle_timeout = 10", vec!["line 2", "server.limits.idle_timeout", "expected a string"]),
        ("[server]\nlimits = { body = \"64 apples\" }", vec!["line 2", "server.limits.body", "\"64KiB\""]),
        ("[store.sqlite]\nmax_size = \"-1\"", vec!["line 2", "store.sqlite.max_size", "\"10GiB\""]),
        ("[server.limits]\nconnections = 0", vec!["line 2", "server.limits.connections", "from 1"]),
        ("[server.limits]\nin_flight = \"many\"", vec!["line 2", "server.limits.in_flight", "a whole number"]),
        ("[server.limits]\nheader_timeout = \"18446744073709551615s\"", vec!["line 2", "header_timeout", "3650d"]),
        ("[server.limits]\nidle_timeout = \"3651d\"", vec!["line 2", "server.limits.idle_timeout", "ten years"]),
        ("[server.limits]\nbody = \"1023B\"", vec!["line 2", "server.limits.body", "\"1KiB\""]),
        ("[server.limits]\nbody = \"65MiB\"", vec!["line 2", "server.limits.body", "\"64MiB\""]),
        ("[store.sqlite]\nmax_size = \"1023KiB\"", vec!["store.sqlite.max_size", "1MiB"]),
        (
            "[server]\nlisten = \"0.0.0.0:8081\"\n[admin]\nlisten = \"127.0.0.1:8081\"",
            vec!["server.listen", "admin.listen", "another port"],
        ),
        ("server = 1", vec!["line 1", "server", "expected a table"]),
        (
            "[server]\nsecrets = [\"a\"]\nsecrets_file = \"b\"",
            vec!["server.secrets", "server.secrets_file", "keep one"],
        ),
        ("[admin]\ntoken = \"a\"\ntoken_file = \"b\"", vec!["admin.token", "admin.token_file", "keep one"]),
        ("[plugchat]\ntoken = \"a\"\ntoken_file = \"b\"", vec!["plugchat.token", "plugchat.token_file", "keep one"]),
        ("[server]\nsecrets_file = \"not-there\"", vec!["server.secrets_file", "not-there"]),
        ("[sinks.crm]", vec!["sinks.crm", "no kind"]),
        ("[sinks.crm.delivery]\nstart = \"now\"", vec!["sinks.crm", "no kind"]),
        ("[sinks.crm.lgo]", vec!["line 1", "sinks.crm.lgo", "`log`"]),
        ("[sinks.CRM.log]", vec!["line 1", "CRM", "lower-case"]),
        ("[sinks.a.log]\nphone = \"half\"", vec!["line 2", "sinks.a.log.phone", "`masked`"]),
        (
            "[sinks.a.log]\n[sinks.a.filter]\ntransition = [\"late\", \"advanced\"]",
            vec!["line 3", "sinks.a.filter.transition", "`advance`"],
        ),
        ("[sinks.a.log]\n[sinks.a.filter]\nchat = \"group\"", vec!["line 3", "sinks.a.filter.chat", "expected a list"]),
        ("[log]\nlevel = \"loud\"", vec!["line 2", "log.level", "trace"]),
        ("[log]\nformat = \"xml\"", vec!["line 2", "log.format", "`json`"]),
        ("[plugchat]\nendpoint = \"nowhere\"", vec!["line 2", "plugchat.endpoint", "https://"]),
        ("[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", vec!["line 3", "duplicate key"]),
        ("\n\n[server", vec!["line 3", "expected `]`"]),
    ] {
        let (code, text, error) = check(config, &[]);
        assert_eq!((code, text.as_str()), (2, ""), "{config}: {error}");
        let on_its_line = parts[0].starts_with("line");
        assert!(error.contains("config.toml") || !on_its_line, "{config}: {error}");
        for part in parts {
            assert!(error.contains(part), "{config}: no {part:?} in {error}");
        }
    }
}

#[test]
fn every_command_refuses_a_wrong_configuration() {
    let home = Home::new("nonsense = true\n");
    for command in [["serve"].as_slice(), &["check"], &["url"], &["show", "A"], &["rejected", "list"], &["healthcheck"]]
    {
        let (code, text, error) = output_of(&mut home.command(command));
        assert_eq!((code, text.as_str()), (2, ""), "{command:?}");
        assert!(error.contains("server.nonsense"), "{command:?}: {error}");
    }
    let (code, _, error) = output_of(program().args(["--config", "not-there.toml", "check"]));
    assert_eq!(code, 2);
    assert!(error.contains("not-there.toml"), "{error}");
}

#[test]
fn a_file_of_a_secret_that_is_not_there_is_a_wrong_configuration_for_every_command() {
    for config in ["[server]\nsecrets_file = \"not-there\"\n", "[admin]\ntoken_file = \"not-there\"\n"] {
        let home = Home::bare();
        std::fs::write(home.config(), format!("{config}listen = \"127.0.0.1:0\"\n")).expect("it can be written");
        for command in ["serve", "check"] {
            let mut command = home.command(&[command]);
            let other = if config.contains("admin") { "SERVER" } else { "ADMIN" };
            let (code, _, error) = output_of(command.env(format!("PLUGCHAT_RECEIVER__{other}__LISTEN"), "127.0.0.1:0"));
            assert_eq!(code, 2, "{error}");
            assert!(error.contains("_file: cannot read not-there"), "{error}");
        }
    }
}

#[test]
fn no_message_about_the_configuration_shows_a_secret() {
    const DIGITS: &str = "12345678901234567890";
    for config in [
        "[server]\nsecrets = \"canary\"",
        "[server]\nsecrets = canary",
        "[server]\nsecrets = [canary]",
        "[server]\nsecrets = [\"canary]",
        "[server]\nsecrets = [\"canary\\q\"]",
        "[server]\nsecrets = [\"canary\" \"canary\"]",
        "[server]\nsecrets = [[\"canary\"]]",
        "[server]\nsecrets = [{ value = \"canary\" }]",
        "[server]\nsecrets = { value = \"canary\" }",
        "[server]\nsecrets = [\"canary\"]\nsecrets = [\"canary\"]",
        "[server]\nsecret = \"canary\"",
        "[server]\nsecrets = [12345678901234567890]",
        "[server]\nsecrets = [1234567890]",
        "[server]\nsecrets = 12345678901234567890",
        "[server]\nsecrets = [\"canary\"]\nnonsense = 1",
        "[server]\nsecrets = [\"canary\"]\nlisten = 1",
        "[server]\nsecrets_file = [\"canary\"]",
        "server = \"canary\"",
        "secrets = [\"canary\"]",
        "[admin]\ntoken = [\"canary\"]",
        "[admin]\ntoken = 12345678901234567890",
        "[admin]\ntoken = 1.5e12345678901234567890",
        "[admin]\nlisten = \"canary\"",
        "[plugchat]\ntoken = { value = \"canary\" }",
        "[plugchat]\ntoken = \"canary\"\ntoken_file = \"x\"",
    ] {
        let (code, text, error) = check(config, &[]);
        assert_eq!(code, 2, "{config}");
        for said in [text, error] {
            assert!(!said.contains("canary") && !said.contains(&DIGITS[..10]), "{config}: {said}");
        }
    }
    for value in
        ["canary", "[\"canary", "[canary]", "[1234567890]", "1234567890", "{ a = \"canary\" }", "[[\"canary\"]]"]
    {
        let (code, text, error) = check("", &[("PLUGCHAT_RECEIVER__SERVER__SECRETS", value)]);
        assert_eq!(code, 2, "{value}");
        assert!(error.contains("PLUGCHAT_RECEIVER__SERVER__SECRETS"), "{error}");
        assert!(!(text + &error).contains("canary") && !error.contains("1234567890"), "{error}");
    }
}

#[test]
fn the_environment_stands_over_the_file() {
    let home = Home::new(
        "other_types = \"reject\"\nsecrets = [\"of-the-file-0001\"]\n[server.limits]\nbody = \"1KiB\"\n[sinks.my-log.log]\n",
    );
    let receiver = home.start_with(|command| {
        command
            .env("PLUGCHAT_RECEIVER__SERVER__SECRETS", "[\"31415926535897932384\", \"of-the-environment\"]")
            .env("PLUGCHAT_RECEIVER__SERVER__OTHER_TYPES", "accept")
            .env("PLUGCHAT_RECEIVER__SERVER__LIMITS__BODY", "2KiB")
            .env("PLUGCHAT_RECEIVER__SINKS__MY_LOG__LOG__PHONE", "full")
            .env("PLUGCHAT_RECEIVER__SINKS__MY_LOG__FILTER__STATUS", "[\"READ\"]");
    });
    let post = |secret: &str, body: &str| {
        receiver.post_to(&format!("/message-status/{secret}"), &JSON, body.as_bytes()).status
    };
    assert_eq!(post("of-the-file-0001", &callback("A", "READ", 1)), 401);
    assert_eq!(post("31415926535897932384", &callback("A", "SENT", 1)), 200);
    assert_eq!(post("of-the-environment", &callback("A", "READ", 1)), 200);
    assert_eq!(post("of-the-environment", "{\"type\":\"OtherCallback\"}"), 200);
    assert_eq!(post("of-the-environment", &format!("{{\"x\":\"{}\"}}", "x".repeat(1500))), 422);
    assert_eq!(post("of-the-environment", &format!("{{\"x\":\"{}\"}}", "x".repeat(2500))), 413);
    let line = &receiver.changes_on_the_log(1)[0];
    assert_eq!(
        (&line["sink"], &line["status"]),
        (&"my-log".into(), &"READ".into()),
        "the filter and the name are right"
    );
    assert_eq!(line["phone"], "5544999999999");
}

#[test]
fn a_secret_of_digits_alone_may_come_from_the_environment() {
    for token in ["1234567890", "12345678901234567890123", "true", "1979-05-27", "0xff", "[a]", "1.50", "\"in quotes\""]
    {
        let receiver = Home::new("").start_with(|command| {
            command.env("PLUGCHAT_RECEIVER__ADMIN__TOKEN", token);
        });
        let bearer = format!("Bearer {}", token.trim_matches('"'));
        let get = |headers| crate::support::request(receiver.admin, "GET", "/api/v1/changes", headers, b"").status;
        assert_eq!((get(&[]), get(&[("authorization", &bearer)])), (401, 200), "{token}");
    }
}

#[test]
fn a_wrong_value_in_the_environment_is_told_by_its_variable() {
    for (name, value, expected) in [
        ("PLUGCHAT_RECEIVER__SERVER__LISTEN", "8080", "expected a string"),
        ("PLUGCHAT_RECEIVER__SERVER__LISTEN", "localhost", "127.0.0.1:8080"),
        ("PLUGCHAT_RECEIVER__SERVER__LISTN", "127.0.0.1:8080", "`listen`"),
        ("PLUGCHAT_RECEIVER__SERVER__LIMITS__CONNECTIONS", "0", "from 1"),
        ("PLUGCHAT_RECEIVER__SERVER__LIMITS__BODY", "much", "64KiB"),
        ("PLUGCHAT_RECEIVER__SERVER__ALLOW_FROM", "10.0.0.0/8", "expected a list"),
        ("PLUGCHAT_RECEIVER__SERVER__ALLOW_FROM", "[\"everywhere\"]", "203.0.113.0/24"),
        ("PLUGCHAT_RECEIVER__SERVER", "x", "expected a table"),
        ("PLUGCHAT_RECEIVER__NONSENSE", "x", "`server`"),
        ("PLUGCHAT_RECEIVER__", "x", "`server`"),
        ("PLUGCHAT_RECEIVER__SINKS__AUDIT__LOG__PHONE", "half", "`masked`"),
        ("PLUGCHAT_RECEIVER__SINKS__OTHER__FILTER__CHAT", "[\"group\"]", "no kind"),
        ("PLUGCHAT_RECEIVER__ADMIN__TOKEN", "", "a secret"),
        ("PLUGCHAT_RECEIVER__LOG__LEVEL", "loud", "trace"),
    ] {
        let (code, _, error) = check("[sinks.audit.log]\n", &[(name, value)]);
        assert_eq!(code, 2, "{name}={value}: {error}");
        assert!(error.contains(name) || expected == "no kind", "{error}");
        assert!(error.contains(expected), "{name}={value}: {error}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused_and_not_left_out() {
    let name = "PLUGCHAT_RECEIVER__ADMIN__TOKEN";
    let home = Home::new("");
    let (code, text, error) = output_of(
        home.command(&["check"]).env(name, OsStr::from_bytes(b"canary\xff")).env("OTHER", OsStr::from_bytes(b"\xff")),
    );
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(error.contains(name) && error.contains("UTF-8") && !error.contains("canary"), "{error}");
}

#[test]
fn an_empty_name_of_the_file_is_none() {
    let home = Home::new("path = \"/from-the-file\"\n");
    let mut command = program();
    command.arg("check").env("PLUGCHAT_RECEIVER_CONFIG", "").current_dir(home.config().parent().expect("a folder"));
    let (code, text, error) = output_of(&mut command);
    assert_eq!((code, text.contains("/from-the-file/{secret}")), (0, true), "{text}{error}");
}

#[test]
fn the_file_can_be_named_by_the_environment_or_stand_in_the_folder() {
    let home = Home::new("path = \"/from-the-file\"\n");
    let in_folder = output_of(program().arg("check").current_dir(home.config().parent().expect("a folder")));
    assert!(in_folder.1.contains("/from-the-file/{secret}"), "{in_folder:?}");
    let named = output_of(program().arg("check").env("PLUGCHAT_RECEIVER_CONFIG", home.config()));
    assert!(named.1.contains("/from-the-file/{secret}"), "{named:?}");
    let other = Home::new("path = \"/from-another\"\n");
    let (_, both, _) = output_of(other.command(&["check"]).env("PLUGCHAT_RECEIVER_CONFIG", home.config()));
    assert!(both.contains("/from-another/{secret}"), "the argument stands over the variable: {both}");
}

#[test]
fn secrets_can_come_from_a_file_one_a_line() {
    let home = Home::new("secrets_file = \"secrets.txt\"\n");
    std::fs::write(home.config().with_file_name("secrets.txt"), "\n  the-new-one-5f0c2  \r\n\nthe-old-one-77aa1")
        .expect("it can be written");
    let receiver = home.start();
    for (number, secret) in ["the-new-one-5f0c2", "the-old-one-77aa1"].iter().enumerate() {
        let body = callback(&number.to_string(), "READ", 1);
        assert_eq!(receiver.post_to(&format!("/message-status/{secret}"), &JSON, body.as_bytes()).status, 200);
    }
    receiver.post(&callback("A", "READ", 1)).problem(401);
    let home = receiver.stop();
    std::fs::write(home.config().with_file_name("secrets.txt"), " \n\n").expect("it can be written");
    let (code, _, error) = output_of(&mut home.command(&["serve"]));
    assert!(code == 2 && error.contains("secrets.txt is empty"), "no secrets are no way in: {error}");
}
