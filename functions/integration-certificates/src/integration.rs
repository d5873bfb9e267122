//! The integration as a whole: both certificates are there and known on both sides, or nothing is.

use std::time::Duration;

use coiote::{Setup, User};

use crate::client_certificate::ClientCertificate;
use crate::iot::Iot;
use crate::properties::Properties;
use crate::secrets::{self, Held, Secrets};

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
    ClientCertificate { certificate_pem: String },
    Secret { name: String },
    SecretValue { name: String, value: String },
}

/// Coiote, as the user who sets the integration up.
struct AtCoiote {
    setup: Setup,
    user: User,
}

impl Integration<'_> {
    /// Makes new certificates and puts them to use. Those that were in use before are removed when the new ones are.
    pub(crate) async fn renew(&self, new: &Properties, old: Option<&Properties>) -> Result<(), String> {
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
        Ok(AtCoiote { setup, user })
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
        let held = self.secrets.held(secret, self.stack_id).await.map_err(|why| format!("secret {secret}: {why}"))?;
        if held == Held::SomebodyElses {
            return Err(format!(
                "secret {secret} exists and is not this stack's: delete it, choose another CoioteSecretName, or name no \
                 Coiote user if it holds the certificate to use"
            ));
        }
        let old_secret = old.map_or(secret, |old| &old.client_secret);
        let replaced_pem =
            self.secrets.certificate_in(old_secret).await.map_err(|why| format!("secret {old_secret}: {why}"))?;

        // The client's
        let client = ClientCertificate::new(coiote.user.name(), new.key_type, new.validity_days)?;
        undo.push(Undo::ClientCertificate { certificate_pem: client.certificate_pem.clone() });
        if let Err(error) = coiote.setup.register_client(&client.certificate_pem).await {
            if !error.may_have_been_done() {
                undo.pop();
            }
            return Err(format!("registering the client certificate at Coiote: {error}"));
        }
        let value = secrets::value(&client, &coiote.user);
        let stored = if held == Held::Ours {
            let before = self.secrets.value_of(secret).await.map_err(|why| format!("secret {secret}: {why}"))?;
            undo.push(Undo::SecretValue { name: secret.clone(), value: before });
            self.secrets.put(secret, value).await
        } else {
            undo.push(Undo::Secret { name: secret.clone() });
            self.secrets.create(secret, self.stack_id, &new.kms_key, value).await
        };
        stored.map_err(|why| format!("storing the client certificate in secret {secret}: {why}"))?;

        // Coiote's
        let certificate =
            self.iot.create().await.map_err(|why| format!("creating a certificate at IoT Core: {why}"))?;
        let arn = certificate.arn;
        undo.push(Undo::IotCertificate { policy_name: new.policy_name.clone(), arn: arn.clone() });
        let attached = self.iot.attach(&new.policy_name, &arn).await;
        attached.map_err(|why| format!("attaching policy {} to the certificate: {why}", new.policy_name))?;
        let replaces = old.is_some_and(|old| old.coiote_url == new.coiote_url);
        if replaces {
            // Coiote may connect with it from now on: then it has to stay, beside the old one, until the next renewal.
            undo.pop();
        } else {
            undo.push(Undo::ExternalCertificate);
        }
        let given =
            coiote.setup.give_external_certificate(&certificate.certificate_pem, &certificate.private_key).await;
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
        Ok(Replaced { certificate_pem: replaced_pem, kept_arn: arn })
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
                    problems.extend(elsewhere.setup.take_external_certificate().await.err().map(|e| e.to_string()));
                }
                if let Some(certificate_pem) = &replaced.certificate_pem {
                    let setup = &elsewhere.as_ref().unwrap_or(coiote).setup;
                    problems.extend(setup.remove_client(certificate_pem).await.err().map(|error| error.to_string()));
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
            Ok(held) => held == Held::Ours,
            Err(why) => {
                problems.push(format!("secret {secret}: {why}"));
                false
            }
        };
        match self.at_coiote(properties).await {
            Ok(coiote) => {
                if let Err(error) = coiote.setup.take_external_certificate().await {
                    problems.push(format!("taking the certificate of IoT Core from Coiote: {error}"));
                }
                if is_ours {
                    // The secret knows which certificate it is, so it goes last.
                    match self.remove_client(&coiote, secret).await {
                        Ok(()) => problems.extend(self.delete_secret(secret).await.err()),
                        Err(why) => problems.push(why),
                    }
                }
            }
            Err(why) => problems.push(why),
        }
        problems.extend(self.remove_iot_certificates(&properties.policy_name, None).await.err());
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    async fn remove_client(&self, coiote: &AtCoiote, secret: &str) -> Result<(), String> {
        let certificate_pem =
            self.secrets.certificate_in(secret).await.map_err(|why| format!("secret {secret}: {why}"))?;
        let Some(certificate_pem) = certificate_pem else { return Ok(()) };
        let removed = coiote.setup.remove_client(&certificate_pem).await;
        removed.map(drop).map_err(|error| format!("removing the client certificate from Coiote: {error}"))
    }

    async fn delete_secret(&self, name: &str) -> Result<(), String> {
        match self.secrets.held(name, self.stack_id).await {
            Ok(Held::Ours) => self.secrets.delete(name).await.map_err(|why| format!("deleting secret {name}: {why}")),
            Ok(Held::Nothing | Held::SomebodyElses) => Ok(()),
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
        for step in undo.into_iter().rev() {
            let undone = match step {
                Undo::ExternalCertificate => {
                    let taken = coiote.setup.take_external_certificate().await;
                    taken
                        .map(drop)
                        .map_err(|error| format!("Coiote may still have the certificate of IoT Core ({error})"))
                }
                Undo::IotCertificate { policy_name, arn } => {
                    let removed = self.iot.remove(&policy_name, &arn).await;
                    removed.map_err(|error| format!("{arn} may still be there ({error})"))
                }
                Undo::ClientCertificate { certificate_pem } => {
                    let removed = coiote.setup.remove_client(&certificate_pem).await;
                    let still = |error| format!("the client certificate may still be registered at Coiote ({error})");
                    removed.map(drop).map_err(still)
                }
                Undo::Secret { name } => self.delete_secret(&name).await,
                Undo::SecretValue { name, value } => self
                    .secrets
                    .put(&name, value)
                    .await
                    .map_err(|error| format!("secret {name} has the new value ({error})")),
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
    certificate_pem: Option<String>,
    kept_arn: String,
}
