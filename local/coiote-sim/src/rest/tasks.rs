//! `GET /tasks`, `GET /tasks/{taskId}` and `DELETE /tasks/{taskId}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::error::ApiError;
use super::query::QueryParameters;
use crate::installation::Installation;

const TASK_NAME: &str = "taskName";

/// Finds the ids of all tasks, or of those with a name.
pub(super) async fn find(
    State(installation): State<Arc<Installation>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Vec<String>>, ApiError> {
    let query = QueryParameters::from_query(query)?;
    let name = query.search_criterion(TASK_NAME)?;
    Ok(Json(installation.task_ids(name)))
}

pub(super) async fn describe(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.task(&id)?))
}

/// Removes a task. If it has not run, it never will.
pub(super) async fn remove(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    installation.remove_task(&id)?;
    Ok(StatusCode::NO_CONTENT)
}
