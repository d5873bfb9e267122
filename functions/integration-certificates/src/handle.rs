//! Handles a request of CloudFormation, and sends the response that it waits for.

use std::time::{Duration, Instant};

use aws_lambda_events::cloudformation::{
    CloudFormationCustomResourceResponse as Response, CloudFormationCustomResourceResponseStatus as Status,
};
use backon::{ExponentialBuilder, Retryable};
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use lambda_support::aws::error_chain;
use lambda_support::{Deadline, elapsed_ms};
use serde::Deserialize;
use serde_json::Value as Json;
use tracing::Instrument;

use crate::integration::{Failure, Integration};
use crate::iot::Iot;
use crate::properties::Properties;
use crate::secrets::Secrets;

/// Longest reason, in characters: the whole response may take 4 KB.
const MAX_REASON: usize = 1_000;

/// Prefix of the physical id after a Create that failed and left nothing: the Delete that follows has nothing to remove.
const NOT_CREATED: &str = "not-created";

/// State of the execution environment, across invocations.
pub(crate) struct Service {
    iot: Iot,
    secrets: Secrets,
    http: reqwest::Client,
}

/// The fields that all types of requests have. The properties are parsed later: an error in them can be answered then.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    request_type: String,
    // Never logged: it is signed, and whoever has it can respond.
    #[serde(rename = "ResponseURL")]
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    physical_resource_id: Option<String>,
    #[serde(default)]
    resource_properties: Json,
    #[serde(default)]
    old_resource_properties: Json,
}

impl Service {
    pub(crate) fn new(iot: Iot, secrets: Secrets) -> Result<Service, lambda_runtime::Error> {
        let tls = trust_roots::tls_config_builder([])?.with_no_client_auth();
        let http =
            reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(Duration::from_secs(10)).build()?;
        Ok(Service { iot, secrets, http })
    }

    /// Handles a request. CloudFormation gets a response in any case; only a request that cannot be responded to is an error of the
    /// function.
    pub(crate) async fn event(&self, event: LambdaEvent<Json>) -> Result<Json, Diagnostic> {
        let begun = Instant::now();
        let request: Option<Request> = serde_json::from_value(event.payload).ok();
        let span = tracing::error_span!(
            "integration",
            request_id = event.context.request_id,
            trace_id = lambda_support::trace_id(&event.context),
            request_type = request.as_ref().map(|request| request.request_type.as_str()),
            stack = request.as_ref().map(|request| request.stack_id.as_str()),
        );
        let Some(request) = request else {
            // Without the parser's message, which may quote the event.
            let why = "the event is no request of a CloudFormation custom resource";
            return Err(span.in_scope(|| refused("EVENT_INVALID", why)));
        };
        self.respond(&request, &event.context, begun).instrument(span).await
    }

    async fn respond(&self, request: &Request, context: &Context, begun: Instant) -> Result<Json, Diagnostic> {
        let outcome = self.process(request, Deadline::of(context)).await;
        let duration_ms = elapsed_ms(begun);
        let physical_resource_id = match (&request.physical_resource_id, &outcome) {
            (Some(id), _) => id.clone(),
            (None, Err(failure)) if failure.is_undone => format!("{NOT_CREATED}-{}", request.request_id),
            // The id stays for the life of the stack: Coiote has one certificate of this stack, whatever is renewed.
            (None, _) => format!("{}-{}", request.logical_resource_id, stack_uuid(&request.stack_id)),
        };
        let mut response = Response::default();
        match outcome {
            Ok(()) => {
                tracing::info!(status = "SUCCEEDED", duration_ms, "the integration is as the stack wants it");
                response.status = Status::Success;
            }
            Err(Failure { why, .. }) => {
                let (status, code) = ("FAILED", "INTEGRATION_FAILED");
                tracing::error!(status, code, reason = why, duration_ms, "the integration is not");
                response.status = Status::Failed;
                response.reason = Some(why.chars().take(MAX_REASON).collect());
            }
        }
        response.physical_resource_id = physical_resource_id;
        response.stack_id = request.stack_id.clone();
        response.request_id = request.request_id.clone();
        response.logical_resource_id = request.logical_resource_id.clone();
        self.put(&request.response_url, &response).await?;
        Ok(serde_json::json!({"status": response.status, "reason": response.reason}))
    }

    async fn process(&self, request: &Request, deadline: Deadline) -> Result<(), Failure> {
        let was_created = !request.physical_resource_id.as_deref().is_some_and(|id| id.starts_with(NOT_CREATED));
        let integration = Integration {
            iot: &self.iot,
            secrets: &self.secrets,
            stack_id: &request.stack_id,
            time: deadline.left() / 2,
        };
        let new = Properties::read(request.resource_properties.clone());
        if request.request_type == "Delete" && !was_created {
            if let Ok(new) = new {
                integration.release_policy(&new.policy_name).await;
            }
            return Ok(());
        }
        let new = new.map_err(Failure::before_first_step)?;
        let work = async {
            match request.request_type.as_str() {
                "Create" => integration.renew(&new, None).await,
                "Update" => {
                    let old = Properties::read(request.old_resource_properties.clone());
                    integration.renew(&new, Some(&old.map_err(Failure::before_first_step)?)).await
                }
                "Delete" => integration.remove(&new).await.map_err(|why| Failure { why, is_undone: false }),
                other => Err(Failure::before_first_step(format!("request type {other:?} is not known"))),
            }
        };
        let too_late = |_| {
            let why = "it was not done within the function's time, and may not all be undone".to_owned();
            Err(Failure { why, is_undone: false })
        };
        tokio::time::timeout(deadline.left(), work).await.unwrap_or_else(too_late)
    }

    async fn put(&self, url: &str, response: &Response) -> Result<(), Diagnostic> {
        let mut body = serde_json::to_value(response).unwrap_or_default();
        if let Some(fields) = body.as_object_mut() {
            // CloudFormation's documentation does not say that null is the same as absent.
            fields.retain(|_, value| !value.is_null());
        }
        let body = body.to_string();
        // Without a content type: the URL was signed without one.
        let put = || async { self.http.put(url).body(body.clone()).send().await?.error_for_status() };
        let answered = put.retry(ExponentialBuilder::default().with_max_times(4)).await;
        let why = |error: reqwest::Error| refused("CLOUDFORMATION_NOT_ANSWERED", &error_chain(&error.without_url()));
        answered.map(drop).map_err(why)
    }
}

/// Logs an error of the function: CloudFormation does not see it.
fn refused(code: &str, reason: &str) -> Diagnostic {
    tracing::error!(status = "FAILED", code, reason, "CloudFormation has no answer");
    lambda_support::diagnostic(code, reason)
}

/// `arn:aws:cloudformation:<region>:<account>:stack/<name>/<uuid>`
fn stack_uuid(stack_id: &str) -> &str {
    stack_id.rsplit_once('/').map_or(stack_id, |(_, uuid)| uuid)
}
