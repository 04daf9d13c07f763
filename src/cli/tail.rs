//! `tail`
//!
//! `following` keeps a connection and makes new ones, `events` reads what comes on it.

mod events;
mod following;

use std::ops::ControlFlow;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::client::{Client, understand};
use super::output;
use crate::config::Config;
use crate::phone::mask;
use crate::status::{Chat, Rank, Status};
use events::Event;
use following::Told;

/// Follow status changes as they are stored, one readable line each
///
/// Goes on after a lost connection where it was, and says so. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  plugchat-receiver tail\n  plugchat-receiver tail --since 10m --status READ\n  plugchat-receiver tail --json --phone 5544999999999"
)]
pub(super) struct Tail {
    /// Begin with the changes received at this time or later: RFC 3339, or how long ago, such as "10m" [default: now].
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    since: Option<Timestamp>,

    /// Only changes to this status, in any spelling.
    #[arg(long)]
    status: Option<String>,

    /// Only changes of this connected account.
    #[arg(long)]
    instance: Option<String>,

    /// Only changes of this chat, or of this participant.
    #[arg(long)]
    phone: Option<String>,

    /// Print the API's JSON, an object a line, phone numbers in full.
    #[arg(long)]
    json: bool,
}

/// What is shown of a change. The callback is left out: a valid one may have numbers and texts in it that no value can hold.
#[derive(Deserialize)]
struct Change {
    status: String,
    transition: String,
    message_id: String,
    instance_id: Option<String>,
    phone: Option<String>,
    participant: Option<String>,
    is_group: bool,
    received_at: Timestamp,
}

/// Where changes are missing.
#[derive(Deserialize)]
struct Gap {
    after: i64,
    resumed_after: i64,
}

impl Tail {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let client = Client::new(config)?;
        let query: Vec<(&str, String)> = [
            ("since", self.since.map(|since| since.to_string())),
            ("status", self.status),
            ("instance", self.instance),
            ("phone", self.phone),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let connect = async |last_id: Option<&str>| client.follow("/api/v1/changes", &query, last_id).await;
        let zone = TimeZone::system();
        let tell = |told: Told<'_>| {
            match told {
                Told::Event(Event { name, data }) => show(&name, &client.without_token(data), self.json, &zone)?,
                Told::Lost { why, last_id } => {
                    let where_to = last_id.map_or("begins anew".to_owned(), |id| format!("goes on after change {id}"));
                    output::remark(&format!(
                        "the connection is lost ({why}); it {where_to} as soon as there is a new one"
                    ));
                }
                Told::Back => output::remark("connected again"),
            }
            Ok(if output::has_failed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        tokio::select! {
            followed = following::follow(connect, tell) => followed?,
            () = output::reader_gone() => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows an event; one of a kind that is not known is for others.
fn show(name: &str, data: &str, json: bool, zone: &TimeZone) -> anyhow::Result<()> {
    match name {
        "change" if json => output::json_line(data),
        "change" => show_change(&understand(data)?, zone),
        "gap" => output::remark(&describe(&understand(data)?)),
        _ => {}
    }
    Ok(())
}

fn show_change(change: &Change, zone: &TimeZone) {
    let Change { status, transition, message_id, instance_id, phone, participant, is_group, received_at } = change;
    let time = received_at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
    let recipient = participant.as_deref().or(phone.as_deref()).map_or_else(|| "-".to_owned(), mask);
    let chat = Chat::of(phone.as_deref(), *is_group).name();
    let instance = instance_id.as_deref().unwrap_or("-");
    output::line_with_colour(
        &format!("{time}  "),
        (colour(status), &format!("{status:<10}")),
        &format!("  {transition:<8}  {message_id:<22}  {recipient:<19}  {chat:<6}  {instance}"),
    );
}

/// Of a status: the further it is, the more it strikes the eye; what has no rank is not like any of them.
fn colour(status: &str) -> &'static str {
    const FAINT: &str = "2";
    const BLUE: &str = "34";
    const CYAN: &str = "36";
    const GREEN: &str = "32";
    const MAGENTA: &str = "35";
    match Status::new(status).rank() {
        Some(Rank::Sent) => BLUE,
        Some(Rank::Received) => CYAN,
        Some(Rank::Read) => GREEN,
        Some(Rank::Played) => MAGENTA,
        None => FAINT,
    }
}

fn describe(gap: &Gap) -> String {
    let Gap { after, resumed_after } = gap;
    if resumed_after > after {
        format!(
            "the changes after {after} up to {resumed_after} are not there any more: retention has deleted them unread"
        )
    } else {
        format!(
            "the store ends with change {resumed_after}, before {after}: it is another one or an older one than before"
        )
    }
}
