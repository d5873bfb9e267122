//! The part of Coiote's REST API v3 that the integration uses (docs/coiote-api.md).

mod auth;
mod body;
mod certificates;
mod connection;
mod devices;
mod error;
mod fault_injection;
mod query;
mod sessions;
mod task_reports;
mod tasks;
mod tasks_from_templates;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

pub(crate) use tls::TlsListener;

use error::ApiError;

use crate::credentials::Credentials;
use crate::installation::Installation;

const BASE: &str = "/api/coiotedm/v3";

/// Serves the REST API until the future is dropped.
pub(crate) async fn serve(
    listener: TlsListener,
    installation: Arc<Installation>,
    credentials: Option<Arc<Credentials>>,
) -> std::io::Result<()> {
    let service = router(installation, credentials).into_make_service_with_connect_info::<tls::Peer>();
    axum::serve(listener, service).await
}

fn router(installation: Arc<Installation>, credentials: Option<Arc<Credentials>>) -> Router {
    let with_certificate = Router::new()
        .route("/devices", get(devices::find))
        .route("/devices/{id}", get(devices::describe))
        .route("/tasksFromTemplates/device/{deviceId}", post(tasks_from_templates::create))
        .route("/sessions/{deviceId}/allow-deregistered", post(sessions::start))
        .route("/tasks", get(tasks::find))
        .route("/tasks/{taskId}", get(tasks::describe).delete(tasks::remove))
        .route("/taskReports/findSince", get(task_reports::find_since))
        .route("/taskReports/{taskId}/{deviceId}", get(task_reports::read))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(middleware::from_fn_with_state(installation.clone(), auth::by_certificate));
    let with_password = Router::new()
        .route("/auth/certificates", post(certificates::register).delete(certificates::unregister))
        .route(
            "/awsIntegration/auth/externalCertificate",
            post(certificates::set_external).delete(certificates::remove_external),
        )
        .method_not_allowed_fallback(wrong_method)
        .route_layer(middleware::from_fn_with_state(credentials, auth::by_password));
    Router::new()
        .nest(BASE, with_certificate.merge(with_password))
        .fallback(no_such_resource)
        .layer(middleware::from_fn_with_state(installation.clone(), fault_injection::inject))
        .layer(middleware::from_fn_with_state(installation.clone(), count))
        .with_state(installation)
}

async fn no_such_resource(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such resource: {method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!("{method} is not allowed on {}", uri.path()))
}

/// Counts calls by route, including those that are refused or meet a fault afterwards.
async fn count(State(installation): State<Arc<Installation>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("(no such resource)", MatchedPath::as_str);
    installation.count_request(format!("{} {}", request.method(), route.strip_prefix(BASE).unwrap_or(route)));
    // A guard, since the client may hang up meanwhile.
    let _in_flight = InFlight::new(installation);
    next.run(request).await
}

/// Guard that counts a call as not answered.
struct InFlight(Arc<Installation>);

impl InFlight {
    fn new(installation: Arc<Installation>) -> Self {
        installation.begin_call();
        Self(installation)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end_call();
    }
}
