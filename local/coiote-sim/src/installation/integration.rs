//! The integration with AWS IoT: the certificate that Coiote connects with, and what it tells of its devices.
//!
//! An integration lasts as long as there is such a certificate, whichever it is; with another integration everything
//! is told again.

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Inner, Installation, Refusal};
use crate::aws::Order;
use crate::device::Device;
use crate::external_certificate::ExternalCertificate;
use crate::pem;
use crate::publication::{About, Publication, is_thing_name};

/// What the datamodel shadow gets at Register: LwM2M Server and Device.
const TOLD_AT_REGISTER: [u16; 2] = [1, 3];

impl Installation {
    /// Connects to AWS if there is a certificate for it, and tells of the devices that AWS does not know.
    ///
    /// To be called once, when everything that an earlier run left is there.
    pub(crate) fn begin_integration(&self) {
        let mut inner = self.inner();
        match inner.external_certificate.value.clone() {
            Some(certificate) => {
                self.order(Order::Identify(Some(certificate)));
                self.enlist_all(&mut inner);
            }
            // The certificate that an earlier run was started with is no more.
            None => inner.end_integration(),
        }
    }

    pub(crate) fn has_external_certificate(&self) -> bool {
        self.inner().external_certificate.value.is_some()
    }

    pub(crate) fn give_external_certificate(&self, certificate: ExternalCertificate) {
        info!("certificate {} is there to connect to AWS IoT with", certificate.fingerprint());
        let mut inner = self.inner();
        inner.connected = false;
        inner.external_certificate.change(Some(certificate.clone()));
        self.order(Order::Identify(Some(certificate)));
        self.enlist_all(&mut inner);
    }

    pub(crate) fn take_external_certificate(&self) -> Result<(), Refusal> {
        let mut inner = self.inner();
        if inner.external_certificate.value.is_none() {
            return Err(Refusal::UnknownCertificate("there is no certificate to connect to AWS IoT with".to_owned()));
        }
        info!("the certificate to connect to AWS IoT with is forgotten");
        inner.external_certificate.change(None);
        inner.end_integration();
        self.order(Order::Identify(None));
        Ok(())
    }

    /// How the connection to AWS is.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.inner().connected = connected;
    }

    /// What the control API tells about the integration.
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

    /// Announces a device once more, whether or not new ones are announced.
    pub(crate) fn announce(&self, endpoint: &str) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let make = inner.by_endpoint(endpoint)?.make();
        if !self.is_integrated(&inner) {
            return Err(Refusal::Invalid("there is no integration with AWS IoT to announce it to".to_owned()));
        }
        inner.announced.insert(endpoint.to_owned());
        self.publish(&mut inner, Publication::announcement(endpoint, &make));
        Ok(())
    }

    /// Tells AWS of a device that has registered: that it is there, if AWS has not been told, and what is known of it.
    pub(super) fn tell_register(&self, inner: &mut Inner, endpoint: &str) {
        // Without an integration it is told when there is one.
        if !self.announces || !self.is_integrated(inner) {
            return;
        }
        let Ok(device) = inner.by_endpoint(endpoint) else { return };
        let (make, properties) = (device.make(), device.properties());
        let values = device.values_of(&TOLD_AT_REGISTER);
        if inner.announced.insert(endpoint.to_owned()) {
            self.publish(inner, Publication::announcement(endpoint, &make));
        }
        self.publish(inner, Publication::connectivity(endpoint, properties));
        self.publish(inner, Publication::data_model(endpoint, values));
    }

    pub(super) fn tell_update(&self, inner: &mut Inner, endpoint: &str) {
        if !self.announces {
            return;
        }
        let Ok(device) = inner.by_endpoint(endpoint) else { return };
        let properties = device.properties();
        self.publish(inner, Publication::connectivity(endpoint, properties));
    }

    pub(super) fn publish(&self, inner: &mut Inner, publication: Publication) {
        let Publication { endpoint, about, payload } = &publication;
        let shown = super::task_side::shortened(&payload.to_string());
        if !self.is_integrated(inner) {
            return info!("{endpoint}: not told, since there is no integration with AWS IoT: {about:?} {shown}");
        }
        if *about != About::Announcement && !is_thing_name(endpoint) {
            return info!("{endpoint:?} can be no thing, and has no shadow: {about:?} is not told");
        }
        info!("{endpoint}: {about:?} for AWS IoT: {shown}");
        let number = inner.outbox.add(publication);
        self.order(Order::Publish { number });
    }

    /// What waits for AWS to confirm it, oldest first.
    pub(crate) fn unconfirmed(&self) -> Vec<(u64, Publication)> {
        self.inner().outbox.waiting().iter().map(|(number, publication)| (*number, publication.clone())).collect()
    }

    /// One of them, unless it has gone with its integration.
    pub(crate) fn publication(&self, number: u64) -> Option<Publication> {
        self.inner().outbox.get(number).cloned()
    }

    pub(crate) fn confirm(&self, number: u64) {
        match self.inner().outbox.confirmed(number) {
            Some(publication) => info!("{}: AWS has taken the {:?}", publication.endpoint, publication.about),
            None => warn!("AWS has taken a message of an integration that has ended"),
        }
    }

    fn enlist_all(&self, inner: &mut Inner) {
        let registered = inner.devices.iter().filter(|device| device.is_registered());
        let unknown = registered.filter(|device| !inner.announced.contains(&device.endpoint));
        let endpoints: Vec<_> = unknown.map(|Device { endpoint, .. }| endpoint.clone()).collect();
        for endpoint in endpoints {
            self.tell_register(inner, &endpoint);
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
