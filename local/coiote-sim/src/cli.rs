//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

use crate::credentials::{Credentials, CredentialsError};
use crate::device::DeviceState;
use crate::external_certificate::{ExternalCertificate, ExternalCertificateError};
use crate::publication::is_thing_name;

const EXAMPLES: &str = "\
Examples:
  # Results are kept and logged only; the default fleet of three devices
  coiote-sim --tls-cert server.pem --tls-key server-key.pem --client-cert lambda.pem

  # Results go into the operation shadows of AWS IoT Core
  coiote-sim --tls-cert server.pem --tls-key server-key.pem --client-cert lambda.pem \\
      --iot-endpoint localhost:8883 --iot-ca ca.pem --iot-cert iot.pem --iot-key iot-key.pem \\
      --device endpoint=urn:dev:1 --device endpoint=urn:dev:2,id=abc,state=sleeping

  # The integration is set up by calls of a user, which give the certificates; then Coiote announces
  # its devices, and writes their shadows
  coiote-sim --tls-cert server.pem --tls-key server-key.pem \\
      --user admin --password-file password.txt \\
      --iot-endpoint localhost:8883 --iot-ca ca.pem --announce \\
      --device endpoint=urn:dev:1,manufacturer=AVSystem,model=Thermo-2

  # Devices and tasks outlive a restart; this time a device is added to them
  coiote-sim --tls-cert server.pem --tls-key server-key.pem --client-cert lambda.pem \\
      --state coiote.json --device endpoint=urn:dev:3

When ready, one line stands on stdout: {\"ready\":true,\"rest\":\"https://localhost:8088\",\"control\":\"http://127.0.0.1:8089\"}
The log goes to stderr; RUST_LOG=warn says less.

Control calls (plain HTTP, JSON; here C=http://127.0.0.1:8089 and J='content-type: application/json'):
  The devices, and what was done to them; all readable values of one
    curl $C/devices
    curl $C/devices/demo-sleeper/datamodel
  Wake one up (it runs its scheduled tasks); the states are online, sleeping, deregistered
    curl -H \"$J\" $C/devices/demo-sleeper/state -d '{\"state\":\"online\"}'
  Add one (id and state may be left out), remove it
    curl -H \"$J\" $C/devices -d '{\"endpoint\":\"urn:dev:3\"}'
    curl -H \"$J\" $C/devices -d '{\"endpoint\":\"bad name/ä\",\"model\":\"Thermo-2\"}'
    curl -X DELETE $C/devices/urn:dev:3
  Let one send values, change values inside it, let them drift every half second (0: no more)
    curl -H \"$J\" $C/devices/urn:dev:3/send -d '{\"paths\":[\"Device.0.Battery Level\"]}'
    curl -X PUT -H \"$J\" $C/devices/urn:dev:3/values -d '{\"Device.0.Battery Level\":\"96\"}'
    curl -H \"$J\" $C/devices/urn:dev:3/drift -d '{\"seconds\":0.5}'
  Let one refuse what it has, with these words (in place of earlier ones; {} for nothing)
    curl -X PUT -H \"$J\" $C/devices/urn:dev:3/refusals -d '{\"Device.0.Reboot\":\"4.05 Method Not Allowed\"}'
  The integration with AWS: certificates, connection, announced devices; announce one again
    curl $C/integration
    curl -X POST $C/devices/urn:dev:3/announce
  Tasks with their reports, oldest first; one that is run again is there once for each time
    curl $C/tasks
    curl $C/tasks?device=demo-thermometer
  What devices really did, in its order: the keys that were done, with values or arguments, and those that failed
    curl $C/runs
    curl '$C/runs?device=demo-thermometer&task=d:abc:1'
  Register other client certificates in place of the present ones
    curl -X PUT -H \"$J\" $C/client-certs -d '{\"pem\":[\"-----BEGIN CERTIFICATE-----…\"]}'
  Task templates; an installation without one; bring it back
    curl $C/templates
    curl -X DELETE $C/templates/AWSdiscoverCertAuth
    curl -X PUT $C/templates/AWSdiscoverCertAuth
  Faults, in place of the present ones: for a tenth of the calls, and for one route; none
    curl -X PUT -H \"$J\" $C/faults \\
      -d '{\"rate\":0.1,\"routes\":{\"POST /sessions/{deviceId}/allow-deregistered\":503}}'
    curl -X PUT -H \"$J\" $C/faults -d '{}'
  Kinds of faults (all, unless some are named: \"kinds\":[\"lost\",\"slow\"])
    throttled    429 with Retry-After: 1
    unavailable  503
    failed       500
    reset        the connection is cut before the call is looked at
    lost         the call is carried out, and the connection is cut before its answer
    slow         the call is carried out, and answered 300 ms late, or \"slowBy\" seconds
  Only where they are named:
    gateway      503 with a gateway's page; the call is not looked at
    gatewaylost  503 with a gateway's page; the call is carried out
    hang         nothing is answered; the connection is cut when the faults are others
  A route can have a kind, or any answer; \"seconds\" ends all faults after a while
    curl -X PUT -H \"$J\" $C/faults -d '{\"seconds\":5,\"routes\":{\"GET /devices\":\"hang\",
      \"GET /taskReports/findSince\":{\"status\":429,\"body\":\"slow down\",\"retryAfter\":\"7\"}}}'
  Connections are accepted, and nothing is ever said on them
    curl -X PUT -H \"$J\" $C/faults -d '{\"blackHole\":true}'
  Reports (shares): never seen; seen only by who asks for that one; seen so many seconds later; and findSince gives
  each twice, in any order
    curl -X PUT -H \"$J\" $C/faults \
      -d '{\"reports\":{\"lost\":0.05,\"unlisted\":0.1,\"late\":2,\"twice\":true,\"shuffled\":true}}'
  Results on their way into shadows: lost (share), late by so many seconds, each by another time up to that
    curl -X PUT -H \"$J\" $C/faults -d '{\"results\":{\"lost\":0.05,\"late\":2,\"shuffled\":true}}'
  TLS handshakes, requests and faults so far; whether it is there
    curl $C/stats
    curl $C/health

Set-up calls (the REST API, with the password of --user; here R=https://localhost:8088/api/coiotedm/v3)
  The certificate that the Lambda authenticates with, and the one that Coiote connects to AWS IoT with; DELETE takes
  them away again
    curl -u admin -H \"$J\" $R/auth/certificates -d '{\"certificatePem\":\"-----BEGIN CERTIFICATE-----…\"}'
    curl -u admin -H \"$J\" $R/awsIntegration/auth/externalCertificate \\
      -d '{\"certificatePem\":\"-----BEGIN CERTIFICATE-----…\",\"privateKey\":\"-----BEGIN PRIVATE KEY-----…\"}'";

/// The local Coiote: a stand-in for Coiote IoT Device Management with simulated LwM2M devices.
///
/// It serves the part of Coiote's REST API v3 that the AWS IoT integration uses, runs task templates on its devices,
/// and reports results into AWS IoT Core, as Coiote does.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where the REST API listens (HTTPS); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8088")]
    pub(crate) listen: SocketAddr,

    /// Certificate chain of the REST API (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: PathBuf,

    /// Private key of the REST API (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: PathBuf,

    /// Registered client certificate (PEM), with which the Lambda authenticates; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) client_cert: Vec<PathBuf>,

    /// User who may make the set-up calls (HTTP Basic); without one they are all refused
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,

    /// File that holds the password of the user
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// Where the control API listens (plain HTTP, loopback only); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8089", value_parser = loopback)]
    pub(crate) control: SocketAddr,

    /// AWS IoT broker to report results to (MQTT over TLS); without it they are kept and logged only
    #[arg(long, value_name = "HOST:PORT", requires = "iot_ca")]
    iot_endpoint: Option<HostPort>,

    /// CA certificates that the broker's certificate is checked against (PEM)
    #[arg(long, value_name = "FILE", requires = "iot_endpoint")]
    iot_ca: Option<PathBuf>,

    /// IoT Core certificate to connect with (PEM); without it, Coiote connects when a set-up call gives one
    #[arg(long, value_name = "FILE", requires_all = ["iot_endpoint", "iot_key"])]
    iot_cert: Option<PathBuf>,

    /// Private key of the IoT Core certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["iot_endpoint", "iot_cert"])]
    iot_key: Option<PathBuf>,

    /// MQTT client id
    #[arg(long, value_name = "ID", default_value = "coiote-sim")]
    iot_client_id: String,

    /// What Coiote does once its AWS integration is switched on for the domain: devices are announced, and their
    /// registration goes into the classic and the datamodel shadow
    #[arg(long)]
    pub(crate) announce: bool,

    /// A device: endpoint=NAME[,id=DEVICEID][,state=online|sleeping|deregistered][,manufacturer=NAME][,model=NAME];
    /// repeatable. Without any there are demo-thermometer (online), demo-sleeper (sleeping) and demo-retired (deregistered)
    // The brackets are those of a usage text, not links.
    #[allow(rustdoc::broken_intra_doc_links)]
    #[arg(long, value_name = "DEVICE")]
    device: Vec<NewDevice>,

    /// Task template that this installation lacks, such as AWSdiscoverCertAuth; repeatable
    #[arg(long, value_name = "NAME", value_parser = template)]
    pub(crate) without_template: Vec<String>,

    /// Where devices and tasks outlive a restart: read at start if it is there, written on SIGTERM and SIGINT
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

/// Address of AWS IoT Core, and how to connect to it.
#[derive(Debug)]
pub(crate) struct Iot {
    pub(crate) endpoint: HostPort,
    pub(crate) ca: PathBuf,
    pub(crate) client_id: String,
}

impl Options {
    pub(crate) fn iot(&self) -> Option<Iot> {
        Some(Iot {
            endpoint: self.iot_endpoint.clone()?,
            ca: self.iot_ca.clone()?,
            client_id: self.iot_client_id.clone(),
        })
    }

    pub(crate) fn external_certificate(&self) -> Result<Option<ExternalCertificate>, ExternalCertificateError> {
        let files = self.iot_cert.as_ref().zip(self.iot_key.as_ref());
        files.map(|(certificate, key)| ExternalCertificate::from_files(certificate, key)).transpose()
    }

    pub(crate) fn credentials(&self) -> Result<Option<Credentials>, CredentialsError> {
        let given = self.user.as_ref().zip(self.password_file.as_ref());
        given.map(|(user, file)| Credentials::from_file(user, file)).transpose()
    }

    pub(crate) fn fleet(&self) -> Vec<NewDevice> {
        if !self.device.is_empty() {
            return self.device.clone();
        }
        [
            ("demo-thermometer", DeviceState::Online),
            ("demo-sleeper", DeviceState::Sleeping),
            ("demo-retired", DeviceState::Deregistered),
        ]
        .map(|(endpoint, state)| NewDevice::new(endpoint.to_owned(), None, state))
        .into()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(host, port)| Some(Self { host: host.to_owned(), port: port.parse().ok()? }))
            .ok_or_else(|| "HOST:PORT is expected, such as localhost:8883".to_owned())
    }
}

/// Device to add, by an option or the control API.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDevice {
    pub(crate) endpoint: String,
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) state: DeviceState,
    /// Manufacturer in the Device object, if it differs from that of the data model.
    pub(crate) manufacturer: Option<String>,
    /// Model number in the Device object, likewise.
    pub(crate) model: Option<String>,
}

impl NewDevice {
    pub(crate) fn new(endpoint: String, id: Option<String>, state: DeviceState) -> Self {
        Self { endpoint, id, state, manufacturer: None, model: None }
    }
}

/// Takes only names that can be things. The control API takes others, too, which tests try.
impl FromStr for NewDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut endpoint, mut id, mut state) = (None, None, DeviceState::default());
        let (mut manufacturer, mut model) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("endpoint", name)) => endpoint = Some(name.to_owned()),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("state", word)) => state = word.parse()?,
                Some(("manufacturer", name)) => manufacturer = Some(name.to_owned()),
                Some(("model", name)) => model = Some(name.to_owned()),
                _ => {
                    return Err(format!("{part:?}: endpoint=…, id=…, state=…, manufacturer=… or model=… is expected"));
                }
            }
        }
        let endpoint = endpoint.ok_or("endpoint=NAME is missing")?;
        if !is_thing_name(&endpoint) {
            return Err(format!(
                "endpoint {endpoint:?}: 1 to 128 characters of a-z, A-Z, 0-9, ':', '_' and '-' are expected"
            ));
        }
        Ok(Self { endpoint, id, state, manufacturer, model })
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "ADDRESS:PORT is expected, such as 127.0.0.1:8089")?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the control API asks nobody who they are: it listens on a loopback address only".to_owned())
    }
}

fn template(name: &str) -> Result<String, String> {
    crate::template::all_names().find(|known| known == name).ok_or_else(|| {
        format!("no such template; these are: {}", crate::template::all_names().collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn reads_devices() {
        let device: NewDevice =
            "endpoint=urn:dev:1,id=abc,state=sleeping,manufacturer=AV System,model=X.1".parse().unwrap();
        let expected = NewDevice::new("urn:dev:1".to_owned(), Some("abc".to_owned()), DeviceState::Sleeping);
        let (manufacturer, model) = (Some("AV System".to_owned()), Some("X.1".to_owned()));
        assert_eq!(device, NewDevice { manufacturer, model, ..expected });
        for text in ["", "urn:dev:1", "id=a", "endpoint=a,state=asleep", "endpoint=a,name=b", "endpoint=a/b"] {
            assert!(text.parse::<NewDevice>().is_err(), "{text}");
        }
    }
}
