//! The registry of AWS IoT: things and thing types.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_iot::types::AttributePayload;
use backon::{ExponentialBuilder, Retryable};

use crate::announcement::{Announcement, ThingTypeName};

/// By which the thing is told from others in the account.
const PROTOCOL: (&str, &str) = ("protocol", "LwM2M");

/// What was just made may not be seen at once by every part of AWS IoT, and others make and change the same things.
const TRIES: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Registry {
    client: Client,
}

/// What had to be done for the thing to be as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    /// It had another type, or none, or lacked the attribute.
    Corrected,
    Nothing,
}

impl Done {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Done::Created => "CREATED",
            Done::Corrected => "CORRECTED",
            Done::Nothing => "EXISTS",
        }
    }
}

/// A thing that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) done: Done,
    /// Why it has no type, or the one that it had.
    pub(crate) without_its_type: Option<Untaken>,
}

/// Why a thing cannot take a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// It is deprecated and takes no new things.
    Deprecated,
    /// AWS IoT refuses the name.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The thing or its type was made, changed or removed by somebody else meanwhile, or is not seen yet.
    #[error("AWS IoT's registry changes too often: {0}")]
    Moving(String),
    #[error("AWS IoT refused {call}: {why}")]
    Refused { call: &'static str, why: String },
    /// Throttled, failed, or not reached.
    #[error("AWS IoT could not be asked to {call}: {why}")]
    Unavailable { call: &'static str, why: String },
}

/// The answers that are told apart here.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    NotFound,
    ExistsOtherwise,
    Conflict,
    Other,
}

fn answer(code: Option<&str>) -> Answer {
    match code {
        Some("ResourceNotFoundException") => Answer::NotFound,
        Some("ResourceAlreadyExistsException") => Answer::ExistsOtherwise,
        Some("VersionConflictException" | "ConflictingResourceUpdateException") => Answer::Conflict,
        _ => Answer::Other,
    }
}

/// An error that is none of the answers that were expected.
fn unexpected<E>(call: &'static str, error: E) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let why = lambda_support::aws::error_summary(&error);
    match error.code() {
        Some(
            "InvalidRequestException" | "UnauthorizedException" | "AccessDeniedException" | "LimitExceededException",
        ) => Error::Refused { call, why },
        Some("VersionConflictException" | "ConflictingResourceUpdateException" | "ResourceNotFoundException") => {
            Error::Moving(why)
        }
        _ => Error::Unavailable { call, why },
    }
}

impl Registry {
    pub(crate) fn new(client: Client) -> Registry {
        Registry { client }
    }

    /// The thing is there afterwards, with its type and attribute, whoever else makes it or its type at the same moment.
    pub(crate) async fn ensure(&self, announcement: &Announcement) -> Result<Thing, Error> {
        let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(TRIES).with_jitter();
        (|| self.try_to_ensure(announcement))
            .retry(pauses)
            .when(|error| matches!(error, Error::Moving(_)))
            .notify(|error, _| tracing::info!(reason = %error, "looking again"))
            .await
    }

    async fn try_to_ensure(&self, announcement: &Announcement) -> Result<Thing, Error> {
        let Announcement { thing, thing_type, .. } = announcement;
        let held = match self.client.describe_thing().thing_name(thing.as_str()).send().await {
            Ok(held) => Some(held),
            Err(error) if answer(error.code()) == Answer::NotFound => None,
            Err(error) => return Err(unexpected("describe a thing", error)),
        };
        // Where nothing usable was announced, the thing keeps what it has.
        let new_type = thing_type
            .as_ref()
            .filter(|thing_type| held.as_ref().is_none_or(|held| held.thing_type_name() != Some(thing_type.as_str())));
        let (name, value) = PROTOCOL;
        let attribute = held.as_ref().and_then(|held| held.attributes()?.get(name));
        if held.is_some() && new_type.is_none() && attribute.is_some_and(|attribute| attribute == value) {
            return Ok(Thing { done: Done::Nothing, without_its_type: None });
        }
        // A type that the thing has already stays, also when it is deprecated.
        let without_its_type = match new_type {
            Some(new_type) => self.ensure_type(new_type).await?,
            None => None,
        };
        let new_type = new_type.filter(|_| without_its_type.is_none()).map(|new_type| new_type.as_str().to_owned());
        let done = if held.is_some() { Done::Corrected } else { Done::Created };
        let payload = AttributePayload::builder().attributes(name, value).merge(true).build();
        let written = if held.is_some() {
            let update = self.client.update_thing().thing_name(thing.as_str());
            let update = update.set_thing_type_name(new_type).attribute_payload(payload);
            update.send().await.map(drop).map_err(|error| (answer(error.code()), unexpected("update a thing", error)))
        } else {
            let create = self.client.create_thing().thing_name(thing.as_str());
            let create = create.set_thing_type_name(new_type).attribute_payload(payload);
            create.send().await.map(drop).map_err(|error| (answer(error.code()), unexpected("create a thing", error)))
        };
        match written {
            Ok(()) => Ok(Thing { done, without_its_type }),
            // Somebody else has made or removed it since, or the type.
            Err((Answer::ExistsOtherwise | Answer::NotFound | Answer::Conflict, error)) => {
                Err(Error::Moving(error.to_string()))
            }
            Err((Answer::Other, error)) => Err(error),
        }
    }

    /// The type is there afterwards; or why things cannot take it. A deprecated one takes none, and is left deprecated: that
    /// was somebody's wish.
    async fn ensure_type(&self, thing_type: &ThingTypeName) -> Result<Option<Untaken>, Error> {
        let is_refused = |code: Option<&str>| code == Some("InvalidRequestException");
        match self.client.describe_thing_type().thing_type_name(thing_type.as_str()).send().await {
            Ok(held) => {
                let is_deprecated = held.thing_type_metadata().is_some_and(|metadata| metadata.deprecated());
                return Ok(is_deprecated.then_some(Untaken::Deprecated));
            }
            Err(error) if answer(error.code()) == Answer::NotFound => {}
            Err(error) if is_refused(error.code()) => return Ok(Some(Untaken::Refused)),
            Err(error) => return Err(unexpected("describe a thing type", error)),
        }
        // Of several that do this at the same moment all succeed; and a type that somebody has described is the type all
        // the same.
        match self.client.create_thing_type().thing_type_name(thing_type.as_str()).send().await {
            Ok(_) => tracing::info!("thing type created"),
            Err(error) if answer(error.code()) == Answer::ExistsOtherwise => {}
            Err(error) if is_refused(error.code()) => return Ok(Some(Untaken::Refused)),
            Err(error) => return Err(unexpected("create a thing type", error)),
        }
        Ok(None)
    }
}
