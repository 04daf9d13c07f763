//! The configuration's JSON Schema, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use serde_json::{Value, json};

use super::Config;

/// The JSON Schema of the configuration's file: what editors complete and check it by. `config.schema.json` is this.
pub fn schema() -> Value {
    // What editors for TOML know best.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>();
    RecursiveTransform(as_in_toml).transform(&mut schema);
    schema.insert("title".into(), "plugchat-receiver".into());
    schema.insert(
        "description".into(),
        "The configuration; config.example.toml has every option with its default.".into(),
    );
    schema.to_value()
}

/// TOML has no null: what may be left out is of its own type alone. And a default that is not written as its value is, such as a
/// duration's, says nothing.
fn as_in_toml(schema: &mut Schema) {
    let is_null = |value: &Value| value.is_null() || value == "null" || *value == json!({ "type": "null" });
    if let Some(Value::Array(mut kinds)) = schema.remove("anyOf") {
        kinds.retain(|kind| !is_null(kind));
        if let [Value::Object(only)] = kinds.as_mut_slice() {
            only.remove("description");
            schema.ensure_object().append(only);
        } else {
            schema.insert("anyOf".into(), kinds.into());
        }
    }
    for key in ["type", "enum"] {
        if let Some(Value::Array(values)) = schema.get_mut(key) {
            values.retain(|value| !is_null(value));
            if key == "type" && values.len() == 1 {
                let only = values.remove(0);
                schema.insert(key.into(), only);
            }
        }
    }
    let kind = match schema.get("default") {
        Some(Value::String(_)) => "string",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "integer",
        Some(Value::Array(_)) => "array",
        _ => "",
    };
    let is_written_so = schema.get("type").is_some_and(|named| named == kind);
    if !is_written_so {
        schema.remove("default");
    }
}
