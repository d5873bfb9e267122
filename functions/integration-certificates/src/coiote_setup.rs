//! Coiote, called as the user that sets the integration up.

use std::time::Duration;

use coiote::{Client, Error, Identity, Setup, User};

use crate::iot::IotCertificate;
use crate::properties::Properties;
use crate::secrets::{self, Secrets};

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

    /// Gives Coiote the certificate that it connects to IoT Core with.
    pub(crate) async fn set_external(&self, certificate: &IotCertificate) -> Result<(), Error> {
        self.setup.set_external_certificate(&certificate.certificate_pem, &certificate.private_key).await
    }

    /// Removes a client certificate, and makes sure that Coiote still accepts the one in `kept`, the value of a secret.
    ///
    /// Coiote's documentation does not say whether this DELETE has an effect on its body's certificate only. A Coiote that ignores
    /// the body would remove the other certificate, too: so that one is registered again, unless Coiote accepts it.
    pub(crate) async fn remove_client(&self, certificate_pem: &str, kept: Option<&str>) -> Result<(), Error> {
        let removed = self.setup.remove_client_certificate(certificate_pem).await.map(drop);
        let kept = kept.and_then(|value| Some((Identity::from_secret(value).ok()?, secrets::certificate_in(value)?)));
        let Some((identity, kept_pem)) = kept else { return removed };
        match self.accepts(&identity).await {
            Ok(true) => return removed,
            Ok(false) => tracing::warn!("Coiote removed the client certificate that is in use, too"),
            Err(error) => {
                tracing::warn!(reason = %error, "whether the client certificate in use is still accepted is not known")
            }
        }
        let registered = self.setup.register_client_certificate(&kept_pem).await;
        match self.accepts(&identity).await {
            Ok(true) => {}
            Ok(false) => {
                let refused = || Error::Unauthorized("Coiote refuses the client certificate that is in use".to_owned());
                return Err(registered.err().unwrap_or_else(refused));
            }
            Err(_) => registered?,
        }
        removed
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
