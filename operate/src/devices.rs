//! The devices of the account: things that LwM2M devices are, and when each was last heard of.

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

/// Shadows that are read at a time.
const AT_ONCE: usize = 16;

/// What Coiote writes into the classic shadow of the last Register, Update or Deregister.
const TIMES: [&str; 2] = ["lwm2mLastUpOpTime", "lastRegisterUpdate"];

struct Device {
    thing: ThingName,
    thing_type: Option<String>,
    /// What the classic shadow says of its connection.
    connection: Json,
    last_contact: Option<OffsetDateTime>,
}

/// Lists them, those first that were heard of last.
pub(crate) async fn list(aws: &Aws) -> Result<Exit, Failure> {
    let things = things(aws).await?;
    let progress = ProgressBar::new(u64::try_from(things.len()).unwrap_or_default());
    let client = aws.iot_data();
    let mut things = things.into_iter();
    let mut reading = JoinSet::new();
    let mut devices = Vec::new();
    loop {
        while reading.len() < AT_ONCE
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

/// The things that Coiote has announced, and their types.
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
        let told =
            TIMES.iter().filter_map(|name| OffsetDateTime::parse(connection.get(name)?.as_str()?, &Rfc3339).ok());
        let written = document.pointer("/metadata/reported").and_then(newest);
        let written = written.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let last_contact = told.max().or(written);
        Device { thing, thing_type, connection, last_contact }
    }

    fn told(&self, name: &str) -> Option<&str> {
        self.connection.get(name)?.as_str()
    }

    fn sleeps(&self) -> bool {
        self.told("registeredQueueMode") == Some("true")
    }
}

/// The newest time in the metadata of a shadow.
fn newest(metadata: &Json) -> Option<i64> {
    match metadata {
        Json::Object(parts) => {
            let own = parts.get("timestamp").and_then(Json::as_i64);
            own.into_iter().chain(parts.values().filter_map(newest)).max()
        }
        Json::Array(parts) => parts.iter().filter_map(newest).max(),
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
        let last = device.told("lwm2mLastUpOp").unwrap_or("-").to_owned();
        let mode = if device.sleeps() { "queue mode" } else { "-" };
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
        let told = json!({"lwm2mLastUpOpTime": "1970-01-01T00:01:40Z", "lastRegisterUpdate": "1970-01-01T00:01:30.5Z"});
        assert_eq!(contact(&json!({"state": {"reported": told}, "metadata": metadata})), Some(100));
        assert_eq!(contact(&json!({"state": {"reported": {"lwm2mUri": "x"}}, "metadata": metadata})), Some(60));
        assert_eq!(contact(&Json::Null), None);
    }
}
