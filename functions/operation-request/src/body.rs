//! Bodies of requests that wait: the ledger keeps the event of a request until it is handed over.

use lambda_runtime::Diagnostic;
use lambda_support::{diagnostic, now};
use ledger::Item;
use requests::{Event, Millis, Name, Reason, Record, Status, code};
use serde_json::value::RawValue;
use shadow::Envelope;

use crate::incoming::{Content, Incoming, Purpose};
use crate::invocation::{Invocation, Outcome};

/// Time in which Lambda's retries bring the event of a run that was interrupted before it kept the body.
const RETRIES_BRING_BODY: Millis = 10 * 60_000;

/// The event of a request that waits.
pub(crate) struct Kept {
    pub(crate) body: Box<RawValue>,
    pub(crate) envelope: Envelope,
    pub(crate) content: Box<Content>,
}

impl Invocation<'_> {
    /// Keeps the body of a request until it is handed over.
    pub(crate) async fn keep_body(&self, item: &Item, name: &Name, body: &str) -> Result<(), Diagnostic> {
        let until = item.device.find(name).map_or_else(now, |record| record.expires_at.max(now()));
        self.within_reserve(self.ledger().keep_body(self.thing().as_str(), name, body, until)).await
    }

    /// The event of a request that waits; none where its body is missing.
    pub(crate) async fn kept(&self, name: &Name) -> Result<Option<Kept>, Diagnostic> {
        let invalid = |why| diagnostic("EVENT_INVALID", why);
        let body = self.within(self.ledger().body(self.thing().as_str(), name)).await?;
        let Some(body) = body else { return Ok(None) };
        let body = RawValue::from_string(body).map_err(|error| invalid(error.to_string()))?;
        let incoming = Incoming::parse(&body, self.service.settings.strictness).map_err(invalid)?;
        let Incoming { envelope, purpose: Purpose::Request(content) } = incoming else { return Ok(None) };
        Ok(Some(Kept { body, envelope, content }))
    }

    /// Ends a request whose body is missing, once no retry brings it any more.
    pub(crate) async fn without_body(&self, item: Item, name: &Name) -> Outcome {
        let why = "the body of this request is not kept; its event has to be sent through again";
        let reason = Reason::new(code::BODY_MISSING, why);
        let is_old = |record: &Record| record.updated_at.saturating_add(RETRIES_BRING_BODY) < now();
        if !item.device.find(name).is_some_and(is_old) {
            return Ok(self.answer(Status::Ignored).with_reason(reason));
        }
        let events = [self.take(name), Event::NotHandedOver(self.not_done(name, reason))];
        let (item, _) = self.apply(item, &events).await?;
        Ok(self.recorded(&item, name))
    }

    /// Removes the body of a request that is not handed over any more, because it may hold a secret. A body that cannot be
    /// removed goes with the request's lifetime.
    pub(crate) async fn drop_body(&self, name: &Name) {
        let dropped = self.ledger().delete_body(self.thing().as_str(), name);
        if let Err(Diagnostic { error_type: code, error_message: reason }) = self.within_reserve(dropped).await {
            tracing::warn!(code, reason, "the body of the request was not taken away");
        }
    }

    /// Removes the bodies of those of these requests that ended while they waited.
    pub(crate) async fn drop_bodies_of_ended(&self, item: &Item, names: &[Name]) {
        for name in names {
            let record = item.device.find(name);
            if record.is_some_and(|record| !record.is_open() && record.task_id.is_none()) {
                self.drop_body(name).await;
            }
        }
    }
}
