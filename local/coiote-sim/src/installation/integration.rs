//! The integration with AWS IoT: the certificate that Coiote connects with, and publications about devices.
//!
//! An integration lasts as long as there is a certificate; replacing it does not end the integration. A new integration
//! announces all devices again.

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Inner, Installation, Refusal};
use crate::aws_command::AwsCommand;
use crate::device::Device;
use crate::external_certificate::ExternalCertificate;
use crate::pem;
use crate::publication::{Publication, PublicationKind, is_thing_name};

/// Objects that are written into the datamodel shadow at Register: LwM2M Server and Device.
const OBJECTS_AT_REGISTER: [u16; 2] = [1, 3];

impl Installation {
    /// Connects to AWS if there is a certificate for it, and announces the devices that AWS does not know.
    ///
    /// Called once, after the saved state of an earlier run is restored.
    pub(crate) fn begin_integration(&self) {
        let mut inner = self.inner();
        match inner.external_certificate.value.clone() {
            Some(certificate) => {
                self.command(AwsCommand::UseCertificate(Some(certificate)));
                self.publish_unannounced(&mut inner);
            }
            // An earlier run had a certificate by its options, and this one has none.
            None => inner.end_integration(),
        }
    }

    pub(crate) fn has_external_certificate(&self) -> bool {
        self.inner().external_certificate.value.is_some()
    }

    pub(crate) fn set_external_certificate(&self, certificate: ExternalCertificate) {
        info!("certificate {} is there to connect to AWS IoT with", certificate.fingerprint());
        let mut inner = self.inner();
        inner.connected = false;
        inner.external_certificate.change(Some(certificate.clone()));
        self.command(AwsCommand::UseCertificate(Some(certificate)));
        self.publish_unannounced(&mut inner);
    }

    pub(crate) fn remove_external_certificate(&self) -> Result<(), Refusal> {
        let mut inner = self.inner();
        if inner.external_certificate.value.is_none() {
            return Err(Refusal::UnknownCertificate("there is no certificate to connect to AWS IoT with".to_owned()));
        }
        info!("the certificate to connect to AWS IoT with is forgotten");
        inner.external_certificate.change(None);
        inner.end_integration();
        self.command(AwsCommand::UseCertificate(None));
        Ok(())
    }

    /// Notes whether the connection to AWS is up.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.inner().connected = connected;
    }

    /// The integration as the control API shows it.
    pub(crate) fn integration(&self) -> Value {
        let inner = self.inner();
        let clients: Vec<_> = inner.client_certificates.value.iter().map(pem::fingerprint).collect();
        let announced: Vec<_> = inner.announced.iter().filter(|name| !inner.outbox.announces(name)).collect();
        json!({
            "externalCertificate": inner.external_certificate.value.as_ref().map(ExternalCertificate::fingerprint),
            "connected": inner.connected,
            "clientCertificates": clients,
            "announced": announced,
            "unconfirmed": inner.outbox.waiting().len(),
        })
    }

    /// Announces a device once more, even without `--announce`.
    pub(crate) fn announce(&self, endpoint: &str) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let device_type = inner.by_endpoint(endpoint)?.device_type();
        if !self.is_integrated(&inner) {
            return Err(Refusal::Invalid("there is no integration with AWS IoT to announce it to".to_owned()));
        }
        inner.announced.insert(endpoint.to_owned());
        self.publish(&mut inner, Publication::announcement(endpoint, &device_type));
        Ok(())
    }

    /// Publishes a registration: the announcement if AWS has not had it, the device's properties and its first values.
    pub(super) fn publish_register(&self, inner: &mut Inner, endpoint: &str) {
        // Without an integration it is published when there is one.
        if !self.announces || !self.is_integrated(inner) {
            return;
        }
        let Ok(device) = inner.by_endpoint(endpoint) else { return };
        let (device_type, properties) = (device.device_type(), device.properties());
        let values = device.values_of(&OBJECTS_AT_REGISTER);
        if inner.announced.insert(endpoint.to_owned()) {
            self.publish(inner, Publication::announcement(endpoint, &device_type));
        }
        self.publish(inner, Publication::connectivity(endpoint, properties));
        self.publish(inner, Publication::data_model(endpoint, values));
    }

    /// Publishes a registration update: the device's properties.
    pub(super) fn publish_update(&self, inner: &mut Inner, endpoint: &str) {
        if !self.announces {
            return;
        }
        let Ok(device) = inner.by_endpoint(endpoint) else { return };
        let properties = device.properties();
        self.publish(inner, Publication::connectivity(endpoint, properties));
    }

    /// Puts a publication into the outbox and has it sent.
    pub(super) fn publish(&self, inner: &mut Inner, publication: Publication) {
        let Publication { endpoint, kind, payload } = &publication;
        let shown = super::task_lifecycle::shortened(&payload.to_string());
        if !self.is_integrated(inner) {
            return info!("{endpoint}: not told, since there is no integration with AWS IoT: {kind:?} {shown}");
        }
        if *kind != PublicationKind::Announcement && !is_thing_name(endpoint) {
            return info!("{endpoint:?} can be no thing, and has no shadow: {kind:?} is not told");
        }
        info!("{endpoint}: {kind:?} for AWS IoT: {shown}");
        let number = inner.outbox.add(publication);
        self.command(AwsCommand::Publish { number });
    }

    /// Publications that AWS has not confirmed, oldest first.
    pub(crate) fn unconfirmed(&self) -> Vec<(u64, Publication)> {
        self.inner().outbox.waiting().iter().map(|(number, publication)| (*number, publication.clone())).collect()
    }

    /// Publication that AWS has not confirmed; `None` if its integration has ended.
    pub(crate) fn publication(&self, number: u64) -> Option<Publication> {
        self.inner().outbox.get(number).cloned()
    }

    pub(crate) fn confirm(&self, number: u64) {
        match self.inner().outbox.confirmed(number) {
            Some(publication) => info!("{}: AWS has taken the {:?}", publication.endpoint, publication.kind),
            None => warn!("AWS has taken a message of an integration that has ended"),
        }
    }

    /// Publishes the registrations of all registered devices that are not announced.
    fn publish_unannounced(&self, inner: &mut Inner) {
        let registered = inner.devices.iter().filter(|device| device.is_registered());
        let unknown = registered.filter(|device| !inner.announced.contains(&device.endpoint));
        let endpoints: Vec<_> = unknown.map(|Device { endpoint, .. }| endpoint.clone()).collect();
        for endpoint in endpoints {
            self.publish_register(inner, &endpoint);
        }
    }

    fn is_integrated(&self, inner: &Inner) -> bool {
        self.to_aws.is_some() && inner.external_certificate.value.is_some()
    }
}

impl Inner {
    fn end_integration(&mut self) {
        self.connected = false;
        self.announced.clear();
        self.outbox.clear();
    }
}
