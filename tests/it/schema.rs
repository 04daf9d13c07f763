//! Editors know the configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::repository;

#[test]
fn the_schema_in_the_repository_is_that_of_the_configuration() {
    let file = repository("config.schema.json");
    let schema = plugchat_receiver::config::schema();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        let text = serde_json::to_string_pretty(&schema).expect("it is JSON");
        std::fs::write(&file, text + "\n").expect("it can be written");
    }
    let kept: Value =
        std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    assert!(kept == schema, "the configuration has changed: \"make schema\" writes config.schema.json anew");
}

/// The options below this part of the schema, as dotted paths; the name of a sink is a star.
fn options(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let parts = ["properties", "patternProperties"].map(|parts| schema[parts].as_object());
    if parts.iter().all(Option::is_none) {
        found.insert(path.trim_start_matches('.').to_owned());
    }
    for (name, part) in parts.into_iter().flatten().flatten() {
        let name = if name.starts_with('^') { "*" } else { name };
        options(part, &format!("{path}.{name}"), found);
    }
}

/// The options that a file sets.
fn set(value: &toml::Value, path: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) if !known.contains(path.trim_start_matches('.')) => {
            for (name, value) in table {
                let name = if path == ".sinks" { "*" } else { name };
                set(value, &format!("{path}.{name}"), known, found);
            }
        }
        _ => drop(found.insert(path.trim_start_matches('.').to_owned())),
    }
}

#[test]
fn the_example_names_its_schema_and_has_every_option_of_it() {
    let example = std::fs::read_to_string(repository("config.example.toml")).expect("it is there");
    let schema = example.lines().next().and_then(|line| line.strip_prefix("#:schema ./")).expect("it begins with it");
    assert!(repository(schema).exists());
    // What has no default is commented out.
    let is_option = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.starts_with("[sinks.") || key != line && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let shown = example.lines().map(|line| line.strip_prefix("# ").filter(|line| is_option(line)).unwrap_or(line));
    let shown = shown.collect::<Vec<_>>().join("\n").parse().map(toml::Value::Table).expect("it is TOML");
    let (mut known, mut found) = (BTreeSet::new(), BTreeSet::new());
    options(&plugchat_receiver::config::schema(), "", &mut known);
    set(&shown, "", &known, &mut found);
    assert_eq!(found, known);
}
