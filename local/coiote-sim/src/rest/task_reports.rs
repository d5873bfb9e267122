//! `GET /taskReports/{taskId}/{deviceId}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::Value;

use super::error::ApiError;
use crate::installation::Installation;

pub(super) async fn read(
    State(installation): State<Arc<Installation>>,
    ids: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((task_id, device_id)) = ids.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.report(&task_id, &device_id)?))
}
