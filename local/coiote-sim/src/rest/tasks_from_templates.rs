//! `POST /tasksFromTemplates/device/{deviceId}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::body;
use super::error::ApiError;
use crate::installation::Installation;
use crate::template::Parameter;

/// What Coiote's official client sends beside name and parameters is taken, and makes no difference here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    template_name: String,
    config: Config,
    #[serde(default, rename = "callback")]
    _callback: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    parameters: Vec<BodyParameter>,
    #[serde(default, rename = "taskName")]
    _task_name: IgnoredAny,
    #[serde(default, rename = "isActive")]
    _is_active: IgnoredAny,
    #[serde(default, rename = "properties")]
    _properties: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyParameter {
    name: String,
    value: String,
}

pub(super) async fn create(
    State(installation): State<Arc<Installation>>,
    device_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<String>), ApiError> {
    let Path(device_id) = device_id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let body: Body = serde_json::from_slice(&body::json(&headers, body)?)
        .map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))?;
    let parameters =
        body.config.parameters.into_iter().map(|given| Parameter { name: given.name, value: given.value }).collect();
    let task_id = installation.schedule(&device_id, &body.template_name, parameters)?;
    Ok((StatusCode::CREATED, Json(task_id)))
}
