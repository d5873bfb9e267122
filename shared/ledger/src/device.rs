//! Item with a device's requests.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use requests::{Device, Event, Millis, Record, Verdict};

use crate::due::DueIndex;
use crate::update::Update;
use crate::{Attributes, Consistency, Error, Ledger, integer, number, string, text};

/// Sort key of a device's item.
pub(crate) const ENTRY: &str = "device";

/// Attribute of an item whose change may concern a job's request. The table's stream is filtered by it.
const JOBS: &str = "jobs";

/// Attempts at a compare-and-set: more than concurrent writers can explain.
const MAX_ATTEMPTS: u32 = 50;

/// Most appended events that an item keeps before they are applied to its state.
const MAX_EVENTS: usize = 8;

/// Item with a device's requests, as it was read or written last.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// The requests, with the appended events applied.
    pub device: Device,
    version: u64,
    /// Number of appended events.
    events: usize,
    look_at: Option<Millis>,
    hand_over_order: Option<Millis>,
    /// Whether the item has the attribute [`JOBS`].
    concerns_jobs: bool,
}

impl Item {
    /// Reads the item from a table or from an image of the table's stream. The verdict is that of the last appended event.
    pub fn read(attributes: &Attributes) -> Result<(Item, Option<Verdict>), Error> {
        let unreadable = |error: serde_json::Error| Error::Unreadable(error.to_string());
        let mut item = Item {
            device: text(attributes, "state")
                .map_or(Ok(Device::default()), serde_json::from_str)
                .map_err(unreadable)?,
            version: integer(attributes, "version").unwrap_or(0),
            events: 0,
            look_at: integer(attributes, "lookAt"),
            hand_over_order: integer(attributes, "handOverAt"),
            concerns_jobs: attributes.contains_key(JOBS),
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

    /// Reads the item from an image of the table's stream, in DynamoDB's JSON.
    pub fn read_stream_image(image: &serde_json::Value) -> Result<Item, Error> {
        let attributes = image.as_object().into_iter().flatten();
        let attributes: Attributes =
            attributes.filter_map(|(name, value)| Some((name.clone(), attribute(value)?))).collect();
        Ok(Item::read(&attributes)?.0)
    }

    /// Time of the next look at the device in the index.
    pub fn look_at(&self) -> Option<Millis> {
        self.look_at
    }

    /// Whether the item has to be written even if its requests do not change: final statuses have no items of their own yet,
    /// many events were appended, or the indexes are out of date.
    pub fn needs_write(&self) -> bool {
        let (hand_over_order, look_at) = (self.device.hand_over_order(), self.device.next_look_at());
        self.events > MAX_EVENTS
            || look_at.is_some_and(|due| self.look_at.is_none_or(|indexed| due < indexed))
            || self.device.unfiled().next().is_some()
            || (hand_over_order.is_some() && hand_over_order != self.hand_over_order)
    }
}

impl Ledger {
    /// Reads the device's item; an empty one if it has had no request.
    pub async fn load(&self, thing: &str) -> Result<Item, Error> {
        let found = self.get(thing, ENTRY, Consistency::Strong).await?;
        Ok(found.as_ref().map(Item::read).transpose()?.map(|(item, _)| item).unwrap_or_default())
    }

    /// Appends an event by one write without a condition. Returns the item and the event's verdict.
    ///
    /// `look_by` is the time of the next look at the device, unless the item is written before.
    pub async fn append(&self, thing: &str, event: &Event, look_by: Option<Millis>) -> Result<(Item, Verdict), Error> {
        let concerns_jobs = matches!(event, Event::Claim(claim) if claim.name.is_of_job());
        let event = serde_json::to_string(event).map_err(|error| Error::Unreadable(error.to_string()))?;
        let appended = [(":none", AttributeValue::L(Vec::new())), (":event", AttributeValue::L(vec![string(event)]))];
        let mut update =
            self.update_device(thing).set_to("events", "list_append(if_not_exists(#events, :none), :event)", appended);
        if concerns_jobs {
            update = update.set(JOBS, number(1));
        }
        if look_by.is_some() {
            // The next write sets the earliest time again.
            update = update.due(DueIndex::Look, thing, look_by);
        }
        let output = update.finish().return_values(ReturnValue::AllNew).send().await?;
        let attributes = output.attributes.ok_or_else(|| Error::Unavailable("no item in the answer".to_owned()))?;
        let (item, verdict) = Item::read(&attributes)?;
        Ok((item, verdict.unwrap_or(Verdict::Unchanged)))
    }

    /// Applies events to the device's item by compare-and-set, beginning with `item`. Nothing is written if nothing changes.
    ///
    /// Final statuses get items of their own before the device's item marks them as filed.
    pub async fn apply(
        &self,
        thing: &str,
        mut item: Item,
        events: &[Event],
        at: Millis,
    ) -> Result<(Item, Vec<Verdict>), Error> {
        let mut filed: Vec<requests::Name> = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            let mut device = item.device.clone();
            let verdicts: Vec<Verdict> = events.iter().map(|event| device.apply(event)).collect();
            if device == item.device && !item.needs_write() && filed.is_empty() {
                return Ok((item, verdicts));
            }
            let is_filed_before = |record: &Record| filed.contains(&record.name);
            let to_file: Vec<Record> = device
                .ended()
                .iter()
                // If another writer came between, its final status of a request may have been filed before ours. The item has
                // to show the one that the state ends with.
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
                Written::Conflict(current) => item = *current,
            }
        }
        Err(Error::Conflict)
    }

    /// Moves a device on in the index of looks, or removes it, after a look that had nothing to write. `item` is the one that
    /// was read or written last; nothing is done if it was changed since. `pause`: time until the next look at what is due still.
    pub async fn postpone_look(&self, thing: &str, item: &Item, at: Millis, pause: Millis) -> Result<(), Error> {
        let Some(indexed) = item.look_at.filter(|look_at| *look_at <= at) else { return Ok(()) };
        let next =
            item.device.next_look_at().map(|look_at| if look_at <= at { at.saturating_add(pause) } else { look_at });
        let update = self.update_device(thing).due(DueIndex::Look, thing, next).only_if(
            "lookAt",
            "#lookAt = :knownLookAt",
            [(":knownLookAt", number(indexed))],
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

    /// Writes the device's state, if the item is as it was read.
    async fn write(&self, thing: &str, item: &Item, device: &Device, at: Millis) -> Result<Written, Error> {
        let state = serde_json::to_string(device).map_err(|error| Error::Unreadable(error.to_string()))?;
        let version = item.version.saturating_add(1);
        let mut update = self.update_device(thing).set("state", string(state)).set("version", number(version));
        let look_at = next_look(item.look_at, device.next_look_at(), at);
        if look_at != item.look_at {
            update = update.due(DueIndex::Look, thing, look_at);
        }
        let hand_over_order = device.hand_over_order();
        update = update.due(DueIndex::HandOver, thing, hand_over_order);
        let concerns_jobs = concerns_jobs(&item.device, device);
        if concerns_jobs {
            update = update.set(JOBS, number(1));
        } else if item.concerns_jobs {
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
                Ok(Written::Done(Box::new(Item {
                    device,
                    version,
                    events: 0,
                    look_at,
                    hand_over_order,
                    concerns_jobs,
                })))
            }
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                let failure = error.into_err();
                let current = match &failure {
                    UpdateItemError::ConditionalCheckFailedException(failure) => failure.item.as_ref(),
                    _ => None,
                };
                let current = match current {
                    Some(current) => Item::read(current)?.0,
                    None => self.load(thing).await?,
                };
                Ok(Written::Conflict(Box::new(current)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a change may be one of a job's request: such a request is open, or has ended by this change.
fn concerns_jobs(before: &Device, after: &Device) -> bool {
    let was_open = |record: &Record| before.find(&record.name).is_none_or(Record::is_open);
    let of_job = |record: &&Record| record.name.is_of_job();
    after.open().iter().any(|record| of_job(&record)) || after.ended().iter().filter(of_job).any(was_open)
}

/// Lets an update fail if the item was changed since it was read.
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

/// Value in DynamoDB's JSON, of the types that a device's item has.
fn attribute(value: &serde_json::Value) -> Option<AttributeValue> {
    let (kind, value) = value.as_object()?.iter().next()?;
    match kind.as_str() {
        "S" => Some(AttributeValue::S(value.as_str()?.to_owned())),
        "N" => Some(AttributeValue::N(value.as_str()?.to_owned())),
        "L" => Some(AttributeValue::L(value.as_array()?.iter().filter_map(attribute).collect())),
        _ => None,
    }
}

/// Outcome of a compare-and-set.
enum Written {
    /// The item as it was written.
    Done(Box<Item>),
    /// The item as another writer left it.
    Conflict(Box<Item>),
}

/// Time of the next look in the index: the indexed one if it is not too late, as each change of an index is billed as a write
/// and an early look does no harm.
fn next_look(indexed: Option<Millis>, due: Option<Millis>, at: Millis) -> Option<Millis> {
    match (indexed, due) {
        (Some(indexed), Some(due)) if at < indexed && indexed <= due => Some(indexed),
        _ => due,
    }
}
