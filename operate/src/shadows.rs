//! Reads and writes of a thing's shadows, with the rights of the person who runs the command.

use std::error::Error;

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::config::retry::RetryConfig;
use aws_sdk_iotdataplane::error::SdkError;
use aws_sdk_iotdataplane::primitives::Blob;
use serde_json::{Map, Value as Json, json};
use shadow::ThingName;

use crate::exit::{Failure, could_not, missing_credentials, summary};

pub(crate) const OPERATION: &str = "operation";
pub(crate) const DATAMODEL: &str = "datamodel";

/// Reads the document of a shadow; `None` where there is no shadow. The classic shadow has no name.
pub(crate) async fn document(client: &Client, thing: &ThingName, name: Option<&str>) -> Result<Option<Json>, Failure> {
    let got =
        client.get_thing_shadow().thing_name(thing.as_str()).set_shadow_name(name.map(str::to_owned)).send().await;
    let shadow = name.unwrap_or("classic");
    match got {
        Ok(output) => {
            let unreadable = |error| Failure::new(format!("the {shadow} shadow of {thing} cannot be read: {error}"));
            serde_json::from_slice(&bytes(output.payload)).map(Some).map_err(unreadable)
        }
        Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(None),
        Err(error) => Err(could_not(&format!("read the {shadow} shadow of {thing}"))(error)),
    }
}

/// Reads `state.reported` of a shadow; `null` where there is nothing.
pub(crate) async fn reported(client: &Client, thing: &ThingName, name: Option<&str>) -> Result<Json, Failure> {
    let document = document(client, thing, name).await?;
    Ok(document.and_then(|mut document| document.pointer_mut("/state/reported").map(Json::take)).unwrap_or_default())
}

/// Reads the answers in the operation shadow, by the names of their requests.
pub(crate) async fn answers(client: &Client, thing: &ThingName) -> Result<Map<String, Json>, Failure> {
    let mut reported = reported(client, thing, Some(OPERATION)).await?;
    match reported.get_mut("requests").map(Json::take) {
        Some(Json::Object(answers)) => Ok(answers),
        _ => Ok(Map::new()),
    }
}

/// Writes a request; returns the version of the shadow that carries it, which is its name.
///
/// In one attempt: the second of two whose first one's answer was lost would be another request.
pub(crate) async fn make_request(
    client: &Client,
    thing: &ThingName,
    desired: &Json,
    client_token: &str,
) -> Result<u64, Failure> {
    let document = json!({"state": {"desired": desired}, "clientToken": client_token});
    let once = aws_sdk_iotdataplane::Config::builder().retry_config(RetryConfig::disabled());
    let update = client.update_thing_shadow().thing_name(thing.as_str()).shadow_name(OPERATION);
    let updated = update.payload(Blob::new(document.to_string())).customize().config_override(once).send().await;
    let accepted = match updated {
        Ok(output) => bytes(output.payload),
        Err(error) if was_not_sent(&error) => {
            return Err(could_not(&format!("write the operation shadow of {thing}"))(error));
        }
        Err(error) => {
            let why = summary(&error);
            let message = format!(
                "it is not known whether the request was made: {why}; lwm2m requests {thing} shows it with the client token \
                 {client_token} if it was"
            );
            let made = Map::from_iter([
                ("thing".to_owned(), json!(thing.as_str())),
                ("clientToken".to_owned(), json!(client_token)),
            ]);
            return Err(Failure::new(message).of_request(made));
        }
    };
    let version = serde_json::from_slice::<Json>(&accepted).ok().and_then(|accepted| accepted.get("version")?.as_u64());
    version.ok_or_else(|| Failure::new("AWS IoT did not say which version of the shadow carries the request"))
}

/// Whether a request was certainly not made: AWS refused it, or it could not be signed.
fn was_not_sent<E: Error + 'static>(error: &SdkError<E>) -> bool {
    matches!(error, SdkError::ServiceError(_) | SdkError::ConstructionFailure(_))
        || missing_credentials(error).is_some()
}

fn bytes(payload: Option<Blob>) -> Vec<u8> {
    payload.map(Blob::into_inner).unwrap_or_default()
}
