//! Coiote, called as the user that sets the integration up.

use std::time::Duration;

use coiote::{Client, Error, Identity, Setup, User};

use crate::iot::IotCertificate;
use crate::properties::Properties;
use crate::secrets::{self, RegisteredCertificate, Secrets};

/// Time limit for the call that shows whether Coiote accepts a certificate.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Coiote, with the user that sets the integration up.
pub(crate) struct CoioteSetup {
    url: String,
    pub(crate) setup: Setup,
    pub(crate) user: User,
}

impl CoioteSetup {
    /// Coiote as these properties name it. The user comes from its secret.
    pub(crate) async fn new(secrets: &Secrets, properties: &Properties) -> Result<CoioteSetup, String> {
        let of_user = |why| format!("the secret of the Coiote user, {}: {why}", properties.user_secret);
        let user = secrets.user(&properties.user_secret).await.map_err(of_user)?;
        let setup = Setup::new(&properties.coiote_url, &user).map_err(|error| error.to_string())?;
        Ok(CoioteSetup { url: properties.coiote_url.clone(), setup, user })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Removes a client certificate from the Coiote that may have it, as this user.
    pub(crate) async fn remove_client(&self, certificate: &RegisteredCertificate) -> Result<(), Error> {
        let pem = &certificate.certificate_pem;
        let removed = if certificate.coiote_url == self.url {
            self.setup.remove_client_certificate(pem).await
        } else {
            Setup::new(&certificate.coiote_url, &self.user)?.remove_client_certificate(pem).await
        };
        removed.map(drop)
    }

    /// Gives Coiote the certificate that it connects to IoT Core with.
    pub(crate) async fn set_external(&self, certificate: &IotCertificate) -> Result<(), Error> {
        self.setup.set_external_certificate(&certificate.certificate_pem, &certificate.private_key).await
    }

    /// Registers the client certificate in a secret's value again after another one was removed, and makes sure that it is accepted.
    ///
    /// Coiote's documentation does not say whether the removal concerns its body's certificate only. A Coiote that ignores the body
    /// removes this one, too, and requests need it at once. One of another user is neither removed nor registered.
    pub(crate) async fn keep_client(&self, value: &str) -> Result<(), Error> {
        let (Ok(identity), Some(pem)) = (Identity::from_secret(value), secrets::certificate_in(value)) else {
            return Ok(());
        };
        if self.other_user(&pem).is_some() {
            return Ok(());
        }
        let registered = self.setup.register_client_certificate(&pem).await;
        match self.accepts(&identity).await {
            // It may refuse to register what it has.
            Ok(true) => Ok(()),
            Ok(false) => {
                let refused = || Error::Unauthorized("Coiote refuses the client certificate that is in use".to_owned());
                Err(registered.err().unwrap_or_else(refused))
            }
            Err(error) => {
                tracing::warn!(reason = %error, "whether the client certificate in use is accepted is not known");
                registered
            }
        }
    }

    /// User whom a client certificate was registered for, if it is not this one: Coiote keeps client certificates by user.
    pub(crate) fn other_user(&self, certificate_pem: &str) -> Option<String> {
        coiote::common_name(certificate_pem).filter(|user| user != self.user.name())
    }

    /// Whether Coiote accepts a call with this client certificate, over a connection of its own.
    async fn accepts(&self, identity: &Identity) -> Result<bool, Error> {
        // Any answer will do.
        match Client::new(&self.url, identity)?.find_devices("nobody", CHECK_LIMIT).await {
            Ok(_) => Ok(true),
            Err(Error::Unauthorized(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
