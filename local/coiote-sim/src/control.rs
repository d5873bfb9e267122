//! The control API: plain HTTP on loopback, with which tests and the demo steer devices and look inside.
//!
//! It is no part of Coiote, and has no authentication.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::cli::NewDevice;
use crate::device::DeviceState;
use crate::faults::Faults;
use crate::installation::{Installation, Refusal, Stats};
use crate::pem;

pub(crate) async fn serve(listener: TcpListener, installation: Arc<Installation>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/devices", get(devices).post(add_device))
        .route("/devices/{endpoint}", delete(remove_device))
        .route("/devices/{endpoint}/datamodel", get(data_model))
        .route("/devices/{endpoint}/state", post(set_state))
        .route("/devices/{endpoint}/announce", post(announce))
        .route("/devices/{endpoint}/send", post(send))
        .route("/devices/{endpoint}/values", put(set_values))
        .route("/devices/{endpoint}/drift", post(set_drift))
        .route("/devices/{endpoint}/refusals", put(set_refusals))
        .route("/integration", get(integration))
        .route("/tasks", get(tasks))
        .route("/runs", get(runs))
        .route("/client-certs", put(register_client_certificates))
        .route("/templates", get(templates))
        .route("/templates/{name}", put(add_template).delete(remove_template))
        .route("/faults", put(set_faults))
        .route("/stats", get(stats))
        .route("/health", get(health))
        .with_state(installation);
    axum::serve(listener, routes).await
}

struct ControlError(StatusCode, String);

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"message": self.1}))).into_response()
    }
}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::UnknownDevice(_)
            | Refusal::UnknownTemplate(_)
            | Refusal::UnknownTask(_)
            | Refusal::NoReport(_)
            | Refusal::UnknownCertificate(_) => StatusCode::NOT_FOUND,
            Refusal::Parameters(_) | Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
            Refusal::DeviceExists(_) => StatusCode::CONFLICT,
        };
        Self(status, refusal.to_string())
    }
}

impl From<JsonRejection> for ControlError {
    fn from(rejection: JsonRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

type ControlResult<T> = Result<Json<T>, ControlError>;
type JsonBody<T> = Result<Json<T>, JsonRejection>;

async fn devices(State(installation): State<Arc<Installation>>) -> Json<Vec<Value>> {
    Json(installation.device_views())
}

async fn add_device(
    State(installation): State<Arc<Installation>>,
    body: JsonBody<NewDevice>,
) -> Result<(StatusCode, Json<Value>), ControlError> {
    Ok((StatusCode::CREATED, Json(installation.add_device(body?.0)?)))
}

async fn remove_device(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
) -> Result<StatusCode, ControlError> {
    installation.remove_device(&endpoint)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn data_model(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
) -> ControlResult<Map<String, Value>> {
    Ok(Json(installation.data_model(&endpoint)?))
}

#[derive(Deserialize)]
struct NewState {
    state: DeviceState,
}

async fn set_state(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
    body: JsonBody<NewState>,
) -> ControlResult<Value> {
    let device = installation.set_state(&endpoint, body?.0.state)?;
    // A device that comes back runs its scheduled tasks.
    tokio::spawn(async move { installation.run_scheduled(&endpoint) });
    Ok(Json(device))
}

async fn announce(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
) -> Result<StatusCode, ControlError> {
    installation.announce(&endpoint)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paths {
    paths: Vec<String>,
}

/// Has a device send values, and returns them.
async fn send(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
    body: JsonBody<Paths>,
) -> ControlResult<Map<String, Value>> {
    Ok(Json(installation.send(&endpoint, &body?.0.paths)?))
}

async fn set_values(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
    body: JsonBody<BTreeMap<String, Value>>,
) -> Result<StatusCode, ControlError> {
    let texts = body?.0.into_iter().map(|(path, value)| match value {
        Value::String(text) => Ok((path, text)),
        Value::Number(_) | Value::Bool(_) => Ok((path, value.to_string())),
        _ => Err(Refusal::Invalid(format!("{path:?}: a string is expected, or a number or boolean"))),
    });
    installation.set_values(&endpoint, &texts.collect::<Result<_, _>>()?)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DriftSettings {
    /// Interval; 0 ends the drift.
    seconds: f64,
}

async fn set_drift(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
    body: JsonBody<DriftSettings>,
) -> Result<StatusCode, ControlError> {
    installation.set_drift(&endpoint, body?.0.seconds)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_refusals(
    State(installation): State<Arc<Installation>>,
    Path(endpoint): Path<String>,
    body: JsonBody<BTreeMap<String, String>>,
) -> Result<StatusCode, ControlError> {
    installation.set_refusals(&endpoint, &body?.0)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn integration(State(installation): State<Arc<Installation>>) -> Json<Value> {
    Json(installation.integration())
}

async fn tasks(
    State(installation): State<Arc<Installation>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> ControlResult<Value> {
    let tasks = installation.tasks(query.get("device").map(String::as_str));
    tasks.map(Json).map_err(|error| ControlError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn runs(
    State(installation): State<Arc<Installation>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Vec<Value>> {
    let wanted = |name| query.get(name).map(String::as_str);
    Json(installation.runs(wanted("device"), wanted("task")))
}

#[derive(Deserialize)]
struct ClientCertificates {
    pem: Vec<String>,
}

async fn register_client_certificates(
    State(installation): State<Arc<Installation>>,
    body: JsonBody<ClientCertificates>,
) -> ControlResult<Value> {
    let certificates = body?.0.pem.iter().map(|text| pem::certificate_in(text)).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| ControlError(StatusCode::BAD_REQUEST, error.to_string()))?;
    let registered = certificates.len();
    installation.register_client_certificates(certificates);
    Ok(Json(json!({"registered": registered})))
}

async fn templates(State(installation): State<Arc<Installation>>) -> Json<Vec<String>> {
    Json(installation.templates())
}

async fn add_template(
    State(installation): State<Arc<Installation>>,
    Path(name): Path<String>,
) -> Result<StatusCode, ControlError> {
    installation.add_template(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_template(
    State(installation): State<Arc<Installation>>,
    Path(name): Path<String>,
) -> Result<StatusCode, ControlError> {
    installation.remove_template(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_faults(
    State(installation): State<Arc<Installation>>,
    body: JsonBody<Faults>,
) -> Result<StatusCode, ControlError> {
    installation.set_faults(body?.0);
    Ok(StatusCode::NO_CONTENT)
}

async fn stats(State(installation): State<Arc<Installation>>) -> Json<Stats> {
    Json(installation.stats())
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}
