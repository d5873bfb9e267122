//! Writes the events on a device's requests into the ledger, and counts the outcomes.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use lambda_support::now;
use ledger::Item;
use requests::{Record, Status, code};
use serde_json::json;

use crate::counts::float;
use crate::handle::Service;
use crate::look::Looking;
use crate::outcome::{AppliedEvents, Deleted, deleted, new_outcomes};
use crate::run::Run;

impl Service {
    /// Writes events on a device's requests. Objects that the device has deleted go from the datamodel shadow, too.
    pub(crate) async fn save(
        &self,
        looking: &Looking<'_>,
        thing: &str,
        item: Item,
        applied: &AppliedEvents,
    ) -> Result<Item, ledger::Error> {
        let outcomes = new_outcomes(&item.device, &applied.after);
        // Before the ledger is written: an interruption in between repeats it, which does no harm.
        for deleted in deleted(&outcomes) {
            self.fold_deletion(looking.run, thing, &deleted).await;
        }
        let (item, _) = self.ledger.apply(thing, item, &applied.events, now()).await?;
        looking.count(|counts| counts.ended += outcomes.len());
        for record in outcomes {
            log_outcome(thing, record);
            // It waited, and may hold a secret. One that cannot be deleted goes with the request's lifetime.
            if record.task_id.is_none()
                && let Err(error) = self.ledger.delete_body(thing, &record.name).await
            {
                looking.run.trouble(thing, error.code(), &error.to_string());
            }
        }
        Ok(item)
    }

    async fn fold_deletion(&self, run: &Run, thing: &str, deleted: &Deleted) {
        let payload = json!({
            "thingName": thing,
            "deleted": deleted.keys,
            "request": deleted.request.to_string(),
            "timestamp": deleted.at,
        });
        let invoked = self
            .lambda
            .invoke()
            .function_name(&self.settings.operation_response)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload.to_string()))
            .send()
            .await;
        if let Err(error) = invoked {
            // The request has succeeded all the same; the datamodel shadow has the objects until the next read of all.
            run.trouble(thing, code::DATAMODEL_NOT_UPDATED, &lambda_support::aws::error_summary(&error));
        }
    }
}

fn log_outcome(thing: &str, record: &Record) {
    let (operation, ended_as) = (record.operation.clone(), record.status());
    let (version, job) = (record.name.version(), record.name.is_of_job().then(|| record.name.to_string()));
    let (client_token, task_id) = (record.client_token.as_deref(), record.task_id.as_deref());
    let (code, reason) = record.reason.as_ref().map(|reason| (reason.code.as_ref(), reason.message.as_str())).unzip();
    let status = ended_as.as_str();
    if matches!(ended_as, Status::Failed | Status::TimedOut) {
        metrics::counter!("Failures", "code" => code.unwrap_or_default().to_owned()).increment(1);
        tracing::warn!(thing, operation, version, job, client_token, task_id, status, code, reason, "request failed");
    } else {
        tracing::debug!(thing, operation, version, job, client_token, task_id, status, code, reason, "request ended");
    }
    metrics::counter!("Requests", "operation" => operation, "status" => status).increment(1);
    if record.proven && record.requested_at > 0 && !record.name.is_of_job() {
        let time = now().saturating_sub(record.requested_at.saturating_mul(1_000));
        lambda_support::record("TimeToOutcome", float(time));
    }
}
