//! `GET /taskReports/{taskId}/{deviceId}` and `GET /taskReports/findSince`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde_json::Value;

use super::error::ApiError;
use super::query::QueryParameters;
use crate::clock;
use crate::installation::{Installation, WantedReports};

/// Largest number of reports in one response.
const MOST: usize = 512;

pub(super) async fn read(
    State(installation): State<Arc<Installation>>,
    ids: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((task_id, device_id)) = ids.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.report(&task_id, &device_id)?))
}

/// Finds reports by their last update. `directTasksOnly` makes no difference: all tasks here are given to a device directly.
pub(super) async fn find_since(
    State(installation): State<Arc<Installation>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let query = QueryParameters::from_query(query)?;
    query.flag("directTasksOnly")?;
    let since =
        query.at_most_one("lastUpdateTime")?.ok_or_else(|| ApiError::bad_request("lastUpdateTime is missing"))?;
    let since = clock::parse(since).ok_or_else(|| {
        ApiError::bad_request(format!("lastUpdateTime: {since:?}: a time such as 2026-11-22T18:00:00Z is expected"))
    })?;
    let limit = match query.at_most_one("limit")? {
        None => MOST,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MOST).contains(limit))
            .ok_or_else(|| ApiError::bad_request(format!("limit: {text:?} is not a number from 1 to {MOST}")))?,
    };
    let wanted = WantedReports {
        since,
        limit,
        task_id: query.at_most_one("taskId")?,
        device_id: query.at_most_one("deviceId")?,
    };
    Ok(Json(installation.reports_since(&wanted)))
}
