//! Callbacks as the vendors write them: for trying a receiver out, and in the place of texts that are no longer kept.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::reader::FIRST_MILLISECOND_VALUE;
use super::{Body, TYPE};
use crate::status::{Facts, is_group_phone};

/// A callback to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// The connected account.
    pub(crate) instance_id: String,
    /// Any text.
    pub(crate) status: String,
    /// The messages it speaks of.
    pub(crate) ids: Vec<String>,
    /// When it happened, in milliseconds since 1970.
    pub(crate) moment_ms: i64,
    /// The chat.
    pub(crate) phone: String,
    /// Who in the group, or which viewer of the story.
    pub(crate) participant: Option<String>,
    /// The device of the participant where there is one, else of the phone.
    pub(crate) device: i64,
}

/// The fields in the order of captured callbacks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<&'a str>,
    status: &'a str,
    ids: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    momment: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant_device: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_device: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    r#type: &'a str,
    is_group: bool,
}

impl Wire<'_> {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and booleans are always JSON")
    }
}

/// The callback that says just this of one message. Reading it gives the same facts.
pub(crate) fn rewrite(facts: &Facts, is_group: bool) -> Box<RawValue> {
    let (participant_device, phone_device) = match facts.participant {
        Some(_) => (facts.device, None),
        None => (None, facts.device),
    };
    // A time so early came in seconds, and would be read as such.
    let number = |ms: i64| if ms < FIRST_MILLISECOND_VALUE { ms / 1000 } else { ms };
    let wire = Wire {
        instance_id: facts.instance_id.as_deref(),
        status: facts.status.as_str(),
        ids: std::slice::from_ref(&facts.message_id),
        momment: facts.moment.map(Timestamp::as_millisecond).map(number),
        participant: facts.participant.as_deref(),
        participant_device,
        phone_device,
        phone: facts.phone.as_deref(),
        r#type: TYPE,
        is_group,
    };
    Body { text: wire.to_json(), ids: None }.cut_to(&facts.message_id)
}

impl Draft {
    /// The five callbacks of Plugchat's page, in its order.
    pub(crate) fn documented() -> [Self; 5] {
        ["SENT", "RECEIVED", "READ", "READ-SELF", "PLAYED"].map(|status| Self {
            instance_id: "instance.id".into(),
            status: status.into(),
            ids: vec!["999999999999999999999".into()],
            moment_ms: 1_632_234_645_000,
            phone: "5544999999999".into(),
            participant: None,
            device: 0,
        })
    }

    /// The body that is posted.
    pub(crate) fn to_json(&self) -> String {
        let is_group = is_group_phone(&self.phone);
        let (participant_device, phone_device) = match (&self.participant, is_group) {
            (None, _) => (None, Some(self.device)),
            (Some(_), true) => (Some(self.device), None),
            // A story has both, and its own is always this one.
            (Some(_), false) => (Some(self.device), Some(0)),
        };
        let wire = Wire {
            instance_id: Some(&self.instance_id),
            status: &self.status,
            ids: &self.ids,
            momment: Some(self.moment_ms),
            participant: self.participant.as_deref(),
            participant_device,
            phone_device,
            phone: Some(&self.phone),
            r#type: TYPE,
            is_group,
        };
        wire.to_json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::parse;

    #[test]
    fn a_callback_that_is_written_anew_says_what_the_first_one_said() {
        for body in [
            r#"{"type":"MessageStatusCallback","status":"read","ids":["A"],"phone":"5544999999999","phoneDevice":3,"more":1}"#,
            r#"{"type":"MessageStatusCallback","status":"READ","id":"A","momment":"5","phone":"1-group","participant":"2"}"#,
            r#"{"type":"MessageStatusCallback","status":"READ","id":"A","momment":1632234645123,"phone":"1-group",
                "participant":"2","participantDevice":7,"instanceId":"i","isGroup":false}"#,
            r#"{"type":"MessageStatusCallback","status":"\u0041\n\"","ids":["\\"],"momment":999999999,"isGroup":true}"#,
        ] {
            let first = parse(body.as_bytes()).unwrap();
            let facts = first.facts(&first.ids()[0]);
            let rewritten = rewrite(&facts, first.is_group());
            let again = parse(rewritten.get().as_bytes()).unwrap_or_else(|error| panic!("{error}: {rewritten}"));
            assert_eq!(again.facts(&again.ids()[0]).event_id(), facts.event_id(), "{rewritten}");
            assert_eq!(again.facts("A").status.as_str(), facts.status.as_str());
            assert_eq!((again.is_group(), again.ids()), (first.is_group(), first.ids()), "{rewritten}");
        }
    }

    #[test]
    fn the_documented_callbacks_are_written_as_documented() {
        let read = r#"{"instanceId":"instance.id","status":"READ","ids":["999999999999999999999"],"momment":1632234645000,"phoneDevice":0,"phone":"5544999999999","type":"MessageStatusCallback","isGroup":false}"#;
        assert_eq!(Draft::documented()[2].to_json(), read);
    }

    #[test]
    fn a_participant_s_callback_is_written_as_captured() {
        let [mut draft, ..] = Draft::documented();
        draft.phone = "120363000000000001-group".into();
        draft.participant = Some("5500988887777".into());
        draft.device = 47;
        let sent = r#"{"instanceId":"instance.id","status":"SENT","ids":["999999999999999999999"],"momment":1632234645000,"participant":"5500988887777","participantDevice":47,"phone":"120363000000000001-group","type":"MessageStatusCallback","isGroup":true}"#;
        assert_eq!(draft.to_json(), sent);
    }
}
