//! `GET /devices` and `GET /devices/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde_json::Value;
use tracing::info;

use super::error::ApiError;
use crate::installation::Installation;

type Pairs = Vec<(String, String)>;

pub(super) async fn find(
    State(installation): State<Arc<Installation>>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Json<Vec<String>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let mut criteria = query.iter().filter(|(name, _)| name == "searchCriteria");
    let endpoint = match (criteria.next(), criteria.next()) {
        (None, _) => None,
        (Some((_, text)), None) => Some(wanted_endpoint(text)?),
        (Some(_), Some(_)) => return Err(ApiError::bad_request("searchCriteria is given twice")),
    };
    let ids = installation.device_ids(endpoint);
    info!("{}: looked up, {} device(s) found", endpoint.unwrap_or("all devices"), ids.len());
    Ok(Json(ids))
}

/// The one criterion that is understood: `properties.endpointName eq '<name>'`.
fn wanted_endpoint(criteria: &str) -> Result<&str, ApiError> {
    criteria
        .strip_prefix("properties.endpointName eq '")
        .and_then(|rest| rest.strip_suffix('\''))
        .filter(|name| !name.contains('\''))
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "searchCriteria {criteria:?}: properties.endpointName eq '<name>' is expected"
            ))
        })
}

pub(super) async fn describe(
    State(installation): State<Arc<Installation>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(Json(installation.description(&id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_criterion_only() {
        for (text, endpoint) in [
            ("properties.endpointName eq 'urn:dev:1'", Some("urn:dev:1")),
            ("properties.endpointName eq ''", Some("")),
            ("properties.endpointName eq urn", None),
            ("properties.endpointName  eq 'urn'", None),
            ("properties.endpointName eq 'a' or id eq 'b'", None),
            ("properties.endpointName eq '", None),
            ("id eq 'a'", None),
            ("", None),
        ] {
            assert_eq!(wanted_endpoint(text).ok(), endpoint, "{text}");
        }
    }
}
