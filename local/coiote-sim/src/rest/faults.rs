//! What a fault does to a call: an error in Coiote's form, a late answer, or none.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use tracing::warn;

use super::BASE;
use super::error::ApiError;
use super::tls::Peer;
use crate::faults::{Fault, Kind, OnRoute};
use crate::installation::Installation;

/// What a gateway answers that does not reach what stands behind it.
const PAGE: &str = "<html><head><title>503 Service Temporarily Unavailable</title></head></html>";
const DELAY: Duration = Duration::from_millis(300);

/// Before authentication, as a gateway in front of Coiote fails.
pub(super) async fn meet(
    State(installation): State<Arc<Installation>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().strip_prefix(BASE).filter(|path| path.starts_with('/'));
    let Some(fault) = path.and_then(|path| installation.meet_fault(request.method(), path)) else {
        return next.run(request).await;
    };
    warn!("REST call meets the fault {:?}: {} {}", fault.word(), request.method(), request.uri().path());
    let word = fault.word();
    let kind = match fault {
        Fault::OnRoute(OnRoute::Error(status)) => return error(status, word),
        Fault::OnRoute(OnRoute::Answer { status, body, retry_after }) => {
            let headers = retry_after.map(|seconds| [(RETRY_AFTER, seconds)]);
            return match headers {
                Some(headers) => (status, headers, Html(body)).into_response(),
                None => (status, Html(body)).into_response(),
            };
        }
        Fault::OnRoute(OnRoute::Kind(kind)) | Fault::ByChance(kind) => kind,
        Fault::BlackHole => Kind::Hang,
    };
    match kind {
        Kind::Throttled => ([(RETRY_AFTER, "1")], error(StatusCode::TOO_MANY_REQUESTS, word)).into_response(),
        Kind::Unavailable => error(StatusCode::SERVICE_UNAVAILABLE, word),
        Kind::Failed => error(StatusCode::INTERNAL_SERVER_ERROR, word),
        Kind::Reset => {
            peer.lifeline.cut();
            // Whatever stands here does not get out.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Kind::Lost => {
            let answer = next.run(request).await;
            peer.lifeline.cut();
            answer
        }
        Kind::Slow => {
            let answer = next.run(request).await;
            tokio::time::sleep(DELAY).await;
            answer
        }
        Kind::Gateway => (StatusCode::SERVICE_UNAVAILABLE, Html(PAGE)).into_response(),
        Kind::GatewayLost => {
            next.run(request).await;
            (StatusCode::SERVICE_UNAVAILABLE, Html(PAGE)).into_response()
        }
        Kind::Hang => {
            installation.faults_changed().await;
            peer.lifeline.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn error(status: StatusCode, word: &str) -> Response {
    ApiError::by_fault(status, format!("the fault {word:?} was asked for")).into_response()
}
