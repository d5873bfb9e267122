//! `GET /tasks`, `GET /tasks/{taskId}` and `DELETE /tasks/{taskId}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::error::ApiError;
use super::query::Pairs;
use crate::installation::Installation;

pub(super) async fn find(
    State(installation): State<Arc<Installation>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Vec<String>>, ApiError> {
    let query = Pairs::of(query)?;
    let name = query.one("searchCriteria")?.map(wanted_name).transpose()?;
    Ok(Json(installation.task_ids(name)))
}

/// The one criterion that is understood: `taskName eq '<name>'`.
fn wanted_name(criteria: &str) -> Result<&str, ApiError> {
    criteria
        .strip_prefix("taskName eq '")
        .and_then(|rest| rest.strip_suffix('\''))
        .filter(|name| !name.contains('\''))
        .ok_or_else(|| ApiError::bad_request(format!("searchCriteria {criteria:?}: taskName eq '<name>' is expected")))
}

pub(super) async fn describe(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.task(&id)?))
}

/// One that no device has run is never run any more.
pub(super) async fn remove(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    installation.remove_task(&id)?;
    Ok(StatusCode::NO_CONTENT)
}
