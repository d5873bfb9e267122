//! Claims a request in the ledger, and finds its device meanwhile.

use std::pin::pin;
use std::time::Instant;

use lambda_runtime::Diagnostic;
use lambda_support::{elapsed_ms, now};
use ledger::Item;
use requests::{Claim, Event, Name, NotHandedOver, Reason, Verdict};
use shadow::Envelope;

use crate::forward::Device;
use crate::forward_error::ForwardError;
use crate::hand_over::FIRST_PAUSE;
use crate::incoming::{Content, Parsed};
use crate::invocation::Invocation;

/// Result of a claim.
pub(crate) struct Claimed {
    pub(crate) item: Item,
    pub(crate) verdict: Verdict,
    /// The device of a request that is to be sent.
    pub(crate) device: Option<Result<Device, ForwardError>>,
}

impl Invocation<'_> {
    pub(crate) fn new_claim(&self, content: &Content) -> Claim {
        let Envelope { version, timestamp, client_token, with_reported, redriven, .. } = &self.envelope;
        let at = now();
        let made_at = match timestamp {
            // A job's request is made when its turn comes, which may be long after AWS queued it.
            Some(_) if content.job.is_some() && !redriven => at,
            Some(seconds) => seconds.saturating_mul(1_000),
            None => at,
        };
        let of_shadow = || version.map_or_else(|| Name::Invocation(self.run.request_id.clone()), Name::Version);
        Claim {
            name: content.job.clone().unwrap_or_else(of_shadow),
            mark: self.run.mark.clone(),
            run: self.run.request_id.clone(),
            operation: content.operation.clone(),
            keys: content.keys.clone(),
            client_token: client_token.clone(),
            digest: content.digest.clone(),
            requested_at: timestamp.unwrap_or(0),
            with_reported: *with_reported,
            at,
            void_at: self.run.void_at,
            expires_at: made_at.saturating_add(self.service.settings.lifetime),
            rejected: content.parsed.as_ref().err().map(Reason::shortened),
            waits: self.service.circuit.reason_to_wait(),
            redriven: *redriven,
            history: None,
        }
    }

    /// Claims the request, and finds its device meanwhile: both take round trips, and finding changes nothing.
    pub(crate) async fn claim_and_find(&self, content: &Content, mut claim: Claim) -> Result<Claimed, Diagnostic> {
        let is_operation = matches!(content.parsed, Ok(Parsed::Operation { .. }));
        let is_found_early = is_operation && claim.waits.is_none();
        let mut find = pin!(self.service.forwarder.find(self.delivery(&content.operation)));
        let mut found = None;
        let (item, verdict) = {
            let mut append = pin!(self.append_claim(&mut claim));
            loop {
                tokio::select! {
                    biased;
                    appended = &mut append => break appended?,
                    device = &mut find, if is_found_early && found.is_none() => found = Some(device),
                }
            }
        };
        let device = match found {
            _ if verdict != Verdict::Send || !is_operation => None,
            Some(found) => Some(found),
            None => Some(find.await),
        };
        Ok(Claimed { item, verdict, device })
    }

    async fn append_claim(&self, claim: &mut Claim) -> Result<(Item, Verdict), Diagnostic> {
        let (thing, begun) = (self.thing().as_str(), Instant::now());
        let event = Event::Claim(Box::new(claim.clone()));
        let append = self.ledger().append(thing, &event, Some(claim.void_at));
        let refresh = self.service.circuit.refresh(self.ledger());
        let (claimed, reason_to_wait) = tokio::join!(self.within(append), refresh);
        let (mut item, mut verdict) = claimed?;
        if verdict == Verdict::NeedsHistory {
            claim.history = Some(self.within(self.ledger().history(thing, claim)).await?);
            let claim = Event::Claim(Box::new(claim.clone()));
            let append = self.ledger().append(thing, &claim, Some(self.run.void_at));
            (item, verdict) = self.within(append).await?;
        }
        tracing::Span::current().record("claim_ms", elapsed_ms(begun));
        tracing::debug!(?verdict, "request claimed");
        if verdict == Verdict::Send
            && let Some(reason) = reason_to_wait
        {
            // When the claim was made, this environment did not know yet that Coiote is away.
            let not_done = self.not_done(&claim.name, reason);
            let retry_at = Some(now().saturating_add(FIRST_PAUSE));
            return self.apply(item, &[Event::NotHandedOver(NotHandedOver { retry_at, ..not_done })]).await;
        }
        Ok((item, verdict))
    }
}
