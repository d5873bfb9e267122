//! Issues new certificates, and puts them to use on both sides.

use crate::client_certificate::ClientCertificate;
use crate::coiote_setup::CoioteSetup;
use crate::integration::Integration;
use crate::iot::IotCertificate;
use crate::properties::Properties;
use crate::secrets::{self, NamedValue, RegisteredCertificate, SecretState};
use crate::undo::{SecretInUse, Undo};

/// Certificates that the new ones replace, and the new ones, which stay.
pub(crate) struct Replaced {
    /// The client certificates that were in use, or could not be removed.
    pub(crate) certificates: Vec<RegisteredCertificate>,
    /// Why the secret with an earlier name, which has them, could not be read.
    pub(crate) unread: Option<String>,
    /// New value of the secret.
    pub(crate) client_value: String,
    /// The new certificate at IoT Core.
    pub(crate) iot_certificate: IotCertificate,
}

impl Integration<'_> {
    /// Issues both certificates. `undo` gets a step for each step that was begun.
    pub(crate) async fn issue(
        &self,
        coiote: &CoioteSetup,
        new: &Properties,
        old: Option<&Properties>,
        undo: &mut Vec<Undo>,
    ) -> Result<Replaced, String> {
        let secret = &new.client_secret;
        let state = self.usable_secret(secret).await?;
        let before = old.unwrap_or(new);
        let old_secret = &before.client_secret;
        let (stored, unread) = match self.stored_client(old_secret, &before.coiote_url).await {
            Err(failure) if old_secret != secret && failure.is_out_of_reach => (None, Some(failure.why)),
            stored => (stored.map_err(|failure| failure.why)?, None),
        };
        let (value, certificates) = stored.map(|stored| (stored.value, stored.registered)).unzip();
        let is_same_coiote = old.is_some_and(|old| old.coiote_url == new.coiote_url);
        let in_use = value.filter(|_| old.is_some()).map(|value| SecretInUse {
            secret: NamedValue { name: old_secret.clone(), value },
            is_of_same_coiote: is_same_coiote,
        });
        let client_value = self.issue_client_certificate(coiote, new, state, in_use, undo).await?;
        let iot_certificate = self.issue_iot_certificate(coiote, new, is_same_coiote, undo).await?;
        let marked = self.secrets.mark(secret, self.stack_id, &new.fingerprint()).await;
        marked.map_err(|why| format!("secret {secret}: {why}"))?;
        Ok(Replaced { certificates: certificates.unwrap_or_default(), unread, client_value, iot_certificate })
    }

    /// State of the client's secret, which must be free or this stack's.
    async fn usable_secret(&self, secret: &str) -> Result<SecretState, String> {
        let state = self.secrets.settled_state(secret, self.stack_id).await;
        match state.map_err(|why| format!("secret {secret}: {why}"))? {
            SecretState::Foreign => Err(format!(
                "secret {secret} exists and is not this stack's: delete it, choose another CoioteSecretName, or name no \
                 Coiote user if it holds the certificate to use"
            )),
            SecretState::BeingDeleted => Err(format!(
                "secret {secret} is scheduled for deletion, and its name is not free before that: delete it without \
                 recovery, or choose another CoioteSecretName"
            )),
            state @ (SecretState::Missing | SecretState::Ours { .. } | SecretState::LeftBehind) => Ok(state),
        }
    }

    /// Issues the certificate that operation-request calls Coiote with: registers it at Coiote and stores it in the secret.
    /// Returns the secret's new value.
    async fn issue_client_certificate(
        &self,
        coiote: &CoioteSetup,
        new: &Properties,
        state: SecretState,
        in_use: Option<SecretInUse>,
        undo: &mut Vec<Undo>,
    ) -> Result<String, String> {
        let secret = &new.client_secret;
        let of_secret = |why| format!("secret {secret}: {why}");
        let client = ClientCertificate::new(coiote.user.name(), new.key_type, new.validity_days)?;
        let value = secrets::value(&client, &coiote.user);
        let of_storing = |why| format!("storing the client certificate in secret {secret}: {why}");
        let in_force = match state {
            SecretState::Ours { in_force } => Some(in_force),
            SecretState::LeftBehind => Some(String::new()),
            _ => None,
        };
        if in_force.is_none() {
            // A new secret comes first, so that it tells of a certificate that cannot be removed from Coiote.
            undo.push(Undo::Secret { name: secret.clone() });
            self.secrets.create(secret, self.stack_id, &new.kms_key, value.clone()).await.map_err(of_storing)?;
        }
        let (certificate_pem, coiote_url) = (client.certificate_pem.clone(), new.coiote_url.clone());
        undo.push(Undo::ClientCertificate {
            certificate: RegisteredCertificate { certificate_pem, coiote_url },
            in_use,
        });
        if let Err(error) = coiote.setup.register_client_certificate(&client.certificate_pem).await {
            if !error.may_have_been_done() {
                undo.pop();
            }
            return Err(format!("registering the client certificate at Coiote: {error}"));
        }
        if let Some(in_force) = in_force {
            let before = self.secrets.value_of(secret).await.map_err(of_secret)?;
            let before = NamedValue { name: secret.clone(), value: before };
            undo.push(Undo::SecretValue { before, in_force });
            self.secrets.mark(secret, self.stack_id, "").await.map_err(of_secret)?;
            self.secrets.put(secret, value.clone()).await.map_err(of_storing)?;
        }
        Ok(value)
    }

    /// Issues the certificate that Coiote connects to IoT Core with. `is_replaced`: whether Coiote has one of this stack already.
    async fn issue_iot_certificate(
        &self,
        coiote: &CoioteSetup,
        new: &Properties,
        is_replaced: bool,
        undo: &mut Vec<Undo>,
    ) -> Result<IotCertificate, String> {
        let certificate =
            self.iot.create().await.map_err(|why| format!("creating a certificate at IoT Core: {why}"))?;
        let arn = certificate.arn.clone();
        undo.push(Undo::IotCertificate { policy_name: new.policy_name.clone(), arn: arn.clone() });
        let attached = self.iot.attach(&new.policy_name, &arn).await;
        attached.map_err(|why| format!("attaching policy {} to the certificate: {why}", new.policy_name))?;
        self.iot.activate(&arn).await.map_err(|why| format!("activating the certificate at IoT Core: {why}"))?;
        if is_replaced {
            // From now on Coiote may connect with the new certificate: it stays beside the old one until the next renewal.
            undo.pop();
        } else {
            undo.push(Undo::ExternalCertificate);
            // An integration that was removed by force, or that of another stack, may have left its certificate.
            match coiote.setup.remove_external_certificate().await {
                Ok(false) => {}
                Ok(true) => tracing::warn!("Coiote had a certificate of IoT Core from an earlier integration"),
                Err(error) => tracing::warn!(reason = %error, "what an earlier integration left could not be removed"),
            }
        }
        let given = coiote.set_external(&certificate).await;
        if let Err(error) = given {
            if !error.may_have_been_done() {
                if is_replaced {
                    undo.push(Undo::IotCertificate { policy_name: new.policy_name.clone(), arn });
                } else {
                    undo.pop();
                }
            }
            return Err(format!("giving Coiote the certificate of IoT Core: {error}"));
        }
        Ok(certificate)
    }
}
