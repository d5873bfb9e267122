//! Injection of faults into calls: an error in Coiote's form, a late response, or none.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use tracing::warn;

use super::BASE;
use super::error::ApiError;
use super::tls::Peer;
use crate::faults::{Fault, FaultKind, RouteFault};
use crate::installation::Installation;

/// Page of a gateway that cannot reach Coiote.
const PAGE: &str = "<html><head><title>503 Service Temporarily Unavailable</title></head></html>";

/// Injects the fault that a call meets, if any. Runs before authentication, where a gateway in front of Coiote fails.
pub(super) async fn inject(
    State(installation): State<Arc<Installation>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().strip_prefix(BASE).filter(|path| path.starts_with('/'));
    let Some(fault) = path.and_then(|path| installation.fault_for_call(request.method(), path)) else {
        return next.run(request).await;
    };
    warn!("REST call meets the fault {:?}: {} {}", fault.name(), request.method(), request.uri().path());
    let word = fault.name();
    let kind = match fault {
        Fault::OnRoute(RouteFault::Error(status)) => return error(status, word),
        Fault::OnRoute(RouteFault::Response { status, body, retry_after }) => {
            let headers = retry_after.map(|seconds| [(RETRY_AFTER, seconds)]);
            return match headers {
                Some(headers) => (status, headers, Html(body)).into_response(),
                None => (status, Html(body)).into_response(),
            };
        }
        Fault::OnRoute(RouteFault::Kind(kind)) | Fault::ByChance(kind) => kind,
        Fault::BlackHole => FaultKind::Hang,
    };
    match kind {
        FaultKind::Throttled => ([(RETRY_AFTER, "1")], error(StatusCode::TOO_MANY_REQUESTS, word)).into_response(),
        FaultKind::Unavailable => error(StatusCode::SERVICE_UNAVAILABLE, word),
        FaultKind::Failed => error(StatusCode::INTERNAL_SERVER_ERROR, word),
        FaultKind::Reset => {
            peer.lifeline.cut();
            // The connection is cut, so this response is never sent.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        FaultKind::Lost => {
            let answer = next.run(request).await;
            peer.lifeline.cut();
            answer
        }
        FaultKind::Slow => {
            let answer = next.run(request).await;
            tokio::time::sleep(installation.slow_by()).await;
            answer
        }
        FaultKind::Gateway => (StatusCode::SERVICE_UNAVAILABLE, Html(PAGE)).into_response(),
        FaultKind::GatewayLost => {
            next.run(request).await;
            (StatusCode::SERVICE_UNAVAILABLE, Html(PAGE)).into_response()
        }
        FaultKind::Hang => {
            installation.faults_changed().await;
            peer.lifeline.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn error(status: StatusCode, word: &str) -> Response {
    ApiError::by_fault(status, format!("the fault {word:?} was asked for")).into_response()
}
