//! Names at a broker that depend on the change: subjects, routing keys, streams.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::status::StatusChange;

/// The most characters that a value takes up in a name.
const MAX_VALUE: usize = 64;

/// What may stand between braces.
const VARIABLES: [(&str, Variable); 4] = [
    ("instance_id", Variable::InstanceId),
    ("status", Variable::Status),
    ("chat", Variable::Chat),
    ("transition", Variable::Transition),
];

/// A text with variables, such as `whatsapp.status.{instance_id}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Template(#[schemars(with = "String")] Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    InstanceId,
    Status,
    Chat,
    Transition,
}

impl Template {
    /// The name for this change. A value's characters other than ASCII letters, digits and hyphens become `_`, because brokers give
    /// some of them a meaning (`.`, `*`, `#`, `>`); no value is longer than 64; one that the callback doesn't have is `_`.
    pub(super) fn render(&self, change: &StatusChange) -> String {
        self.render_with(|variable, name| match variable {
            Variable::InstanceId => push_clean(name, change.facts.instance_id.as_deref().unwrap_or_default()),
            Variable::Status => push_clean(name, &change.facts.status.canonical()),
            Variable::Chat => name.push_str(change.chat().name()),
            Variable::Transition => name.push_str(change.transition.name()),
        })
    }

    /// The name with this in the place of each variable.
    pub(super) fn with_all(&self, value: &str) -> String {
        self.render_with(|_, name| name.push_str(value))
    }

    /// The most bytes that a name may have.
    pub(super) fn longest(&self) -> usize {
        self.with_all(&"x".repeat(MAX_VALUE)).len()
    }

    fn render_with(&self, mut push: impl FnMut(Variable, &mut String)) -> String {
        self.0.iter().fold(String::new(), |mut name, part| {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Variable(variable) => push(*variable, &mut name),
            }
            name
        })
    }
}

fn push_clean(name: &mut String, value: &str) {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    name.extend(value.chars().take(MAX_VALUE).map(|c| if is_plain(&c) { c } else { '_' }));
    if value.is_empty() {
        name.push('_');
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        let (mut parts, mut rest) = (Vec::new(), text.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err("has a { without its }".into());
            };
            let known = VARIABLES.iter().find(|(known, _)| *known == name);
            let (_, variable) = known.ok_or_else(|| {
                let names = VARIABLES.map(|(name, _)| format!("{{{name}}}")).join(", ");
                format!("has {{{name}}}, expected one of {names}")
            })?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Variable(*variable));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err("has a } without its {".into());
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Template {
    /// As it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Variable(variable) => {
                let name = VARIABLES.iter().find(|(_, known)| known == variable).map_or("", |(name, _)| name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::conformance::delivery;
    use crate::status::Status;

    fn template(text: &str) -> Result<Template, String> {
        Template::try_from(text.to_owned())
    }

    #[test]
    fn a_name_is_made_of_the_changes_values() {
        let mut change = delivery("m").change;
        for (text, name) in [
            ("plain", "plain"),
            ("whatsapp.status.{instance_id}", "whatsapp.status.instance_id"),
            ("{status}", "READ"),
            ("a.{chat}.{transition}.z", "a.direct.advance.z"),
            ("{status}{status}", "READREAD"),
        ] {
            let template = template(text).unwrap();
            assert_eq!((template.render(&change).as_str(), template.to_string().as_str()), (name, text));
        }
        let subject = template("s.{instance_id}.{status}").unwrap();
        change.facts.status = Status::new("message_read-self");
        change.facts.instance_id = None;
        assert_eq!(subject.render(&change), "s._.READ-SELF");
        change.facts.instance_id = Some("é >*#.\n\u{0}".into());
        change.facts.status = Status::new("");
        assert_eq!(subject.render(&change), "s.________._");
        change.facts.instance_id = Some("x".repeat(1000));
        assert_eq!(subject.render(&change), format!("s.{}._", "x".repeat(64)));
        assert_eq!(subject.with_all("*"), "s.*.*");
    }

    #[test]
    fn what_is_no_variable_is_refused_with_those_that_there_are() {
        for (text, says) in [
            ("s.{instance}", "has {instance}, expected one of {instance_id}, {status}, {chat}, {transition}"),
            ("s.{}", "has {}, expected"),
            ("s.{status", "has a { without its }"),
            ("s.status}", "has a } without its {"),
            ("{status}}", "has a } without its {"),
            ("", "is empty"),
        ] {
            let error = template(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
