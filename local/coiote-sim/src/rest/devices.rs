//! `GET /devices` and `GET /devices/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde_json::Value;
use tracing::info;

use super::error::ApiError;
use super::query::QueryParameters;
use crate::installation::Installation;

const ENDPOINT_NAME: &str = "properties.endpointName";

/// Finds the ids of all devices, or of the one with an endpoint name.
pub(super) async fn find(
    State(installation): State<Arc<Installation>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Vec<String>>, ApiError> {
    let query = QueryParameters::from_query(query)?;
    let endpoint = query.search_criterion(ENDPOINT_NAME)?;
    let ids = installation.device_ids(endpoint);
    info!("{}: looked up, {} device(s) found", endpoint.unwrap_or("all devices"), ids.len());
    Ok(Json(ids))
}

pub(super) async fn describe(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.description(&id)?))
}
