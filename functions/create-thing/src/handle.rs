//! From the announcement to the thing.

use std::time::Instant;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{diagnostic, elapsed_ms};
use serde::Serialize;
use serde_json::value::RawValue;
use shadow::operation_shadow::OperationShadows;
use tracing::Instrument;

use crate::announcement::{Announcement, Remark, ThingTypeName};
use crate::registry::{self, Registry, Untaken};

/// Everything that outlives an invocation.
pub(crate) struct Service {
    registry: Registry,
    shadows: OperationShadows,
}

/// What the function returns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
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

    /// Whatever goes wrong is an error of the function: Lambda tries again, and the event ends in the failure queue.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let begun = Instant::now();
        let span = tracing::error_span!(
            "announcement",
            request_id = context.request_id,
            trace_id = lambda_support::trace_id(&context),
            thing = tracing::field::Empty,
            thing_type = tracing::field::Empty,
        );
        let answer = self.announcement(&payload, begun).instrument(span.clone()).await;
        if let Err(Diagnostic { error_type: code, error_message: reason }) = &answer {
            let duration_ms = elapsed_ms(begun);
            span.in_scope(|| tracing::error!(status = "FAILED", code, reason, duration_ms, "no thing was made"));
            metrics::counter!("Failures", "code" => code.clone()).increment(1);
        }
        answer
    }

    async fn announcement(&self, event: &RawValue, begun: Instant) -> Result<Answer, Diagnostic> {
        let announcement =
            Announcement::read(event).map_err(|refused| diagnostic(refused.code(), refused.to_string()))?;
        let span = tracing::Span::current();
        span.record("thing", announcement.thing.as_str());
        if let Some(thing_type) = &announcement.thing_type {
            span.record("thing_type", thing_type.as_str());
        }

        let thing = self.registry.ensure(&announcement).await.map_err(|error| {
            let code = match error {
                registry::Error::Refused { .. } => "REGISTRY_REFUSED",
                registry::Error::Moving(_) | registry::Error::Unavailable { .. } => "REGISTRY_UNAVAILABLE",
            };
            diagnostic(code, error.to_string())
        })?;
        let shadow_created = self
            .shadows
            .ensure(&announcement.thing)
            .await
            .map_err(|error| diagnostic("OPERATION_SHADOW_NOT_CREATED", error.to_string()))?;
        let (status, duration_ms) = (thing.done.as_str(), elapsed_ms(begun));
        if thing.done == registry::Done::Created {
            metrics::counter!("ThingsCreated").increment(1);
        }
        let remark = match (thing.without_its_type, &announcement.thing_type) {
            (Some(Untaken::Deprecated), _) => Some(Remark {
                code: "THING_TYPE_DEPRECATED",
                reason:
                    "the thing type is deprecated and takes no new things: undo the deprecation, then announce the \
                         device again"
                        .to_owned(),
            }),
            (Some(Untaken::Refused), Some(thing_type)) => {
                Some(Remark::invalid(format!("AWS IoT refuses the thing type's name {thing_type}")))
            }
            _ => announcement.remark,
        };
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
        if thing.without_its_type == Some(Untaken::Deprecated) {
            metrics::counter!("ThingTypeDeprecated").increment(1);
        }
        let thing_type = announcement.thing_type.filter(|_| thing.without_its_type.is_none());
        Ok(Answer {
            thing_name: announcement.thing.to_string(),
            thing_type: thing_type.as_ref().map(ThingTypeName::to_string),
            status,
            code,
        })
    }
}
