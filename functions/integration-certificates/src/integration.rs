//! The integration as a whole: both certificates are there and known on both sides, or nothing is.

use std::time::Duration;

use coiote::{Client, Error, Identity, Setup, User};

use crate::client_certificate::ClientCertificate;
use crate::iot::Iot;
use crate::properties::Properties;
use crate::secrets::{self, Held, Secrets};

/// Time limit for one look whether Coiote accepts a certificate.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Makes, renews and removes it.
pub(crate) struct Integration<'a> {
    pub(crate) iot: &'a Iot,
    pub(crate) secrets: &'a Secrets,
    pub(crate) stack_id: &'a str,
    /// What may be spent on making it; as much again is left to undo it.
    pub(crate) time: Duration,
}

/// What takes a step back. It is noted before the step, because a step that fails may have been done.
enum Undo {
    IotCertificate { policy_name: String, arn: String },
    ExternalCertificate,
    ClientCertificate { certificate_pem: String, in_use: Option<String> },
    Secret { name: String },
    SecretValue { name: String, value: String, in_force: String },
}

/// Coiote, as the user who sets the integration up.
struct AtCoiote {
    url: String,
    setup: Setup,
    user: User,
}

impl Integration<'_> {
    /// Makes new certificates and puts them to use. Those that were in use before are removed when the new ones are.
    pub(crate) async fn renew(&self, new: &Properties, old: Option<&Properties>) -> Result<(), String> {
        if let Some(old) = old
            && self.is_in_force(new).await?
        {
            self.forget_other_secret(new, old).await;
            return Ok(());
        }
        let coiote = self.at_coiote(new).await?;
        let mut undo = Vec::new();
        let made = tokio::time::timeout(self.time, self.make(&coiote, new, old, &mut undo)).await;
        match made.unwrap_or_else(|_| Err("it was not done within the function's time".to_owned())) {
            Ok(replaced) => {
                self.remove_replaced(&coiote, new, old, replaced).await;
                Ok(())
            }
            Err(why) => Err(self.undone(&coiote, undo, why).await),
        }
    }

    async fn at_coiote(&self, properties: &Properties) -> Result<AtCoiote, String> {
        let of_user = |why| format!("the secret of the Coiote user, {}: {why}", properties.user_secret);
        let user = self.secrets.user(&properties.user_secret).await.map_err(of_user)?;
        let setup = Setup::new(&properties.coiote_url, &user).map_err(|error| error.to_string())?;
        Ok(AtCoiote { url: properties.coiote_url.clone(), setup, user })
    }

    /// What was replaced: the client certificate, and the new certificate at IoT Core, which alone stays.
    async fn make(
        &self,
        coiote: &AtCoiote,
        new: &Properties,
        old: Option<&Properties>,
        undo: &mut Vec<Undo>,
    ) -> Result<Replaced, String> {
        let secret = &new.client_secret;
        let of_secret = |why| format!("secret {secret}: {why}");
        let held = self.secrets.held_for_good(secret, self.stack_id).await.map_err(of_secret)?;
        match held {
            Held::SomebodyElses => {
                return Err(format!(
                    "secret {secret} exists and is not this stack's: delete it, choose another CoioteSecretName, or name no \
                     Coiote user if it holds the certificate to use"
                ));
            }
            Held::BeingDeleted => {
                return Err(format!(
                    "secret {secret} is scheduled for deletion, and its name is not free before that: delete it without \
                     recovery, or choose another CoioteSecretName"
                ));
            }
            Held::Nothing | Held::Ours { .. } | Held::LeftBehind => {}
        }
        let old_secret = old.map_or(secret, |old| &old.client_secret);
        let in_use = self.secrets.value_if_there(old_secret).await;
        let in_use = in_use.map_err(|why| format!("secret {old_secret}: {why}"))?;
        let mut certificate_pems = Vec::from_iter(in_use.as_deref().and_then(secrets::certificate_in));
        if in_use.is_some() {
            certificate_pems.extend(self.broken_off(old_secret).await?);
        }

        // The client's
        let client = ClientCertificate::new(coiote.user.name(), new.key_type, new.validity_days)?;
        let certificate_pem = client.certificate_pem.clone();
        let replaces = old.is_some_and(|old| old.coiote_url == new.coiote_url);
        // Registered at this Coiote only where it is replaced there.
        let registered = in_use.clone().filter(|_| replaces);
        undo.push(Undo::ClientCertificate { certificate_pem, in_use: registered });
        if let Err(error) = coiote.setup.register_client_certificate(&client.certificate_pem).await {
            if !error.may_have_been_done() {
                undo.pop();
            }
            return Err(format!("registering the client certificate at Coiote: {error}"));
        }
        let value = secrets::value(&client, &coiote.user);
        let stored = match held {
            Held::Ours { .. } | Held::LeftBehind => {
                let before = self.secrets.value_of(secret).await.map_err(of_secret)?;
                let in_force = if let Held::Ours { in_force } = held { in_force } else { String::new() };
                undo.push(Undo::SecretValue { name: secret.clone(), value: before, in_force });
                self.secrets.mark(secret, self.stack_id, "").await.map_err(of_secret)?;
                self.secrets.put(secret, value.clone()).await
            }
            _ => {
                undo.push(Undo::Secret { name: secret.clone() });
                self.secrets.create(secret, self.stack_id, &new.kms_key, value.clone()).await
            }
        };
        stored.map_err(|why| format!("storing the client certificate in secret {secret}: {why}"))?;

        // Coiote's
        let certificate =
            self.iot.create().await.map_err(|why| format!("creating a certificate at IoT Core: {why}"))?;
        let arn = certificate.arn;
        undo.push(Undo::IotCertificate { policy_name: new.policy_name.clone(), arn: arn.clone() });
        let attached = self.iot.attach(&new.policy_name, &arn).await;
        attached.map_err(|why| format!("attaching policy {} to the certificate: {why}", new.policy_name))?;
        if replaces {
            // Coiote may connect with it from now on: then it has to stay, beside the old one, until the next renewal.
            undo.pop();
        } else {
            undo.push(Undo::ExternalCertificate);
            // An integration that was removed by force, or another one's, may have left its own.
            match coiote.setup.remove_external_certificate().await {
                Ok(false) => {}
                Ok(true) => tracing::warn!("Coiote had a certificate of IoT Core from an earlier integration"),
                Err(error) => tracing::warn!(reason = %error, "what an earlier integration left could not be removed"),
            }
        }
        let given = coiote.setup.set_external_certificate(&certificate.certificate_pem, &certificate.private_key).await;
        if let Err(error) = given {
            if !error.may_have_been_done() {
                if replaces {
                    undo.push(Undo::IotCertificate { policy_name: new.policy_name.clone(), arn });
                } else {
                    undo.pop();
                }
            }
            return Err(format!("giving Coiote the certificate of IoT Core: {error}"));
        }
        self.secrets.mark(secret, self.stack_id, &new.fingerprint()).await.map_err(of_secret)?;
        Ok(Replaced { certificate_pems, client_value: value, kept_arn: arn })
    }

    /// The client certificate before the one in the secret, if a change of it broke off: then Coiote may still have it.
    async fn broken_off(&self, secret: &str) -> Result<Option<String>, String> {
        let of_secret = |why| format!("secret {secret}: {why}");
        // Where nothing can be told, there was nothing.
        if self.secrets.held(secret, self.stack_id).await != Ok(Held::Ours { in_force: String::new() }) {
            return Ok(None);
        }
        let earlier = self.secrets.earlier_value_if_there(secret).await.map_err(of_secret)?;
        Ok(earlier.as_deref().and_then(secrets::certificate_in))
    }

    /// Whether the integration is as these properties want it: it is, when CloudFormation takes back an Update that failed.
    async fn is_in_force(&self, wanted: &Properties) -> Result<bool, String> {
        let secret = &wanted.client_secret;
        let held = self.secrets.held(secret, self.stack_id).await.map_err(|why| format!("secret {secret}: {why}"))?;
        Ok(held == Held::Ours { in_force: wanted.fingerprint() })
    }

    /// Deletes what an Update that failed may have left under another name.
    async fn forget_other_secret(&self, kept: &Properties, other: &Properties) {
        if other.client_secret != kept.client_secret
            && let Err(why) = self.delete_secret(&other.client_secret).await
        {
            tracing::warn!(reason = why, "what the failed update left could not be looked for");
        }
    }

    /// Removes a client certificate, and sees that Coiote still accepts the one of `kept`, the value of a secret.
    ///
    /// Coiote's documentation does not say what becomes of the body of this DELETE. A Coiote that ignores it would remove the
    /// other certificate, too: so that one is registered again, unless Coiote is seen to accept it.
    async fn remove_client(&self, coiote: &AtCoiote, certificate_pem: &str, kept: Option<&str>) -> Result<(), Error> {
        let removed = coiote.setup.remove_client_certificate(certificate_pem).await.map(drop);
        let kept = kept.and_then(|value| Some((Identity::from_secret(value).ok()?, secrets::certificate_in(value)?)));
        let Some((identity, kept_pem)) = kept else { return removed };
        match accepts(coiote, &identity).await {
            Ok(true) => return removed,
            Ok(false) => tracing::warn!("Coiote removed the client certificate that is in use, too"),
            Err(error) => {
                tracing::warn!(reason = %error, "whether the client certificate in use is still accepted is not known")
            }
        }
        let registered = coiote.setup.register_client_certificate(&kept_pem).await;
        match accepts(coiote, &identity).await {
            Ok(true) => {}
            Ok(false) => {
                let refused = || Error::Unauthorized("Coiote refuses the client certificate that is in use".to_owned());
                return Err(registered.err().unwrap_or_else(refused));
            }
            Err(_) => registered?,
        }
        removed
    }

    async fn remove_replaced(&self, coiote: &AtCoiote, new: &Properties, old: Option<&Properties>, replaced: Replaced) {
        let mut problems = Vec::new();
        let moved_from = old.filter(|old| old.coiote_url != new.coiote_url);
        let elsewhere = match moved_from {
            Some(old) => self.at_coiote(old).await.map(Some),
            None => Ok(None),
        };
        match elsewhere {
            Ok(elsewhere) => {
                if let Some(elsewhere) = &elsewhere {
                    problems.extend(elsewhere.setup.remove_external_certificate().await.err().map(|e| e.to_string()));
                }
                for certificate_pem in &replaced.certificate_pems {
                    let removed = match &elsewhere {
                        Some(elsewhere) => self.remove_client(elsewhere, certificate_pem, None).await,
                        None => self.remove_client(coiote, certificate_pem, Some(&replaced.client_value)).await,
                    };
                    problems.extend(removed.err().map(|error| error.to_string()));
                }
            }
            Err(why) => problems.push(why),
        }
        if let Some(old) = old.filter(|old| old.client_secret != new.client_secret) {
            problems.extend(self.delete_secret(&old.client_secret).await.err());
        }
        let policies =
            [Some(&new.policy_name), old.map(|old| &old.policy_name).filter(|name| **name != new.policy_name)];
        for policy_name in policies.into_iter().flatten() {
            problems.extend(self.remove_iot_certificates(policy_name, Some(&replaced.kept_arn)).await.err());
        }
        for why in problems {
            tracing::error!(code = "CERTIFICATE_NOT_REMOVED", reason = why, "what was replaced could not be removed");
        }
    }

    /// Removes all of it, and tolerates what is gone. Every step is tried, whatever became of the others.
    pub(crate) async fn remove(&self, properties: &Properties) -> Result<(), String> {
        let mut problems = Vec::new();
        let secret = &properties.client_secret;
        let is_ours = match self.secrets.held(secret, self.stack_id).await {
            Ok(held) => matches!(held, Held::Ours { .. }),
            Err(why) => {
                problems.push(format!("secret {secret}: {why}"));
                false
            }
        };
        match self.at_coiote(properties).await {
            Ok(coiote) => {
                if let Err(error) = coiote.setup.remove_external_certificate().await {
                    problems.push(format!("taking the certificate of IoT Core from Coiote: {error}"));
                }
                if is_ours {
                    // The secret knows which certificate it is, so it goes last.
                    match self.remove_client_of(&coiote, secret).await {
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

    /// Deletes the policy as soon as AWS lets it go, so that CloudFormation, which tries only once, finds it deleted.
    ///
    /// That it could not be deleted is no failure: CloudFormation tries, too.
    pub(crate) async fn release_policy(&self, policy_name: &str) {
        let deleted = tokio::time::timeout(self.time, self.iot.delete_policy(policy_name)).await;
        let why = match deleted {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "AWS did not let it go in time".to_owned(),
        };
        tracing::warn!(policy_name, reason = why, "the policy of Coiote's certificate is left to CloudFormation");
    }

    async fn remove_client_of(&self, coiote: &AtCoiote, secret: &str) -> Result<(), String> {
        let value = self.secrets.value_if_there(secret).await.map_err(|why| format!("secret {secret}: {why}"))?;
        let certificate_pems = value.as_deref().and_then(secrets::certificate_in).into_iter();
        for certificate_pem in certificate_pems.chain(self.broken_off(secret).await?) {
            let removed = self.remove_client(coiote, &certificate_pem, None).await;
            removed.map_err(|error| format!("removing the client certificate from Coiote: {error}"))?;
        }
        Ok(())
    }

    async fn delete_secret(&self, name: &str) -> Result<(), String> {
        match self.secrets.held(name, self.stack_id).await {
            Ok(Held::Ours { .. }) => {
                self.secrets.delete(name).await.map_err(|why| format!("deleting secret {name}: {why}"))
            }
            Ok(Held::Nothing | Held::LeftBehind | Held::SomebodyElses | Held::BeingDeleted) => Ok(()),
            Err(why) => Err(format!("secret {name}: {why}")),
        }
    }

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

    /// Goes back, the last step first. The reason that comes back tells what could not be undone.
    async fn undone(&self, coiote: &AtCoiote, undo: Vec<Undo>, why: String) -> String {
        let mut left = Vec::new();
        // Then its certificate has to stay registered as well.
        let mut new_value_stays = false;
        for step in undo.into_iter().rev() {
            let undone = match step {
                Undo::ExternalCertificate => {
                    let taken = coiote.setup.remove_external_certificate().await;
                    taken
                        .map(drop)
                        .map_err(|error| format!("Coiote may still have the certificate of IoT Core ({error})"))
                }
                Undo::IotCertificate { policy_name, arn } => {
                    let removed = self.iot.remove(&policy_name, &arn).await;
                    removed.map_err(|error| format!("{arn} may still be there ({error})"))
                }
                Undo::ClientCertificate { .. } if new_value_stays => Ok(()),
                Undo::ClientCertificate { certificate_pem, in_use } => {
                    let removed = self.remove_client(coiote, &certificate_pem, in_use.as_deref()).await;
                    removed
                        .map_err(|error| format!("the client certificate may still be registered at Coiote ({error})"))
                }
                Undo::Secret { name } => self.delete_secret(&name).await,
                Undo::SecretValue { name, value, in_force } => {
                    let put = self.secrets.put(&name, value).await;
                    new_value_stays = put.is_err();
                    let undone = match put {
                        Ok(()) => self.secrets.mark(&name, self.stack_id, &in_force).await,
                        Err(error) => Err(error),
                    };
                    undone.map_err(|error| format!("secret {name} may have the new value ({error})"))
                }
            };
            left.extend(undone.err());
        }
        for problem in &left {
            tracing::error!(reason = problem, "a step could not be undone");
        }
        if left.is_empty() { why } else { format!("{why}; and it could not all be undone: {}", left.join("; ")) }
    }
}

/// What the new certificates stand in for.
struct Replaced {
    certificate_pems: Vec<String>,
    /// What the secret holds now.
    client_value: String,
    kept_arn: String,
}

/// Whether Coiote takes a call with this client certificate, over a connection of its own.
async fn accepts(coiote: &AtCoiote, identity: &Identity) -> Result<bool, Error> {
    // It matters whether it is answered, not with what.
    match Client::new(&coiote.url, identity)?.find_devices("nobody", LOOK_LIMIT).await {
        Ok(_) => Ok(true),
        Err(Error::Unauthorized(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
