//! `POST /tasksFromTemplates/device/{deviceId}`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::body;
use super::error::ApiError;
use super::query::QueryParameters;
use crate::installation::{Installation, NewTask};
use crate::task::TaskSettings;
use crate::template::Parameter;

/// Body of the call. Further fields that Coiote's official client sends are taken and make no difference.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateTaskBody {
    template_name: String,
    config: TaskConfigBody,
    #[serde(default, rename = "callback")]
    _callback: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TaskConfigBody {
    parameters: Vec<ParameterBody>,
    task_name: Option<String>,
    #[serde(default, rename = "isActive")]
    _is_active: IgnoredAny,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterBody {
    name: String,
    value: String,
}

pub(super) async fn create(
    State(installation): State<Arc<Installation>>,
    device_id: Result<Path<String>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<String>), ApiError> {
    let Path(device_id) = device_id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let reruns = QueryParameters::from_query(query)?.flag("rerunIfExists")?.unwrap_or(true);
    let body: CreateTaskBody = serde_json::from_slice(&body::json(&headers, body)?)
        .map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))?;
    let config = body.config;
    let parameters =
        config.parameters.into_iter().map(|given| Parameter { name: given.name, value: given.value }).collect();
    let settings = TaskSettings { task_name: config.task_name, properties: config.properties.unwrap_or_default() };
    let mut new = NewTask::new(&body.template_name, parameters);
    new.settings = settings;
    new.reruns = reruns;
    let task_id = installation.schedule(&device_id, new)?;
    Ok((StatusCode::CREATED, Json(task_id)))
}
