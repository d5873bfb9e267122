//! Handles an announcement: makes the thing, its type and its operation shadow.

use std::time::Instant;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{diagnostic, elapsed_ms};
use serde::Serialize;
use serde_json::value::RawValue;
use shadow::operation_shadow::OperationShadows;
use tracing::Instrument;

use crate::announcement::{Announcement, Remark, ThingTypeName};
use crate::registry::{Registry, ThingChange, UnusableType};

/// State of the execution environment, across invocations.
pub(crate) struct Service {
    registry: Registry,
    shadows: OperationShadows,
}

/// Summary of an announcement, which the function returns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    thing_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_type: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

impl Service {
    pub(crate) fn new(registry: Registry, shadows: OperationShadows) -> Service {
        Service { registry, shadows }
    }

    /// Handles an announcement. Every failure is an error of the function: Lambda tries again, and the event ends in the failure
    /// queue.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Summary, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let begun = Instant::now();
        let span = tracing::error_span!(
            "announcement",
            request_id = context.request_id,
            trace_id = lambda_support::trace_id(&context),
            thing = tracing::field::Empty,
            thing_type = tracing::field::Empty,
        );
        let summary = self.announcement(&payload, begun).instrument(span.clone()).await;
        if let Err(Diagnostic { error_type: code, error_message: reason }) = &summary {
            let duration_ms = elapsed_ms(begun);
            span.in_scope(|| tracing::error!(status = "FAILED", code, reason, duration_ms, "no thing was made"));
            metrics::counter!("Failures", "code" => code.clone()).increment(1);
        }
        summary
    }

    async fn announcement(&self, event: &RawValue, begun: Instant) -> Result<Summary, Diagnostic> {
        let announcement =
            Announcement::parse(event).map_err(|invalid| diagnostic(invalid.code(), invalid.to_string()))?;
        let span = tracing::Span::current();
        span.record("thing", announcement.thing.as_str());
        if let Some(thing_type) = &announcement.thing_type {
            span.record("thing_type", thing_type.as_str());
        }

        let ensured = self.registry.ensure(&announcement).await;
        let thing = ensured.map_err(|error| diagnostic(error.code(), error.to_string()))?;
        let shadow_created = self
            .shadows
            .ensure(&announcement.thing)
            .await
            .map_err(|error| diagnostic("OPERATION_SHADOW_NOT_CREATED", error.to_string()))?;
        let (status, duration_ms) = (thing.change.as_str(), elapsed_ms(begun));
        if thing.change == ThingChange::Created {
            metrics::counter!("ThingsCreated").increment(1);
        }
        let remark = remark(&announcement, thing.unusable_type);
        let code = remark.as_ref().map(|remark| remark.code);
        if let Some(Remark { code, reason }) = &remark {
            tracing::warn!(
                status,
                code,
                reason,
                shadow_created,
                duration_ms,
                "the thing is there, its type is not as announced"
            );
        } else {
            tracing::info!(status, shadow_created, duration_ms, "the thing is there");
        }
        if thing.unusable_type == Some(UnusableType::Deprecated) {
            metrics::counter!("ThingTypeDeprecated").increment(1);
        }
        let thing_type = announcement.thing_type.filter(|_| thing.unusable_type.is_none());
        Ok(Summary {
            thing_name: announcement.thing.to_string(),
            thing_type: thing_type.as_ref().map(ThingTypeName::to_string),
            status,
            code,
        })
    }
}

/// Remark on the thing's type: about AWS IoT's objection, or else about the announcement.
fn remark(announcement: &Announcement, unusable_type: Option<UnusableType>) -> Option<Remark> {
    match (unusable_type, &announcement.thing_type) {
        (Some(UnusableType::Deprecated), _) => Some(Remark {
            code: "THING_TYPE_DEPRECATED",
            reason: "the thing type is deprecated and takes no new things: undo the deprecation, then announce the device again"
                .to_owned(),
        }),
        (Some(UnusableType::Refused), Some(thing_type)) => {
            Some(Remark::invalid(format!("AWS IoT refuses the thing type's name {thing_type}")))
        }
        _ => announcement.remark.clone(),
    }
}
