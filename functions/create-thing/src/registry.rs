//! The registry of AWS IoT: things and thing types.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_iot::types::AttributePayload;
use backon::{ExponentialBuilder, Retryable};

use crate::announcement::{Announcement, ThingTypeName};

/// Attribute that marks LwM2M things.
const PROTOCOL: (&str, &str) = ("protocol", "LwM2M");

/// Most retries: not every part of AWS IoT sees a new thing or type at once, and others change the same things.
const TRIES: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Registry {
    client: Client,
}

/// Change that was necessary for the thing to be as announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThingChange {
    Created,
    /// It had another type, or none, or lacked the attribute.
    Corrected,
    None,
}

impl ThingChange {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ThingChange::Created => "CREATED",
            ThingChange::Corrected => "CORRECTED",
            ThingChange::None => "EXISTS",
        }
    }
}

/// A thing that exists now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnsuredThing {
    pub(crate) change: ThingChange,
    /// Reason why it does not have the announced type.
    pub(crate) unusable_type: Option<UnusableType>,
}

/// Reason why a thing cannot have a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnusableType {
    /// The type is deprecated and takes no new things.
    Deprecated,
    /// AWS IoT refuses the name.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The thing or its type was made, changed or removed by another caller meanwhile, or is not visible yet.
    #[error("AWS IoT's registry changes too often: {0}")]
    Moving(String),
    #[error("AWS IoT refused {call}: {why}")]
    Refused { call: &'static str, why: String },
    /// Throttled, failed, or not reached.
    #[error("AWS IoT could not be asked to {call}: {why}")]
    Unavailable { call: &'static str, why: String },
}

/// Kind of an error that the registry returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorKind {
    NotFound,
    /// It exists already, with other properties.
    Exists,
    Conflict,
    InvalidRequest,
    /// The role may not make the call, or a limit of the account is reached.
    Refused,
    Other,
}

impl ErrorKind {
    fn of(error: &impl ProvideErrorMetadata) -> ErrorKind {
        match error.code() {
            Some("ResourceNotFoundException") => ErrorKind::NotFound,
            Some("ResourceAlreadyExistsException") => ErrorKind::Exists,
            Some("VersionConflictException" | "ConflictingResourceUpdateException") => ErrorKind::Conflict,
            Some("InvalidRequestException") => ErrorKind::InvalidRequest,
            Some("UnauthorizedException" | "AccessDeniedException" | "LimitExceededException") => ErrorKind::Refused,
            _ => ErrorKind::Other,
        }
    }
}

impl Error {
    /// Stable; the documentation says what to do about each.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Refused { .. } => "REGISTRY_REFUSED",
            Error::Moving(_) | Error::Unavailable { .. } => "REGISTRY_UNAVAILABLE",
        }
    }

    /// The error of a call.
    fn of<E>(call: &'static str, error: E) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let why = lambda_support::aws::error_summary(&error);
        match ErrorKind::of(&error) {
            ErrorKind::InvalidRequest | ErrorKind::Refused => Error::Refused { call, why },
            ErrorKind::Conflict | ErrorKind::NotFound => Error::Moving(why),
            ErrorKind::Exists | ErrorKind::Other => Error::Unavailable { call, why },
        }
    }

    /// The error of a call that writes a thing. Another caller may have made or removed the thing since it was read, or its type.
    fn of_write<E>(call: &'static str, error: E) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let kind = ErrorKind::of(&error);
        let error = Error::of(call, error);
        match kind {
            ErrorKind::Exists | ErrorKind::NotFound | ErrorKind::Conflict => Error::Moving(error.to_string()),
            ErrorKind::InvalidRequest | ErrorKind::Refused | ErrorKind::Other => error,
        }
    }
}

impl Registry {
    pub(crate) fn new(client: Client) -> Registry {
        Registry { client }
    }

    /// Makes the thing with its type and attribute, or corrects it, whoever else does so at the same moment.
    pub(crate) async fn ensure(&self, announcement: &Announcement) -> Result<EnsuredThing, Error> {
        let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(TRIES).with_jitter();
        (|| self.try_to_ensure(announcement))
            .retry(pauses)
            .when(|error| matches!(error, Error::Moving(_)))
            .notify(|error, _| tracing::info!(reason = %error, "looking again"))
            .await
    }

    async fn try_to_ensure(&self, announcement: &Announcement) -> Result<EnsuredThing, Error> {
        let Announcement { thing, thing_type, .. } = announcement;
        let existing = match self.client.describe_thing().thing_name(thing.as_str()).send().await {
            Ok(existing) => Some(existing),
            Err(error) if ErrorKind::of(&error) == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::of("describe a thing", error)),
        };
        // Without a usable type in the announcement, the thing keeps the one that it has.
        let present_type = existing.as_ref().and_then(|existing| existing.thing_type_name());
        let new_type = thing_type.as_ref().filter(|thing_type| present_type != Some(thing_type.as_str()));
        let (name, value) = PROTOCOL;
        let attribute = existing.as_ref().and_then(|existing| existing.attributes()?.get(name));
        if existing.is_some() && new_type.is_none() && attribute.is_some_and(|attribute| attribute == value) {
            return Ok(EnsuredThing { change: ThingChange::None, unusable_type: None });
        }
        // Only a new type is looked at: the present one stays, also when it is deprecated.
        let unusable_type = match new_type {
            Some(new_type) => self.ensure_type(new_type).await?,
            None => None,
        };
        let new_type = new_type.filter(|_| unusable_type.is_none()).map(|new_type| new_type.as_str().to_owned());
        let payload = AttributePayload::builder().attributes(name, value).merge(true).build();
        let change = if existing.is_some() {
            let update = self.client.update_thing().thing_name(thing.as_str());
            let update = update.set_thing_type_name(new_type).attribute_payload(payload);
            update.send().await.map_err(|error| Error::of_write("update a thing", error))?;
            ThingChange::Corrected
        } else {
            let create = self.client.create_thing().thing_name(thing.as_str());
            let create = create.set_thing_type_name(new_type).attribute_payload(payload);
            create.send().await.map_err(|error| Error::of_write("create a thing", error))?;
            ThingChange::Created
        };
        Ok(EnsuredThing { change, unusable_type })
    }

    /// Makes the type where it is missing. Returns the reason why things cannot have it, if any: a deprecated type takes none, and
    /// stays deprecated, because an operator wished so.
    async fn ensure_type(&self, thing_type: &ThingTypeName) -> Result<Option<UnusableType>, Error> {
        match self.client.describe_thing_type().thing_type_name(thing_type.as_str()).send().await {
            Ok(existing) => {
                let is_deprecated = existing.thing_type_metadata().is_some_and(|metadata| metadata.deprecated());
                return Ok(is_deprecated.then_some(UnusableType::Deprecated));
            }
            Err(error) => match ErrorKind::of(&error) {
                ErrorKind::NotFound => {}
                ErrorKind::InvalidRequest => return Ok(Some(UnusableType::Refused)),
                _ => return Err(Error::of("describe a thing type", error)),
            },
        }
        // Several callers that create a type at the same moment all succeed. A type that exists with a description is no
        // obstacle.
        match self.client.create_thing_type().thing_type_name(thing_type.as_str()).send().await {
            Ok(_) => tracing::info!("thing type created"),
            Err(error) => match ErrorKind::of(&error) {
                ErrorKind::Exists => {}
                ErrorKind::InvalidRequest => return Ok(Some(UnusableType::Refused)),
                _ => return Err(Error::of("create a thing type", error)),
            },
        }
        Ok(None)
    }
}
