//! The command line itself: help, wrong calls, and the commands that need no receiver.

use crate::support::{Home, Receiver, SECRET, output_of, program};

/// Every command, and the commands of commands, as the help lists them.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut to_ask = vec![Vec::new()];
    while let Some(command) = to_ask.pop() {
        let (code, help, _) = output_of(program().args(&command).arg("--help"));
        assert_eq!(code, 0, "{command:?}");
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            // A longer description goes on below, further in.
            let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) else { continue };
            let name = name.split(' ').next().expect("a name");
            if name != "help" {
                to_ask.push([command.clone(), vec![name.to_owned()]].concat());
            }
        }
        if !command.is_empty() {
            found.push(command);
        }
    }
    found
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = commands();
    for known in
        ["serve", "check", "url", "tail", "show", "sinks", "dead", "replay", "rejected", "healthcheck", "completions"]
    {
        assert!(commands.iter().any(|command| command == &[known]), "{commands:?}");
    }
    for command in commands {
        let (code, help, error) = output_of(program().args(&command).arg("--help"));
        assert_eq!((code, error.as_str()), (0, ""));
        let example = help.split_once("\nExample").unwrap_or_else(|| panic!("{command:?} has no example:\n{help}")).1;
        assert!(example.contains("plugchat-receiver"), "{command:?}: {example}");
        assert!(example.contains(command.last().expect("a name")), "{command:?}: {example}");
    }
}

#[test]
fn a_wrong_call_is_exit_code_2_and_says_how_to_call() {
    for wrong in [
        vec![],
        vec!["serv"],
        vec!["--unknown"],
        vec!["serve", "--unknown"],
        vec!["check", "--unknown"],
        vec!["url", "more"],
        vec!["show"],
        vec!["show", "A", "--yaml"],
        vec!["healthcheck", "now"],
        vec!["completions"],
        vec!["completions", "word"],
        vec!["--config"],
    ] {
        let (code, text, error) = output_of(program().args(&wrong));
        assert_eq!((code, text.as_str()), (2, ""), "{wrong:?}");
        assert!(error.contains("Usage:") || error.contains("--help"), "{wrong:?}: {error}");
    }
}

#[test]
fn a_close_guess_is_suggested() {
    let (_, _, error) = output_of(program().arg("chek"));
    assert!(error.contains("check"), "{error}");
}

#[test]
fn the_version_is_told_and_in_full_with_what_it_was_built_from_and_by() {
    let version = concat!("plugchat-receiver ", env!("CARGO_PKG_VERSION"));
    let (code, text, _) = output_of(program().arg("-V"));
    assert_eq!((code, text.trim_end()), (0, version));
    let (code, text, _) = output_of(program().arg("--version"));
    let lines: Vec<&str> = text.lines().collect();
    let [first, commit, rustc, target] = lines[..] else { panic!("{text}") };
    assert_eq!((code, first), (0, version));
    let built_from = option_env!("PLUGCHAT_RECEIVER_COMMIT").filter(|commit| !commit.is_empty());
    assert_eq!(commit, format!("commit {}", built_from.unwrap_or("unknown")));
    assert!(rustc.starts_with("rustc 1.") && target.starts_with("for ") && target.contains("linux"), "{text}");
}

#[test]
fn each_shell_gets_completions_even_with_a_broken_configuration() {
    let home = Home::new("broken = 1\n");
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef plugchat-receiver"), ("fish", "complete -c plugchat-receiver")]
    {
        let (code, script, error) = output_of(&mut home.command(&["completions", shell]));
        assert_eq!((code, error.as_str()), (0, ""), "{shell}");
        assert!(script.contains(sign), "{shell}: {script}");
        for command in ["serve", "rejected", "healthcheck"] {
            assert!(script.contains(command), "{shell} completes {command}");
        }
    }
}

#[test]
fn the_configuration_is_explained_without_its_secrets() {
    let home = Home::new(
        "allow_from = [\"203.0.113.0/24\"]\npublic_url = \"https://status.example.com\"\nlimits = { body = \"32KiB\" }\n\
         [admin]\nlisten = \"127.0.0.1:8081\"\ntoken = \"canary-token-77aa0b\"\n\
         [plugchat]\ntoken = \"canary-plugchat-3e9d\"\n[sinks.crm-log.log]\n",
    );
    let (code, text, error) = output_of(&mut home.command(&["check"]));
    assert_eq!((code, error.as_str()), (0, ""));
    let config = home.config().display().to_string();
    for part in [
        config.as_str(),
        "/message-status/{secret}",
        "https://status.example.com",
        "203.0.113.0/24",
        "32.0 KiB",
        "crm-log",
        "1 configured",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for canary in [SECRET, "canary"] {
        assert!(!text.contains(canary), "{text}");
    }
    let (code, connected, _) = output_of(&mut home.command(&["check", "--connect"]));
    assert_eq!(code, 0);
    assert!(connected.len() > text.len(), "{connected}");

    let (code, json, error) = output_of(&mut home.command(&["check", "--json", "--connect"]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(!json.contains("canary"), "{json}");
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(told["configuration"], config);
    assert_eq!((&told["server"]["secrets"], &told["admin"]["token"]), (&1.into(), &true.into()), "{json}");
    assert_eq!(told["server"]["limits"]["body"], "32768B", "{json}");
    assert_eq!((&told["sinks"][0]["name"], &told["sinks"][0]["reached"]), (&"crm-log".into(), &true.into()), "{json}");
}

#[test]
fn what_is_risky_in_a_configuration_is_remarked() {
    let (code, _, remark) = output_of(&mut Home::new("secrets = [\"short\"]\n").command(&["check"]));
    assert_eq!(code, 0);
    assert!(remark.contains("fewer than 16 characters") && !remark.contains("short"), "{remark}");
    let (code, _, remark) = output_of(&mut Home::new("[sinks]\n").command(&["check"]));
    assert_eq!(code, 0);
    assert!(remark.contains("no sink is configured"), "{remark}");
    let home = Home::new("limits = { idle_timeout = \"74s\" }\n");
    let (code, _, remark) = output_of(&mut home.command(&["check"]));
    assert_eq!(code, 0);
    assert!(remark.contains("idle_timeout is 1m 14s") && remark.contains("nginx: 60s"), "{remark}");
    let (_, json, error) = output_of(&mut home.command(&["check", "--json"]));
    assert!(json.contains("idle_timeout is 1m 14s") && error.is_empty(), "{json}{error}");
}

#[test]
fn the_url_is_the_public_one_where_there_is_one() {
    let receiver = Receiver::start("");
    let (code, url, remark) = receiver.run(&["url"]);
    assert_eq!((code, url), (0, format!("http://{}/message-status/{SECRET}\n", receiver.address)));
    assert!(remark.contains("public_url is not set"), "{remark}");

    for public in ["https://status.example.com", "https://status.example.com/"] {
        let home = Home::new(&format!("public_url = \"{public}\"\n"));
        let (code, url, remark) = output_of(&mut home.command(&["url"]));
        assert_eq!((code, remark.as_str()), (0, ""));
        assert_eq!(url, format!("https://status.example.com/message-status/{SECRET}\n"));
    }
}

#[test]
fn the_first_of_several_secrets_is_the_one_to_register() {
    let home = Home::new("secrets = [\"new\", \"old\"]\n");
    let (_, url, _) = output_of(&mut home.command(&["url"]));
    assert!(url.ends_with("/new\n"), "{url}");
}

#[test]
fn errors_have_no_colours_outside_a_terminal() {
    let (_, _, error) = output_of(&mut Home::new("broken = 1\n").command(&["check"]));
    assert!(error.starts_with("error: ") && !error.contains('\u{1b}'), "{error:?}");
}
