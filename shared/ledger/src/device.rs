//! The item with a device's requests.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use requests::{Device, Event, Millis, Record, Verdict};

use crate::installation::DueIndex;
use crate::update::Update;
use crate::{Attributes, Consistency, Error, Ledger, integer, number, string, text};

pub(crate) const ENTRY: &str = "device";

/// Attribute of an item from whose change there is something to tell AWS IoT Jobs: the table's stream is filtered by it.
const JOBS: &str = "jobs";

/// Somebody else wrote first so many times in a row: more than any number of writers explains.
const MOST_CONFLICTS: u32 = 50;

/// Appended events are taken into the state when there are more of them than this.
const MOST_EVENTS: usize = 8;

/// Where time has to look at a device although there is nothing that it can do, it looks again after so long.
const LOOK_AGAIN: Millis = 60_000;

/// A device's requests, as they stand in the ledger.
#[derive(Debug, Clone, Default)]
pub struct Item {
    pub device: Device,
    version: u64,
    events: usize,
    look_at: Option<Millis>,
    hand_over_at: Option<Millis>,
    /// Whether the item has the attribute by which AWS IoT Jobs is told.
    tells_jobs: bool,
}

impl Item {
    /// The item in a table or in the image of a stream's record.
    pub fn read(attributes: &Attributes) -> Result<(Item, Option<Verdict>), Error> {
        let unreadable = |error: serde_json::Error| Error::Unreadable(error.to_string());
        let mut item = Item {
            device: text(attributes, "state")
                .map_or(Ok(Device::default()), serde_json::from_str)
                .map_err(unreadable)?,
            version: integer(attributes, "version").unwrap_or(0),
            events: 0,
            look_at: integer(attributes, "lookAt"),
            hand_over_at: integer(attributes, "handOverAt"),
            tells_jobs: attributes.contains_key(JOBS),
        };
        let mut verdict = None;
        if let Some(AttributeValue::L(events)) = attributes.get("events") {
            item.events = events.len();
            for event in events {
                let event = event.as_s().map(String::as_str).unwrap_or_default();
                let event: Event = serde_json::from_str(event).map_err(unreadable)?;
                verdict = Some(item.device.apply(&event));
            }
        }
        Ok((item, verdict))
    }

    /// The item in an image of the table's stream, in DynamoDB's JSON.
    pub fn read_stream_image(image: &serde_json::Value) -> Result<Item, Error> {
        let attributes = image.as_object().into_iter().flatten();
        let attributes: Attributes =
            attributes.filter_map(|(name, value)| Some((name.clone(), attribute(value)?))).collect();
        Ok(Item::read(&attributes)?.0)
    }

    /// When the index says that time has to look at the device next.
    pub fn look_at(&self) -> Option<Millis> {
        self.look_at
    }

    /// Whether there is work that only a write can do: last words without items of their own, many appended events, or one
    /// that made a request wait, which is found by the index of hand-overs.
    pub fn needs_write(&self) -> bool {
        let (hand_over_at, look_at) = (self.device.next_hand_over_at(), self.device.next_look_at());
        self.events > MOST_EVENTS
            || look_at.is_some_and(|wanted| self.look_at.is_none_or(|known| wanted < known))
            || self.device.unfiled().next().is_some()
            || (hand_over_at.is_some() && hand_over_at != self.hand_over_at)
    }
}

impl Ledger {
    /// The device's requests; none where it has had no request.
    pub async fn load(&self, thing: &str) -> Result<Item, Error> {
        let found = self.get(thing, ENTRY, Consistency::Strong).await?;
        Ok(found.as_ref().map(Item::read).transpose()?.map(|(item, _)| item).unwrap_or_default())
    }

    /// Appends an event without a condition: one write that decides, and returns all that is known of the device.
    ///
    /// `look_by`: when time has to look at the device, if nobody writes again.
    pub async fn append(&self, thing: &str, event: &Event, look_by: Option<Millis>) -> Result<(Item, Verdict), Error> {
        let tells_jobs = matches!(event, Event::Claim(claim) if claim.name.is_of_job());
        let event = serde_json::to_string(event).map_err(|error| Error::Unreadable(error.to_string()))?;
        let appended = [(":none", AttributeValue::L(Vec::new())), (":event", AttributeValue::L(vec![string(event)]))];
        let mut update =
            self.update_device(thing).set_to("events", "list_append(if_not_exists(#events, :none), :event)", appended);
        if tells_jobs {
            update = update.set(JOBS, number(1));
        }
        if look_by.is_some() {
            // Whoever writes next has it say the earliest time again.
            update = update.due(DueIndex::Look, thing, look_by);
        }
        let output = update.finish().return_values(ReturnValue::AllNew).send().await?;
        let attributes = output.attributes.ok_or_else(|| Error::Unavailable("no item in the answer".to_owned()))?;
        let (item, verdict) = Item::read(&attributes)?;
        Ok((item, verdict.unwrap_or(Verdict::Unchanged)))
    }

    /// Applies events to what is there and writes it, by compare-and-set; `item` is what is known of it. Where they change
    /// nothing, nothing is written.
    ///
    /// Last words get items of their own before the device's item says that they have.
    pub async fn apply(
        &self,
        thing: &str,
        mut item: Item,
        events: &[Event],
        at: Millis,
    ) -> Result<(Item, Vec<Verdict>), Error> {
        let mut filed: Vec<requests::Name> = Vec::new();
        for _ in 0..MOST_CONFLICTS {
            let mut device = item.device.clone();
            let verdicts: Vec<Verdict> = events.iter().map(|event| device.apply(event)).collect();
            if device == item.device && !item.needs_write() && filed.is_empty() {
                return Ok((item, verdicts));
            }
            let is_filed_before = |record: &Record| filed.contains(&record.name);
            let to_file: Vec<Record> = device
                .ended()
                .iter()
                // What we filed before somebody else wrote may have come after what they filed.
                .filter(|record| !record.is_filed || is_filed_before(record))
                .cloned()
                .collect();
            for record in to_file {
                self.file(thing, &record).await?;
                filed.push(record.name);
            }
            device.mark_filed();
            match self.write(thing, &item, &device, at).await? {
                Written::Done(written) => return Ok((*written, verdicts)),
                Written::Changed(now) => item = *now,
            }
        }
        Err(Error::Conflict)
    }

    /// Takes the device out of the index of looks, or moves it on, where it was looked at and nothing had to be written: the
    /// index may say a time that is over. `item` is what was read or written last; where somebody has written since, nothing
    /// is done.
    pub async fn postpone_look(&self, thing: &str, item: &Item, at: Millis) -> Result<(), Error> {
        let Some(known) = item.look_at.filter(|look_at| *look_at <= at) else { return Ok(()) };
        let again = item
            .device
            .next_look_at()
            .map(|look_at| if look_at <= at { at.saturating_add(LOOK_AGAIN) } else { look_at });
        let update = self.update_device(thing).due(DueIndex::Look, thing, again).only_if(
            "lookAt",
            "#lookAt = :knownLookAt",
            [(":knownLookAt", number(known))],
        );
        match if_unchanged(update, item).finish().send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn update_device(&self, thing: &str) -> Update {
        Update::new(self.update(thing, ENTRY))
    }

    async fn write(&self, thing: &str, item: &Item, device: &Device, at: Millis) -> Result<Written, Error> {
        let state = serde_json::to_string(device).map_err(|error| Error::Unreadable(error.to_string()))?;
        let version = item.version.saturating_add(1);
        let mut update = self.update_device(thing).set("state", string(state)).set("version", number(version));
        let look_at = look(item.look_at, device.next_look_at(), at);
        if look_at != item.look_at {
            update = update.due(DueIndex::Look, thing, look_at);
        }
        let hand_over_at = device.next_hand_over_at();
        update = update.due(DueIndex::HandOver, thing, hand_over_at);
        let tells_jobs = tells_jobs(&item.device, device);
        if tells_jobs {
            update = update.set(JOBS, number(1));
        } else if item.tells_jobs {
            update = update.remove(JOBS);
        }
        if item.events > 0 {
            update = update.remove("events");
        }
        let written = if_unchanged(update, item)
            .finish()
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match written {
            Ok(_) => {
                let device = device.clone();
                Ok(Written::Done(Box::new(Item { device, version, events: 0, look_at, hand_over_at, tells_jobs })))
            }
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                let failure = error.into_err();
                let now = match &failure {
                    aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(
                        failure,
                    ) => failure.item.as_ref(),
                    _ => None,
                };
                let now = match now {
                    Some(now) => Item::read(now)?.0,
                    None => self.load(thing).await?,
                };
                Ok(Written::Changed(Box::new(now)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a change may be one of a job's request, as AWS IoT Jobs is told: a last word stands.
fn tells_jobs(before: &Device, after: &Device) -> bool {
    let was_open = |record: &Record| before.find(&record.name).is_none_or(Record::is_open);
    let of_job = |record: &&Record| record.name.is_of_job();
    after.open().iter().any(|record| of_job(&record)) || after.ended().iter().filter(of_job).any(was_open)
}

/// Makes an update fail where somebody has written since the item was read.
fn if_unchanged(update: Update, item: &Item) -> Update {
    let update = match item.version {
        0 => update.only_if("version", "attribute_not_exists(#version)", []),
        known => update.only_if("version", "#version = :knownVersion", [(":knownVersion", number(known))]),
    };
    match item.events {
        0 => update.only_if("events", "attribute_not_exists(#events)", []),
        known => update.only_if("events", "size(#events) = :knownEvents", [(":knownEvents", number(known))]),
    }
}

/// A value in DynamoDB's JSON, of the types that a device's item has.
fn attribute(value: &serde_json::Value) -> Option<AttributeValue> {
    let (kind, value) = value.as_object()?.iter().next()?;
    match kind.as_str() {
        "S" => Some(AttributeValue::S(value.as_str()?.to_owned())),
        "N" => Some(AttributeValue::N(value.as_str()?.to_owned())),
        "L" => Some(AttributeValue::L(value.as_array()?.iter().filter_map(attribute).collect())),
        _ => None,
    }
}

enum Written {
    Done(Box<Item>),
    Changed(Box<Item>),
}

/// When the index says that time has to look. A look that comes too early does no harm, and each change in an index costs as
/// much as a write.
fn look(now: Option<Millis>, wanted: Option<Millis>, at: Millis) -> Option<Millis> {
    match (now, wanted) {
        (Some(now), Some(wanted)) if at < now && now <= wanted => Some(now),
        _ => wanted,
    }
}
