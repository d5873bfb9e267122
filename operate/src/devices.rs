//! `lwm2m devices`: things of the account that stand for LwM2M devices, each with the time of its last contact.

use std::time::SystemTime;

use aws_sdk_iot::types::ThingAttribute;
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use shadow::ThingName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

use crate::connection::Aws;
use crate::exit::{Exit, Failure, could_not};
use crate::{output, shadows};

/// Shadows that are read at the same time.
const CONCURRENT_READS: usize = 16;

/// Fields of the classic shadow that hold the time of the last Register, Update or Deregister.
const CONTACT_TIMES: [&str; 2] = ["lwm2mLastUpOpTime", "lastRegisterUpdate"];

struct Device {
    thing: ThingName,
    thing_type: Option<String>,
    /// State that the classic shadow reports, about the connection.
    connection: Json,
    last_contact: Option<OffsetDateTime>,
}

/// Lists the devices; the one with the latest contact first.
pub(crate) async fn run(aws: &Aws) -> Result<Exit, Failure> {
    let things = things(aws).await?;
    let progress = ProgressBar::new(u64::try_from(things.len()).unwrap_or_default());
    let client = aws.iot_data();
    let mut things = things.into_iter();
    let mut reading = JoinSet::new();
    let mut devices = Vec::new();
    loop {
        while reading.len() < CONCURRENT_READS
            && let Some((thing, thing_type)) = things.next()
        {
            let client = client.clone();
            reading.spawn(async move {
                let document = shadows::document(&client, &thing, None).await?.unwrap_or_default();
                Ok::<_, Failure>(Device::new(thing, thing_type, &document))
            });
        }
        let Some(read) = reading.join_next().await else { break };
        devices.push(read.map_err(|error| Failure::new(error.to_string()))??);
        progress.inc(1);
    }
    progress.finish_and_clear();
    devices.sort_by(|a, b| b.last_contact.cmp(&a.last_contact).then_with(|| a.thing.as_str().cmp(b.thing.as_str())));
    show(aws, &devices);
    Ok(Exit::Done)
}

/// Lists the things that were announced by Coiote, and their types.
async fn things(aws: &Aws) -> Result<Vec<(ThingName, Option<String>)>, Failure> {
    let mut pages =
        aws.iot().list_things().attribute_name("protocol").attribute_value("LwM2M").into_paginator().items().send();
    let mut things = Vec::new();
    while let Some(thing) = pages.next().await {
        let ThingAttribute { thing_name, thing_type_name, .. } = thing.map_err(could_not("list the things"))?;
        things.extend(thing_name.and_then(|name| ThingName::parse(&name)).map(|name| (name, thing_type_name)));
    }
    Ok(things)
}

impl Device {
    fn new(thing: ThingName, thing_type: Option<String>, document: &Json) -> Device {
        let connection = document.pointer("/state/reported").cloned().unwrap_or_default();
        let parse_time = |name: &&str| OffsetDateTime::parse(connection.get(name)?.as_str()?, &Rfc3339).ok();
        let said_by_coiote = CONTACT_TIMES.iter().filter_map(parse_time).max();
        let written = document.pointer("/metadata/reported").and_then(newest_timestamp);
        let written_at = written.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let last_contact = said_by_coiote.or(written_at);
        Device { thing, thing_type, connection, last_contact }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.connection.get(name)?.as_str()
    }

    fn is_in_queue_mode(&self) -> bool {
        self.field("registeredQueueMode") == Some("true")
    }
}

/// Finds the newest timestamp in the metadata of a shadow.
fn newest_timestamp(metadata: &Json) -> Option<i64> {
    match metadata {
        Json::Object(parts) => {
            let own = parts.get("timestamp").and_then(Json::as_i64);
            own.into_iter().chain(parts.values().filter_map(newest_timestamp)).max()
        }
        Json::Array(parts) => parts.iter().filter_map(newest_timestamp).max(),
        _ => None,
    }
}

fn show(aws: &Aws, devices: &[Device]) {
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    if aws.json {
        let as_json = |device: &Device| {
            json!({
                "thing": device.thing.as_str(),
                "type": device.thing_type,
                "lastContact": device.last_contact.map(text),
                "connection": device.connection,
            })
        };
        return output::json(&Json::Array(devices.iter().map(as_json).collect()));
    }
    if devices.is_empty() {
        return output::note("No thing has the attribute protocol=LwM2M: no device has been announced yet.");
    }
    let now = OffsetDateTime::from(SystemTime::now());
    let row = |device: &Device| {
        let contact =
            device.last_contact.map_or_else(|| "never".to_owned(), |at| output::ago((now - at).whole_seconds()));
        let last = device.field("lwm2mLastUpOp").unwrap_or("-").to_owned();
        let mode = if device.is_in_queue_mode() { "queue mode" } else { "-" };
        [
            device.thing.to_string(),
            device.thing_type.clone().unwrap_or_else(|| "-".to_owned()),
            contact,
            last,
            mode.to_owned(),
        ]
    };
    output::table(["THING", "TYPE", "LAST CONTACT", "BY", "SLEEPS"], devices.iter().map(row));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_contact_is_what_coiote_says_or_when_it_wrote() {
        let contact = |document: &Json| {
            let device = Device::new(ThingName::parse("a").unwrap(), None, document);
            device.last_contact.map(OffsetDateTime::unix_timestamp)
        };
        let metadata = json!({"reported": {"lwm2mUri": {"timestamp": 50}, "list": [{"timestamp": 60}]}});
        let reported =
            json!({"lwm2mLastUpOpTime": "1970-01-01T00:01:40Z", "lastRegisterUpdate": "1970-01-01T00:01:30.5Z"});
        assert_eq!(contact(&json!({"state": {"reported": reported}, "metadata": metadata})), Some(100));
        assert_eq!(contact(&json!({"state": {"reported": {"lwm2mUri": "x"}}, "metadata": metadata})), Some(60));
        assert_eq!(contact(&Json::Null), None);
    }
}
