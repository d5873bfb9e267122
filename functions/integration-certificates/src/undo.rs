//! Undoes a renewal that failed.

use crate::coiote_setup::CoioteSetup;
use crate::integration::{Failure, Integration};
use crate::secrets::{self, NamedValue};

/// Step that undoes a step of a renewal. It is noted before that step, because a step that fails may have been done.
pub(crate) enum Undo {
    IotCertificate {
        policy_name: String,
        arn: String,
    },
    ExternalCertificate,
    ClientCertificate {
        certificate_pem: String,
        /// The secret whose certificate the same Coiote has.
        in_use: Option<NamedValue>,
    },
    Secret {
        name: String,
    },
    SecretValue {
        before: NamedValue,
        in_force: String,
    },
}

impl Integration<'_> {
    /// Undoes the steps, the last one first. Returns the failure with the steps that could not be undone.
    pub(crate) async fn undo(&self, coiote: &CoioteSetup, steps: Vec<Undo>, why: String) -> Failure {
        let mut left = Vec::new();
        // Its certificate has to stay registered as long as the secret has the new value.
        let mut new_value_stays = false;
        // A new secret has to stay as long as its certificate is registered: the removal of the stack finds it there.
        let mut client_stays = false;
        for step in steps.into_iter().rev() {
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
                    let mut removed = coiote.setup.remove_client_certificate(&certificate_pem).await.map(drop);
                    if let Some(in_use) = &in_use {
                        removed = coiote.keep_client(&in_use.value).await.and(removed);
                    }
                    client_stays = removed.is_err() && in_use.is_none();
                    if let (Err(_), Some(NamedValue { name, value })) = (&removed, in_use) {
                        // The next renewal tries again, or the removal of the stack.
                        let noted = self.secrets.put(&name, secrets::with_not_removed(&value, &certificate_pem)).await;
                        left.extend(noted.err().map(|error| format!("secret {name} does not name it ({error})")));
                    }
                    removed
                        .map_err(|error| format!("the client certificate may still be registered at Coiote ({error})"))
                }
                Undo::Secret { .. } if client_stays => Ok(()),
                Undo::Secret { name } => self.delete_secret(&name).await,
                Undo::SecretValue { before: NamedValue { name, value }, in_force } => {
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
        if left.is_empty() {
            return why.into();
        }
        Failure { why: format!("{why}; and it could not all be undone: {}", left.join("; ")), is_undone: false }
    }
}
