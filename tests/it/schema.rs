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

#[test]
fn the_guide_has_every_option_in_its_table() {
    let guide = std::fs::read_to_string(repository("docs/configuring.md")).expect("it is there");
    let mut listed = BTreeSet::new();
    for row in guide.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().expect("there is always one");
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        // The first is whole, the others are its siblings.
        let Some((table, _)) = names[0].rsplit_once('.').filter(|_| !names[0].contains(' ')) else { continue };
        let table = table.replace("NAME", "*");
        listed.extend(names.iter().map(|name| format!("{table}.{}", name.rsplit('.').next().expect("a name"))));
    }
    let mut known = BTreeSet::new();
    options(&plugchat_receiver::config::schema(), "", &mut known);
    let below =
        |option: &str, row: &str| option == row || option.strip_prefix(row).is_some_and(|rest| rest.starts_with('.'));
    let missing: Vec<_> = known.iter().filter(|option| !listed.iter().any(|row| below(option, row))).collect();
    let unknown: Vec<_> = listed.iter().filter(|row| !known.iter().any(|option| below(option, row))).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
}
