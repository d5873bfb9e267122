//! The AWS IoT calls GetThingShadow and UpdateThingShadow, with errors by their remedy.

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

/// Client for named shadows.
#[derive(Debug, Clone)]
pub struct Shadows {
    client: Client,
}

/// A shadow document. `M` is the needed part of the metadata, which are larger than the state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Document<M: Default = ShadowState> {
    /// The state.
    pub state: ShadowState,
    /// The needed part of the metadata.
    pub metadata: M,
    /// Version of the shadow.
    pub version: u64,
}

/// The needed part of UpdateThingShadow's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Written {
    pub(crate) version: u64,
    /// Time of the update in seconds since 1970, which the metadata have for the written values, too.
    #[serde(default)]
    pub(crate) timestamp: Option<u64>,
}

/// Reported state of a shadow document, or the part of the metadata of the same form. The desired state is not needed.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ShadowState {
    /// State that was reported.
    #[serde(default)]
    pub reported: Json,
}

/// Error of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shadow has another version than the update requires.
    #[error("the shadow changes too often")]
    Conflict,
    /// The document would exceed the size limit of AWS IoT (8 KB by default).
    #[error("the shadow would exceed the size that AWS IoT takes")]
    TooLarge,
    /// AWS IoT refused the call. A retry would be refused, too.
    #[error("AWS IoT refused the call: {0}")]
    Refused(String),
    /// AWS IoT throttled the call, failed, or could not be reached. A retry may succeed.
    #[error("AWS IoT could not be asked: {0}")]
    Unavailable(String),
}

impl Shadows {
    /// Shadows by a client of AWS IoT's data plane.
    pub fn new(client: Client) -> Shadows {
        Shadows { client }
    }

    /// Reads a shadow; `None` where there is none.
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

    /// Merges `state` into the shadow. With a version, on the condition that the shadow still has it.
    pub(crate) async fn update(
        &self,
        thing: &ThingName,
        shadow: &str,
        state: Json,
        version: Option<u64>,
    ) -> Result<Written, Error> {
        written(self.to_update(thing, shadow, state, version).send().await?)
    }

    /// As [`Shadows::update`], without retries. So a conflict cannot be with an own write whose answer was lost.
    pub(crate) async fn update_once(
        &self,
        thing: &ThingName,
        shadow: &str,
        state: Json,
        version: u64,
    ) -> Result<Written, Error> {
        let once = aws_sdk_iotdataplane::Config::builder().retry_config(RetryConfig::disabled());
        let update = self.to_update(thing, shadow, state, Some(version));
        written(update.customize().config_override(once).send().await?)
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

fn written(output: UpdateThingShadowOutput) -> Result<Written, Error> {
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
            // 401 and 403: it is not the update that is wrong, but the function's permissions
            Some(401 | 403 | 408 | 429) => Error::Unavailable(summary),
            Some(400..500) => Error::Refused(summary),
            _ => Error::Unavailable(summary),
        }
    }
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
