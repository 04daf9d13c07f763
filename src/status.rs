//! What a status is and what a status change says: values, no I/O.
//!
//! The facts about statuses (their ranks, their spellings, what makes two of them the same) come from Plugchat's page of
//! the `MessageStatusCallback`, Z-API's, and from callbacks captured in production.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// How far an outgoing message has come. The order is the rank: a higher one implies the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// WhatsApp's server has it. Some accounts never send this one.
    Sent = 1,
    /// It is on a device of the recipient.
    Received = 2,
    /// It was opened.
    Read = 3,
    /// A voice message or video was played; can come without `READ`.
    Played = 4,
}

impl Rank {
    /// Every rank, lowest first.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Received, Self::Read, Self::Played];

    /// The status name that Plugchat documents for this rank.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Received => "RECEIVED",
            Self::Read => "READ",
            Self::Played => "PLAYED",
        }
    }

    /// The rank whose number (1 to 4) this is: what the store keeps.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|rank| *rank as i64 == number)
    }
}

/// A status as it came in. Two spellings of one status are [the same status](Self::canonical).
#[derive(Clone, Debug)]
pub struct Status(String);

impl Status {
    /// Takes any text: an unknown status is a status too.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The spelling that came in.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one spelling for all that mean the same: upper case, the old `MESSAGE_` prefix taken off what is known, and
    /// Z-API's `READ_BY_ME` as Plugchat's `READ-SELF`.
    pub fn canonical(&self) -> Cow<'_, str> {
        let upper = if self.0.bytes().any(|b| b.is_ascii_lowercase()) {
            Cow::Owned(self.0.to_ascii_uppercase())
        } else {
            Cow::Borrowed(self.0.as_str())
        };
        match upper.strip_prefix("MESSAGE_").unwrap_or(&upper) {
            "SENT" => Cow::Borrowed("SENT"),
            "RECEIVED" => Cow::Borrowed("RECEIVED"),
            "READ" => Cow::Borrowed("READ"),
            "PLAYED" => Cow::Borrowed("PLAYED"),
            "READ-SELF" | "READ_BY_ME" => Cow::Borrowed("READ-SELF"),
            _ => upper,
        }
    }

    /// The rank, or `None` for an unknown status and for `READ-SELF`: that the connected account itself read an incoming
    /// message says nothing of the delivery of an outgoing one.
    pub fn rank(&self) -> Option<Rank> {
        let canonical = self.canonical();
        Rank::ALL.into_iter().find(|rank| rank.name() == canonical)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a change did to its message and recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// A higher rank than any before.
    Advance = 1,
    /// A status seen already, at another moment or on another device.
    Repeat = 2,
    /// Lower than the highest seen, and not seen before: history, never a step back.
    Late = 3,
    /// A status without a rank.
    Unranked = 4,
}

impl Transition {
    pub(crate) const ALL: [Self; 4] = [Self::Advance, Self::Repeat, Self::Late, Self::Unranked];

    /// The word used in events, filters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Advance => "advance",
            Self::Repeat => "repeat",
            Self::Late => "late",
            Self::Unranked => "unranked",
        }
    }

    /// The transition whose number (1 to 4) this is: what the store keeps.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|transition| *transition as i64 == number)
    }
}

/// The kind of chat that a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chat {
    /// One to one, and whatever is neither of the others.
    Direct,
    /// A group.
    Group,
    /// A story (`status@broadcast`): most of the volume of an account that posts them.
    Story,
}

impl Chat {
    /// The kind of the chat with this phone.
    pub(crate) fn of(phone: Option<&str>, is_group: bool) -> Self {
        match phone {
            Some("status@broadcast") => Self::Story,
            _ if is_group => Self::Group,
            _ => Self::Direct,
        }
    }

    /// The word used in filters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Story => "story",
        }
    }
}

/// Whether a chat's `phone` has the form of a group's: for callbacks that don't carry `isGroup`.
pub(crate) fn is_group_phone(phone: &str) -> bool {
    phone.ends_with("-group") || phone.ends_with("@g.us")
}

/// What happened: the part of a change that says which event it is. Two with equal facts are exact duplicates.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The connected account.
    pub instance_id: Option<String>,
    /// WhatsApp's id of the message; opaque.
    pub message_id: String,
    /// The status, as it was spelled.
    pub status: Status,
    /// The chat: digits, `…-group`, `…@lid`, `status@broadcast` and others; opaque.
    pub phone: Option<String>,
    /// Who in the group, or which viewer of the story.
    pub participant: Option<String>,
    /// The device of the participant where there is one, else of the phone.
    pub device: Option<i64>,
    /// When it happened, to the millisecond (the vendors send whole seconds).
    pub moment: Option<Timestamp>,
}

impl Facts {
    /// The person whose status this is: the participant, else the chat's phone; empty when the callback names neither.
    pub fn recipient(&self) -> &str {
        self.participant.as_deref().or(self.phone.as_deref()).unwrap_or_default()
    }

    /// The event's id: 32 hexadecimal digits made from these facts alone, so that it is the same on a retry, on a replay
    /// and on another machine. Changing how it is made breaks what consumers have stored.
    pub fn event_id(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |value: Option<&[u8]>| match value {
            // A length before each value, so that no two lists of fields run together to the same bytes.
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            }
            None => hash.update([0]),
        };
        field(self.instance_id.as_deref().map(str::as_bytes));
        field(Some(self.message_id.as_bytes()));
        field(Some(self.status.canonical().as_bytes()));
        field(self.phone.as_deref().map(str::as_bytes));
        field(self.participant.as_deref().map(str::as_bytes));
        field(self.device.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        field(self.moment.map(|m| m.as_millisecond().to_le_bytes()).as_ref().map(<[u8; 8]>::as_slice));
        to_hex(&hash.finalize()[..16])
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

/// One callback for one message id: the unit that is stored and delivered. It serializes as the event that sinks hand on.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// What happened.
    pub facts: Facts,
    /// Whether the chat is a group.
    pub is_group: bool,
    /// When this receiver got it.
    pub received_at: Timestamp,
    /// What it did to its message and recipient.
    pub transition: Transition,
    /// The highest rank of this message and recipient before this change.
    pub previous: Option<Rank>,
    /// Milliseconds from the first moment of the previous rank to this moment; `None` when either is unknown.
    pub since_previous_ms: Option<i64>,
    /// The callback as it came, unknown fields and all, with its ids cut to this one.
    pub callback: Box<RawValue>,
}

impl StatusChange {
    /// The kind of chat.
    pub fn chat(&self) -> Chat {
        Chat::of(self.facts.phone.as_deref(), self.is_group)
    }

    /// The status that the message had with this recipient before, by the documented name.
    pub fn previous_status(&self) -> Option<&'static str> {
        self.previous.map(Rank::name)
    }
}

/// RFC 3339 in UTC with exactly three digits of a second's fraction.
pub(crate) fn with_milliseconds(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}

impl Serialize for StatusChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let facts = &self.facts;
        let mut event = serializer.serialize_struct("StatusChange", 14)?;
        event.serialize_field("id", &facts.event_id())?;
        event.serialize_field("type", "message.status")?;
        event.serialize_field("status", facts.status.as_str())?;
        event.serialize_field("previous_status", &self.previous_status())?;
        event.serialize_field("transition", self.transition.name())?;
        event.serialize_field("message_id", &facts.message_id)?;
        event.serialize_field("instance_id", &facts.instance_id)?;
        event.serialize_field("phone", &facts.phone)?;
        event.serialize_field("participant", &facts.participant)?;
        event.serialize_field("device", &facts.device)?;
        event.serialize_field("is_group", &self.is_group)?;
        event.serialize_field("moment", &facts.moment)?;
        event.serialize_field("received_at", &with_milliseconds(self.received_at))?;
        event.serialize_field("callback", &self.callback)?;
        event.end()
    }
}

impl<'de> Deserialize<'de> for StatusChange {
    /// Reads what [`Serialize`] wrote; `since_previous_ms` is not part of an event.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Event {
            status: String,
            previous_status: Option<String>,
            transition: Transition,
            message_id: String,
            instance_id: Option<String>,
            phone: Option<String>,
            participant: Option<String>,
            device: Option<i64>,
            is_group: bool,
            moment: Option<Timestamp>,
            received_at: Timestamp,
            callback: Box<RawValue>,
        }
        let event = Event::deserialize(deserializer)?;
        Ok(Self {
            facts: Facts {
                instance_id: event.instance_id,
                message_id: event.message_id,
                status: Status::new(event.status),
                phone: event.phone,
                participant: event.participant,
                device: event.device,
                moment: event.moment,
            },
            is_group: event.is_group,
            received_at: event.received_at,
            transition: event.transition,
            previous: event.previous_status.and_then(|name| Status::new(name).rank()),
            since_previous_ms: None,
            callback: event.callback,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: &str) -> Facts {
        Facts {
            instance_id: Some("instance.id".into()),
            message_id: "3EB0C431C26A1916E07E".into(),
            status: Status::new(status),
            phone: Some("5544999999999".into()),
            participant: None,
            device: Some(0),
            moment: Timestamp::from_millisecond(1_632_234_645_000).ok(),
        }
    }

    #[test]
    fn every_documented_spelling_has_its_rank() {
        for (text, rank) in [
            ("SENT", Some(Rank::Sent)),
            ("received", Some(Rank::Received)),
            ("MESSAGE_READ", Some(Rank::Read)),
            ("message_played", Some(Rank::Played)),
            ("READ-SELF", None),
            ("READ_BY_ME", None),
            ("MESSAGE_READ-SELF", None),
            ("ANSWERED", None),
            ("MESSAGE_", None),
        ] {
            assert_eq!(Status::new(text).rank(), rank, "{text}");
        }
    }

    #[test]
    fn an_event_id_depends_on_every_fact_and_on_no_spelling() {
        let id = facts("READ").event_id();
        assert_eq!(id, "da8f75eb8231dc7f94a17ee1a00140f3", "a changed id breaks what consumers have stored");
        assert_eq!(facts("message_read").event_id(), id);
        let others = [
            facts("SENT"),
            Facts { instance_id: None, ..facts("READ") },
            Facts { message_id: "other".into(), ..facts("READ") },
            Facts { phone: None, ..facts("READ") },
            Facts { participant: Some(String::new()), ..facts("READ") },
            Facts { device: None, ..facts("READ") },
            Facts { moment: None, ..facts("READ") },
        ];
        for other in others {
            assert_ne!(other.event_id(), id, "{other:?}");
        }
    }
}
