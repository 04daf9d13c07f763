//! Callbacks as the vendors write them: for trying a receiver out.

use serde::Serialize;

use super::TYPE;
use crate::status::is_group_phone;

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
    instance_id: &'a str,
    status: &'a str,
    ids: &'a [String],
    momment: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    participant_device: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_device: Option<i64>,
    phone: &'a str,
    r#type: &'a str,
    is_group: bool,
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
            instance_id: &self.instance_id,
            status: &self.status,
            ids: &self.ids,
            momment: self.moment_ms,
            participant: self.participant.as_deref(),
            participant_device,
            phone_device,
            phone: &self.phone,
            r#type: TYPE,
            is_group,
        };
        serde_json::to_string(&wire).expect("texts, numbers and booleans are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
