//! Undoes a renewal that failed.

use crate::coiote_setup::CoioteSetup;
use crate::integration::{Failure, Integration};
use crate::secrets::{self, NamedValue, RegisteredCertificate};

/// Step that undoes a step of a renewal. It is noted before that step, because a step that fails may have been done.
pub(crate) enum Undo {
    IotCertificate {
        policy_name: String,
        arn: String,
    },
    ExternalCertificate,
    ClientCertificate {
        certificate: RegisteredCertificate,
        /// The secret that is in use, which stays as it is.
        in_use: Option<SecretInUse>,
    },
    Secret {
        name: String,
    },
    SecretValue {
        before: NamedValue,
        in_force: String,
    },
}

/// Result of undoing the registration of a client certificate.
struct Undone {
    /// Whether it is removed, or a secret that stays names it.
    is_named: bool,
    problems: Vec<String>,
}

/// Secret that was in use before a renewal.
pub(crate) struct SecretInUse {
    pub(crate) secret: NamedValue,
    /// Whether the Coiote that gets the new certificate has the one in it.
    pub(crate) is_of_same_coiote: bool,
}

impl Integration<'_> {
    /// Undoes the steps, the last one first. Returns the failure with the steps that could not be undone.
    pub(crate) async fn undo(&self, coiote: &CoioteSetup, steps: Vec<Undo>, why: String) -> Failure {
        let mut left = Vec::new();
        // Its certificate has to stay registered as long as the secret has the new value.
        let mut new_value_stays = false;
        // A new secret has to stay as long as its certificate may be registered and no other secret names it: the removal of the
        // stack finds it there.
        let mut is_unnamed = false;
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
                Undo::ClientCertificate { certificate, in_use } => {
                    let Undone { is_named, problems } =
                        self.undo_client_certificate(coiote, &certificate, in_use.as_ref()).await;
                    is_unnamed = !is_named;
                    left.extend(problems);
                    Ok(())
                }
                Undo::Secret { .. } if is_unnamed => Ok(()),
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
            return Failure { why, is_undone: true };
        }
        Failure { why: format!("{why}; and it could not all be undone: {}", left.join("; ")), is_undone: false }
    }

    /// Removes a new client certificate from Coiote, or notes in the secret in use that it is to be removed later.
    async fn undo_client_certificate(
        &self,
        coiote: &CoioteSetup,
        certificate: &RegisteredCertificate,
        in_use: Option<&SecretInUse>,
    ) -> Undone {
        let mut problems = Vec::new();
        let removed = coiote.remove_client(certificate).await;
        if let Some(SecretInUse { secret, is_of_same_coiote: true }) = in_use
            && let Err(error) = coiote.keep_client(&secret.value).await
        {
            problems.push(format!("Coiote may not accept the client certificate in use any more ({error})"));
        }
        let Err(error) = removed else { return Undone { is_named: true, problems } };
        problems.push(format!("the client certificate may still be registered at Coiote ({error})"));
        let Some(SecretInUse { secret: NamedValue { name, value }, .. }) = in_use else {
            return Undone { is_named: false, problems };
        };
        // The next renewal tries again, or the removal of the stack.
        let noted = self.secrets.put(name, secrets::with_not_removed(value, certificate)).await;
        let is_named = noted.is_ok();
        problems.extend(noted.err().map(|error| format!("secret {name} does not name it ({error})")));
        Undone { is_named, problems }
    }
}
