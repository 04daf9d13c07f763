//! A TOML file with values from the environment laid over it, and where each value came from.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Error;

/// What the names of variables that override the configuration begin with.
pub(crate) const PREFIX: &str = "PLUGCHAT_RECEIVER__";

/// Reads `T` from the file's text and from `variables` (name and value; only those with the prefix count).
///
/// A value of a variable is read as TOML, and as plain text where that fits nowhere.
pub(crate) fn read<T: DeserializeOwned>(
    file: Option<(&Path, &str)>,
    variables: &[(String, String)],
) -> Result<T, Error> {
    let text = file.map_or("", |(_, text)| text);
    let variables: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // Why a value didn't fit as TOML; it is then tried as text.
    let mut misfits: Vec<Option<String>> = vec![None; variables.len()];
    loop {
        let mut table = DeTable::parse(text).map_err(|error| in_file(file, text, None, &error))?;
        for (index, (name, value)) in variables.iter().enumerate() {
            let value = match DeValue::parse(value) {
                Ok(value) if misfits[index].is_none() => value.into_inner(),
                _ => DeValue::String(value.as_str().into()),
            };
            // A span beyond the file's end says which variable an error is about.
            lay_over(table.get_mut(), name, value, text.len() + 1 + index)?;
        }
        let places = table.get_ref().clone();
        let error = match T::deserialize(Deserializer::from(table)) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let variable = error.span().and_then(|span| span.start.checked_sub(text.len() + 1));
        match variable {
            Some(index) => match misfits[index].take() {
                // It may be text that looks like a number or a boolean, where text is wanted.
                None => misfits[index] = Some(describe(error.message())),
                Some(misfit) => {
                    return Err(Error::new(format!("environment variable {}", variables[index].0), misfit));
                }
            },
            None => return Err(in_file(file, text, Some(&places), &error)),
        }
    }
}

fn lay_over<'a>(table: &mut DeTable<'a>, name: &str, value: DeValue<'a>, mark: usize) -> Result<(), Error> {
    let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    let (last, parents) = path.split_last().expect("split gives at least one part");
    let mut table = table;
    for part in parents {
        let key = existing_key(table, part);
        let entry = table
            .entry(Spanned::new(mark..mark, key.into()))
            .or_insert_with(|| Spanned::new(mark..mark, DeValue::Table(DeTable::new())));
        let DeValue::Table(inner) = entry.get_mut() else {
            return Err(Error::new(
                format!("environment variable {name}"),
                format!("{part} is not a table in the configuration file"),
            ));
        };
        table = inner;
    }
    let key = existing_key(table, last);
    table.remove(key.as_str());
    table.insert(Spanned::new(mark..mark, key.into()), marked(value, mark));
    Ok(())
}

/// The key as the file spells it: a variable's name can have neither lower case nor hyphens.
fn existing_key(table: &DeTable<'_>, part: &str) -> String {
    let same = |key: &str| key.to_ascii_lowercase().replace('-', "_") == part;
    table.keys().map(|key| key.get_ref()).find(|key| same(key)).map_or_else(|| part.to_owned(), ToString::to_string)
}

fn marked(value: DeValue<'_>, mark: usize) -> Spanned<DeValue<'_>> {
    let value = match value {
        DeValue::Array(array) => {
            DeValue::Array(array.into_iter().map(|value| marked(value.into_inner(), mark)).collect())
        }
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| (Spanned::new(mark..mark, key.into_inner()), marked(value.into_inner(), mark)))
                .collect(),
        ),
        other => other,
    };
    Spanned::new(mark..mark, value)
}

/// The parser's message without the value that it quotes, which may be a secret.
fn describe(message: &str) -> String {
    let Some((kind, rest)) = message.split_once(": ").filter(|(kind, _)| kind.starts_with("invalid ")) else {
        return message.to_owned();
    };
    let found = rest.split([' ', ',']).next().unwrap_or_default();
    match rest.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{kind}: {found}, expected {}", in_toml(expected)),
        None => message.to_owned(),
    }
}

/// What Rust's types are called in the configuration.
fn in_toml(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        // Of what kind, its key says.
        expected if expected.starts_with("struct ") || expected == "a map" => "a table",
        expected => expected,
    }
}

/// The line and the key that an error of the parser is about. Its own rendering would quote the line, and with it a secret.
fn in_file(file: Option<(&Path, &str)>, text: &str, places: Option<&DeTable<'_>>, error: &toml::de::Error) -> Error {
    let name = file.map_or_else(|| "the configuration".to_owned(), |(path, _)| path.display().to_string());
    let Some(span) = error.span() else {
        return Error::new(name, describe(error.message()));
    };
    let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
    let key = places.map(|table| key_at(table, span.start)).filter(|key| !key.is_empty());
    let key = key.map(|key| format!(", {key}")).unwrap_or_default();
    Error::new(format!("{name} line {line}{key}"), describe(error.message()))
}

/// The dotted path of the key whose name or value stands at this byte.
fn key_at(table: &DeTable<'_>, at: usize) -> String {
    for (key, value) in table {
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, at),
            _ => String::new(),
        };
        if !inner.is_empty() {
            return format!("{}.{inner}", key.get_ref());
        }
        if key.span().contains(&at) || value.span().contains(&at) {
            return key.get_ref().to_string();
        }
    }
    String::new()
}
