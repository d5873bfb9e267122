//! What a fault does to a call: an error in Coiote's form, a late answer, or none.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::warn;

use super::BASE;
use super::error::ApiError;
use super::tls::Peer;
use crate::faults::{Fault, Kind};
use crate::installation::Installation;

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
    match fault {
        Fault::OnRoute(status) => error(status, fault),
        Fault::ByChance(Kind::Throttled) => {
            ([(RETRY_AFTER, "1")], error(StatusCode::TOO_MANY_REQUESTS, fault)).into_response()
        }
        Fault::ByChance(Kind::Unavailable) => error(StatusCode::SERVICE_UNAVAILABLE, fault),
        Fault::ByChance(Kind::Failed) => error(StatusCode::INTERNAL_SERVER_ERROR, fault),
        Fault::ByChance(Kind::Reset) => {
            peer.lifeline.cut();
            // Whatever stands here does not get out.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Fault::ByChance(Kind::Lost) => {
            let answer = next.run(request).await;
            peer.lifeline.cut();
            answer
        }
        Fault::ByChance(Kind::Slow) => {
            let answer = next.run(request).await;
            tokio::time::sleep(DELAY).await;
            answer
        }
    }
}

fn error(status: StatusCode, fault: Fault) -> Response {
    ApiError::by_fault(status, format!("the fault {:?} was asked for", fault.word())).into_response()
}
