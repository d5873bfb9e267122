//! The two calls on a named shadow, with their errors told apart by what helps against them.

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::config::http::HttpResponse;
use aws_sdk_iotdataplane::config::retry::RetryConfig;
use aws_sdk_iotdataplane::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iotdataplane::operation::update_thing_shadow::UpdateThingShadowOutput;
use aws_sdk_iotdataplane::operation::update_thing_shadow::builders::UpdateThingShadowFluentBuilder;
use aws_sdk_iotdataplane::primitives::Blob;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::thing::ThingName;

#[derive(Debug, Clone)]
pub struct Shadows {
    client: Client,
}

/// What GetThingShadow answers, as far as it is of use: `M` is what is wanted of the metadata, which are larger than the
/// state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Document<M: Default = State> {
    pub state: State,
    pub metadata: M,
    pub version: u64,
}

/// What UpdateThingShadow answers, as far as it is of use here: what was written is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Updated {
    pub(crate) version: u64,
    /// When, in seconds since 1970; the metadata of what was written have the same time.
    #[serde(default)]
    pub(crate) timestamp: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct State {
    #[serde(default)]
    pub desired: Json,
    #[serde(default)]
    pub reported: Json,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shadow has moved on from the version that the update was meant for.
    #[error("the shadow changes too often")]
    Conflict,
    /// The update would make the document larger than AWS IoT takes (8 KB by default).
    #[error("the shadow would exceed the size that AWS IoT takes")]
    TooLarge,
    /// AWS IoT does not take the call itself: made again, it would be refused again.
    #[error("AWS IoT refused the call: {0}")]
    Refused(String),
    /// Throttled, failed, or not reached.
    #[error("AWS IoT could not be asked: {0}")]
    Unavailable(String),
}

impl Shadows {
    pub fn new(client: Client) -> Shadows {
        Shadows { client }
    }

    /// Nothing where there is no such shadow.
    pub(crate) async fn get<M>(&self, thing: &ThingName, shadow: &str) -> Result<Option<Document<M>>, Error>
    where
        M: Default + DeserializeOwned,
    {
        match self.client.get_thing_shadow().thing_name(thing.as_str()).shadow_name(shadow).send().await {
            Ok(output) => {
                let document = output.payload.map(Blob::into_inner).unwrap_or_default();
                serde_json::from_slice(&document).map(Some).map_err(|error| Error::Unavailable(error.to_string()))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Merges `state` in, if the shadow is still at `version` where one is given; the version and the time of that.
    pub(crate) async fn update(
        &self,
        thing: &ThingName,
        shadow: &str,
        state: Json,
        version: Option<u64>,
    ) -> Result<Updated, Error> {
        updated(self.to_update(thing, shadow, state, version).send().await?)
    }

    /// As [`Shadows::update`], in one attempt: so a conflict is not with a write of our own whose answer was lost.
    pub(crate) async fn update_once(
        &self,
        thing: &ThingName,
        shadow: &str,
        state: Json,
        version: u64,
    ) -> Result<Updated, Error> {
        let once = aws_sdk_iotdataplane::Config::builder().retry_config(RetryConfig::disabled());
        let update = self.to_update(thing, shadow, state, Some(version));
        updated(update.customize().config_override(once).send().await?)
    }

    fn to_update(
        &self,
        thing: &ThingName,
        shadow: &str,
        state: Json,
        version: Option<u64>,
    ) -> UpdateThingShadowFluentBuilder {
        let mut document = json!({ "state": state });
        if let (Some(version), Some(document)) = (version, document.as_object_mut()) {
            document.insert("version".to_owned(), version.into());
        }
        let payload = Blob::new(document.to_string());
        self.client.update_thing_shadow().thing_name(thing.as_str()).shadow_name(shadow).payload(payload)
    }
}

fn updated(output: UpdateThingShadowOutput) -> Result<Updated, Error> {
    let answer = output.payload.map(Blob::into_inner).unwrap_or_default();
    serde_json::from_slice(&answer).map_err(|error| Error::Unavailable(error.to_string()))
}

impl<E> From<SdkError<E, HttpResponse>> for Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Error {
        let summary = lambda_support::aws::error_summary(&error);
        match status(&error) {
            Some(409) => Error::Conflict,
            Some(413) => Error::TooLarge,
            // 401 and 403 as well: what the role may not do, it may not do in a minute either.
            Some(429) => Error::Unavailable(summary),
            Some(400..500) => Error::Refused(summary),
            _ => Error::Unavailable(summary),
        }
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
