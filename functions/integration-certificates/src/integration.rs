//! The integration as a whole: both certificates exist and are known on both sides, or neither does.

use std::time::Duration;

use crate::coiote_setup::CoioteSetup;
use crate::iot::Iot;
use crate::issue::Replaced;
use crate::properties::Properties;
use crate::secrets::{self, ReadFailure, RegisteredCertificate, SecretState, Secrets};

/// The integration of a stack, to be made, renewed and removed.
pub(crate) struct Integration<'a> {
    pub(crate) iot: &'a Iot,
    pub(crate) secrets: &'a Secrets,
    pub(crate) stack_id: &'a str,
    /// Time limit for making it; as much again is left to undo it.
    pub(crate) time: Duration,
}

/// Failure of a change.
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Whether nothing of the change is left.
    pub(crate) is_undone: bool,
}

impl Failure {
    /// Failure before the first step of a change, when there is nothing to undo.
    pub(crate) fn before_first_step(why: String) -> Failure {
        Failure { why, is_undone: true }
    }
}

/// The client's secret, as it is stored.
pub(crate) struct StoredClient {
    pub(crate) value: String,
    /// The client certificates that a Coiote may have according to it.
    pub(crate) registered: Vec<RegisteredCertificate>,
}

impl Integration<'_> {
    /// Makes new certificates and puts them to use, and then removes those that were in use before.
    pub(crate) async fn renew(&self, new: &Properties, old: Option<&Properties>) -> Result<(), Failure> {
        if let Some(old) = old
            && self.is_unchanged(new, old).await.map_err(Failure::before_first_step)?
        {
            self.delete_other_secret(new, old).await;
            return Ok(());
        }
        let coiote = CoioteSetup::new(self.secrets, new).await.map_err(Failure::before_first_step)?;
        let mut undo = Vec::new();
        let issued = tokio::time::timeout(self.time, self.issue(&coiote, new, old, &mut undo)).await;
        match issued.unwrap_or_else(|_| Err("it was not done within the function's time".to_owned())) {
            Ok(replaced) => {
                self.remove_replaced(&coiote, new, old, replaced).await;
                Ok(())
            }
            Err(why) => Err(self.undo(&coiote, undo, why).await),
        }
    }

    /// The client's secret, with the certificate in it registered at the Coiote with that URL; `None` if it is not there.
    pub(crate) async fn stored_client(
        &self,
        secret: &str,
        coiote_url: &str,
    ) -> Result<Option<StoredClient>, ReadFailure> {
        let of_secret =
            |failure: ReadFailure| ReadFailure { why: format!("secret {secret}: {}", failure.why), ..failure };
        let value = self.secrets.value_if_there(secret, self.stack_id).await.map_err(of_secret)?;
        let Some(value) = value else { return Ok(None) };
        let mut registered = secrets::registered_certificates(&value, coiote_url);
        // A renewal that was interrupted may have left Coiote those before. A secret that cannot be described counts as without one.
        if self.secrets.state(secret, self.stack_id).await == Ok(SecretState::Ours { in_force: String::new() }) {
            let earlier = self.secrets.earlier_value_if_there(secret, self.stack_id).await.map_err(of_secret)?;
            registered.extend(earlier.iter().flat_map(|value| secrets::registered_certificates(value, coiote_url)));
        }
        Ok(Some(StoredClient { value, registered }))
    }

    /// Whether an Update changes nothing: only the spelling of the URL, or the new properties are in force already. They are when
    /// CloudFormation rolls back an Update that failed. A fingerprint of version 0.1.0 is replaced.
    async fn is_unchanged(&self, new: &Properties, old: &Properties) -> Result<bool, String> {
        let (secret, fingerprint) = (&new.client_secret, new.fingerprint());
        let is_same = old.fingerprint() == fingerprint;
        let of_secret = |why| format!("secret {secret}: {why}");
        let state = self.secrets.state(secret, self.stack_id).await.map_err(of_secret)?;
        let SecretState::Ours { in_force } = state else { return Ok(is_same) };
        if in_force == fingerprint {
            return Ok(true);
        }
        let is_earlier = in_force == new.earlier_fingerprint() || is_same && in_force == old.earlier_fingerprint();
        if is_earlier && let Err(why) = self.secrets.mark(secret, self.stack_id, &fingerprint).await {
            tracing::warn!(secret, reason = why, "the fingerprint of version 0.1.0 stays");
        }
        Ok(is_same || is_earlier)
    }

    /// Deletes the secret that an Update that failed may have left under another name.
    async fn delete_other_secret(&self, kept: &Properties, other: &Properties) {
        if other.client_secret != kept.client_secret
            && let Err(why) = self.delete_secret(&other.client_secret).await
        {
            tracing::warn!(reason = why, "what the failed update left could not be looked for");
        }
    }

    /// Removes what was replaced. Trouble is only logged: the new certificates are in use.
    async fn remove_replaced(
        &self,
        coiote: &CoioteSetup,
        new: &Properties,
        old: Option<&Properties>,
        replaced: Replaced,
    ) {
        let mut problems = Vec::new();
        let moved_from = old.filter(|old| old.coiote_url != new.coiote_url);
        let elsewhere = match moved_from {
            Some(old) => CoioteSetup::new(self.secrets, old).await.map(Some),
            None => Ok(None),
        };
        match elsewhere {
            Ok(elsewhere) => {
                if let Some(elsewhere) = &elsewhere {
                    let removed = elsewhere.setup.remove_external_certificate().await.map(drop);
                    // It is the same Coiote if the old URL has another name of its host.
                    let set = coiote.set_external(&replaced.iot_certificate).await;
                    problems.extend([removed, set].into_iter().filter_map(Result::err).map(|error| error.to_string()));
                }
                for certificate in &replaced.certificates {
                    let is_elsewhere = certificate.coiote_url != new.coiote_url;
                    let at = elsewhere.as_ref().filter(|_| is_elsewhere).unwrap_or(coiote);
                    let removed = at.remove_client(certificate).await;
                    let kept = coiote.keep_client(&replaced.client_value).await;
                    problems.extend(removed.err().map(|error| format!("{}: {error}", certificate.coiote_url)));
                    problems.extend(kept.err().map(|error| error.to_string()));
                    // Coiote may not say that this user does not have it.
                    if let Some(user) = at.other_user(&certificate.certificate_pem) {
                        problems.push(format!(
                            "the client certificate that was in use is registered for the previous Coiote user, {user}: remove \
                             it there"
                        ));
                    }
                }
            }
            Err(why) => problems.push(why),
        }
        if let Some(why) = replaced.unread {
            // Whoever makes it readable finds in it what Coiote has to remove.
            problems.push(format!("{why}; so it stays, and its client certificate at Coiote"));
        } else if let Some(old) = old.filter(|old| old.client_secret != new.client_secret) {
            problems.extend(self.delete_secret(&old.client_secret).await.err());
        }
        let policies =
            [Some(&new.policy_name), old.map(|old| &old.policy_name).filter(|name| **name != new.policy_name)];
        for policy_name in policies.into_iter().flatten() {
            problems.extend(self.remove_iot_certificates(policy_name, Some(&replaced.iot_certificate.arn)).await.err());
        }
        for why in problems {
            tracing::error!(code = "CERTIFICATE_NOT_REMOVED", reason = why, "what was replaced could not be removed");
        }
    }

    /// Removes the integration, as far as it exists. Every step is tried, whatever the result of the others.
    pub(crate) async fn remove(&self, properties: &Properties) -> Result<(), String> {
        let mut problems = Vec::new();
        let secret = &properties.client_secret;
        let is_ours = match self.secrets.state(secret, self.stack_id).await {
            Ok(state) => matches!(state, SecretState::Ours { .. }),
            Err(why) => {
                problems.push(format!("secret {secret}: {why}"));
                false
            }
        };
        match CoioteSetup::new(self.secrets, properties).await {
            Ok(coiote) => {
                if let Err(error) = coiote.setup.remove_external_certificate().await {
                    problems.push(format!("taking the certificate of IoT Core from Coiote: {error}"));
                }
                if is_ours {
                    // The secret goes last: it holds the certificate that Coiote has to remove.
                    match self.remove_clients(&coiote, secret).await {
                        Ok(()) => problems.extend(self.delete_secret(secret).await.err()),
                        Err(why) => problems.push(why),
                    }
                }
            }
            Err(why) => problems.push(why),
        }
        match self.remove_iot_certificates(&properties.policy_name, None).await {
            Ok(()) => self.release_policy(&properties.policy_name).await,
            Err(why) => problems.push(why),
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Deletes the policy as soon as AWS lets it go, so that CloudFormation, which tries only once, finds it deleted. A failure is
    /// only logged: CloudFormation tries, too.
    pub(crate) async fn release_policy(&self, policy_name: &str) {
        let deleted = tokio::time::timeout(self.time, self.iot.delete_policy(policy_name)).await;
        let why = match deleted {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "AWS did not let it go in time".to_owned(),
        };
        tracing::warn!(policy_name, reason = why, "the policy of Coiote's certificate is left to CloudFormation");
    }

    /// Removes the client certificates of a secret from Coiote.
    async fn remove_clients(&self, coiote: &CoioteSetup, secret: &str) -> Result<(), String> {
        let stored = self.stored_client(secret, coiote.url()).await.map_err(|failure| failure.why)?;
        for certificate in stored.into_iter().flat_map(|stored| stored.registered) {
            let removed = coiote.remove_client(&certificate).await;
            let removed = removed.map_err(|error| format!("removing the client certificate from Coiote: {error}"));
            if certificate.coiote_url == coiote.url() {
                removed?;
            } else if let Err(why) = removed {
                // It may be no Coiote at all: a URL that a failed change had by mistake.
                let (code, reason) = ("CERTIFICATE_NOT_REMOVED", format!("{}: {why}", certificate.coiote_url));
                tracing::error!(code, reason, "what a failed change has left could not be removed");
            }
        }
        Ok(())
    }

    /// Deletes a secret if it is this stack's.
    pub(crate) async fn delete_secret(&self, name: &str) -> Result<(), String> {
        match self.secrets.state(name, self.stack_id).await {
            Ok(SecretState::Ours { .. }) => {
                self.secrets.delete(name).await.map_err(|why| format!("deleting secret {name}: {why}"))
            }
            Ok(SecretState::Missing | SecretState::LeftBehind | SecretState::Foreign | SecretState::BeingDeleted) => {
                Ok(())
            }
            Err(why) => Err(format!("secret {name}: {why}")),
        }
    }

    /// Removes all certificates with the policy but one.
    async fn remove_iot_certificates(&self, policy_name: &str, except: Option<&str>) -> Result<(), String> {
        let of_iot = |why| format!("removing the certificate from IoT Core: {why}");
        let mut problem = Ok(());
        for arn in self.iot.with_policy(policy_name).await.map_err(of_iot)? {
            if Some(arn.as_str()) != except {
                problem = problem.and(self.iot.remove(policy_name, &arn).await.map_err(of_iot));
            }
        }
        problem
    }
}
