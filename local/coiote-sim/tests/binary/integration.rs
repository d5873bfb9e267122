//! The set-up of the integration, and the messages to AWS IoT that follow from it.

use std::path::Path;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::coiote::{Coiote, PASSWORD, answer, with_user};

const CLIENTS: &str = "/auth/certificates";
const EXTERNAL: &str = "/awsIntegration/auth/externalCertificate";

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(vec!["coiote".to_owned()]).unwrap()
}

fn external(of: &CertifiedKey<KeyPair>) -> Value {
    json!({"certificatePem": of.cert.pem(), "privateKey": of.signing_key.serialize_pem()})
}

fn announcing(broker: &Broker) -> impl Fn(&Path) -> Vec<String> {
    |folder| [with_user(folder), broker.options(folder), vec!["--announce".to_owned()]].concat()
}

#[tokio::test]
async fn set_up_calls_need_the_password_and_nothing_else() {
    let (with, without) = (Coiote::start_with("password", with_user), Coiote::start("no-user"));
    for path in [CLIENTS, EXTERNAL] {
        for method in [Method::POST, Method::DELETE] {
            for (coiote, client, header) in [
                (&with, &with.nobody, None),
                (&with, &with.nobody, Some("Basic YWRtaW46d3Jvbmc=")),
                (&with, &with.known, Some("Certificate")),
                (&without, &without.known, Some("Certificate")),
            ] {
                let request = client.request(method.clone(), format!("{}{path}", coiote.rest)).json(&json!({}));
                let request = header.into_iter().fold(request, |r, header| r.header("Authorization", header));
                let (status, error) = answer(request).await;
                assert_eq!(
                    (status.as_u16(), &error["code"]),
                    (401, &json!(4010)),
                    "{method} {path} {header:?}: {error}"
                );
            }
            let request = without.nobody.request(method, format!("{}{path}", without.rest));
            assert_eq!(answer(request.basic_auth("admin", Some(PASSWORD))).await.0, StatusCode::UNAUTHORIZED);
        }
    }
    // The other calls still need a certificate.
    let request = with.known.get(format!("{}/devices", with.rest)).basic_auth("admin", Some(PASSWORD));
    assert_eq!(answer(request).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(with.set_up(Method::GET, CLIENTS, &json!({})).await.0, StatusCode::METHOD_NOT_ALLOWED);
    with.put_control("/faults", &json!({"routes": {"POST /awsIntegration/auth/externalCertificate": 503}})).await;
    assert_eq!(with.set_up(Method::POST, EXTERNAL, &json!({})).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn client_certificates_come_and_go_one_by_one() {
    let mut coiote = Coiote::start_with("clients", with_user);
    let pem = std::fs::read_to_string(coiote.folder.join("client.pem")).unwrap();
    let (known, other) = (json!({"certificatePem": pem}), json!({"certificatePem": certificate().cert.pem()}));
    for _ in 0..2 {
        assert_eq!(coiote.set_up(Method::POST, CLIENTS, &other).await, (StatusCode::OK, Value::Null));
        let registered = coiote.get_control("/integration").await["clientCertificates"].clone();
        assert_eq!(registered.as_array().unwrap().len(), 2, "{registered}");
        assert_eq!(registered[0].as_str().unwrap().len(), 64);
    }
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
    assert_eq!(coiote.set_up(Method::DELETE, CLIENTS, &known).await, (StatusCode::OK, Value::Null));
    assert_eq!(coiote.get("/devices").await.0, StatusCode::UNAUTHORIZED);
    let (status, error) = coiote.set_up(Method::DELETE, CLIENTS, &known).await;
    assert_eq!((status.as_u16(), &error["code"]), (404, &json!(4043)), "{error}");
    for bad in [json!({}), json!({"certificatePem": 1}), json!({"certificatePem": "nonsense"}), json!("secret")] {
        let (status, error) = coiote.set_up(Method::POST, CLIENTS, &bad).await;
        assert_eq!((status.as_u16(), &error["code"]), (400, &json!(4000)), "{bad}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    coiote.stop("TERM").await;
    coiote.start_again();
    assert_eq!(coiote.get("/devices").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(coiote.set_up(Method::POST, CLIENTS, &known).await.0, StatusCode::OK);
    assert_eq!(coiote.get("/devices").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_external_certificate_has_to_be_whole() {
    let coiote = Coiote::start_with("external", with_user);
    let (one, other) = (certificate(), certificate());
    assert_eq!(coiote.set_up(Method::DELETE, EXTERNAL, &json!({})).await.0, StatusCode::NOT_FOUND);
    for (certificate, key, part) in [
        (one.cert.pem(), other.signing_key.serialize_pem(), "do not belong together"),
        (one.cert.pem(), "secret".to_owned(), "privateKey"),
        ("nonsense".to_owned(), one.signing_key.serialize_pem(), "certificatePem"),
    ] {
        let body = json!({"certificatePem": certificate, "privateKey": key});
        let (status, error) = coiote.set_up(Method::POST, EXTERNAL, &body).await;
        assert_eq!((status.as_u16(), &error["code"]), (400, &json!(4000)), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.contains("secret"), "{error}");
    }
    assert_eq!(coiote.get_control("/integration").await["externalCertificate"], Value::Null);
    assert_eq!(coiote.set_up(Method::POST, EXTERNAL, &external(&one)).await, (StatusCode::OK, Value::Null));
    let integration = coiote.get_control("/integration").await;
    assert_eq!(integration["externalCertificate"].as_str().unwrap().len(), 64);
    assert_eq!((&integration["connected"], &integration["announced"]), (&json!(false), &json!([])));
}

#[tokio::test]
async fn devices_are_announced_once_for_each_integration() {
    let (one, other) = (certificate(), certificate());
    let broker = Broker::start(&[&one, &other]);
    // It is ready without a certificate. Registrations wait for one.
    let mut coiote = Coiote::start_with("announce", announcing(&broker));
    let new =
        json!({"endpoint": "urn:dev:2", "state": "deregistered", "manufacturer": "AVSystem", "model": "Thermo.2"});
    coiote.post_control("/devices", &new).await;
    assert_eq!(coiote.set_up(Method::POST, EXTERNAL, &external(&one)).await.0, StatusCode::OK);
    let messages = broker.messages(6).await;
    // Two for each of three devices. A message before them could have its response missed.
    assert_eq!(broker.subscriptions_before_messages(), Some(6));
    let topics: Vec<_> = messages.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "createThing",
            "$aws/things/urn:dev:1/shadow/update",
            "$aws/things/urn:dev:1/shadow/name/datamodel/update",
            "createThing",
            "$aws/things/sleeper/shadow/update",
            "$aws/things/sleeper/shadow/name/datamodel/update",
        ]
    );
    assert_eq!(messages[0].1, json!({"coioteDeviceId": "urn%3Adev%3A1", "coioteDeviceType": "anjay.demo_client"}));
    let connectivity = &messages[1].1["state"]["reported"];
    for (name, value) in [
        ("endpointName", "urn:dev:1"),
        ("lwm2mLastUpOp", "Register"),
        ("registeredLifetime", "86400"),
        ("registeredMode", "U"),
        ("registeredQueueMode", "false"),
        ("lwm2mVersion", "1.1"),
    ] {
        assert_eq!(connectivity[name], value, "{name}");
    }
    let time = &connectivity["lwm2mLastUpOpTime"];
    assert!(time.as_str().unwrap().ends_with('Z') && *time == connectivity["lastRegisterUpdate"]);
    assert!(connectivity["registeredObjects"].as_str().unwrap().contains("</3/0>"));
    assert!(connectivity["objectVersions"].as_str().unwrap().starts_with("</1>;ver=1.1,"));
    let values = messages[2].1["state"]["reported"].as_object().unwrap();
    assert_eq!(values.keys().collect::<Vec<_>>(), ["LwM2M Server", "Device"]);
    assert_eq!(values["Device"]["0"]["Serial Number"], "urn:dev:1");
    assert!(messages.iter().all(|(_, payload)| payload.to_string().len() < 4096));
    coiote.integration(|i| i["connected"] == true && i["announced"] == json!(["sleeper", "urn:dev:1"])).await;

    // Devices that are added later are announced at their first registration. After that only shadows are written.
    coiote.post_control("/devices/urn:dev:2/state", &json!({"state": "online"})).await;
    let messages = broker.messages(3).await;
    assert_eq!(messages[0].1, json!({"coioteDeviceId": "urn%3Adev%3A2", "coioteDeviceType": "AVSystem.Thermo.2"}));
    assert_eq!(messages[2].1["state"]["reported"]["Device"]["0"]["Manufacturer"], "AVSystem");
    for (state, operations) in [
        ("sleeping", vec![]),
        ("online", vec!["Update"]),
        ("online", vec!["Update"]),
        ("deregistered", vec![]),
        ("sleeping", vec!["Register"]),
    ] {
        coiote.post_control("/devices/urn:dev:2/state", &json!({"state": state})).await;
        for operation in operations {
            let count = if operation == "Register" { 2 } else { 1 };
            let messages = broker.messages(count).await;
            assert_eq!(messages[0].0, "$aws/things/urn:dev:2/shadow/update");
            assert_eq!(messages[0].1["state"]["reported"]["lwm2mLastUpOp"], operation, "{state}");
        }
    }

    // Neither a restart nor another certificate in place of the first publishes anything twice.
    let announced = json!(["sleeper", "urn:dev:1", "urn:dev:2"]);
    coiote.integration(|i| i["unconfirmed"] == 0 && i["announced"] == announced).await;
    coiote.stop("TERM").await;
    coiote.start_again();
    coiote.integration(|i| i["connected"] == true).await;
    assert_eq!(coiote.set_up(Method::POST, EXTERNAL, &external(&other)).await.0, StatusCode::OK);
    coiote.integration(|i| i["connected"] == true).await;
    assert_eq!(broker.connections().last(), Some(other.cert.der()));
    broker.messages(0).await;

    // Without a certificate nothing is published. The next integration publishes everything again.
    assert_eq!(coiote.set_up(Method::DELETE, EXTERNAL, &json!({})).await, (StatusCode::OK, Value::Null));
    let gone = coiote.get_control("/integration").await;
    assert_eq!(
        (&gone["externalCertificate"], &gone["connected"], &gone["announced"]),
        (&Value::Null, &json!(false), &json!([]))
    );
    coiote.post_control("/devices/urn:dev:1/state", &json!({"state": "online"})).await;
    coiote.post_control("/devices/urn:dev:1/send", &json!({"paths": ["Location"]})).await;
    assert_eq!(coiote.post_control("/devices/urn:dev:1/announce", &json!({})).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(coiote.set_up(Method::POST, EXTERNAL, &external(&one)).await.0, StatusCode::OK);
    let announced = broker.messages(9).await.into_iter().filter(|(topic, _)| topic == "createThing").count();
    assert_eq!(announced, 3);
}

#[tokio::test]
async fn what_aws_has_not_confirmed_is_sent_again() {
    let one = certificate();
    let broker = Broker::start(&[&one]);
    broker.confirm_nothing(true);
    let mut coiote = Coiote::start_with("unconfirmed", announcing(&broker));
    coiote.set_up(Method::POST, EXTERNAL, &external(&one)).await;
    let first = broker.messages(6).await;
    assert_eq!(coiote.get_control("/integration").await["announced"], json!([]));
    coiote.stop("TERM").await;
    broker.confirm_nothing(false);
    coiote.start_again();
    assert_eq!(broker.messages(6).await, first);
    coiote.integration(|i| i["unconfirmed"] == 0 && i["announced"] == json!(["sleeper", "urn:dev:1"])).await;
    coiote.stop("TERM").await;
    coiote.start_again();
    coiote.integration(|i| i["connected"] == true).await;
    broker.messages(0).await;
}

#[tokio::test]
async fn a_name_that_can_be_no_thing_is_announced_and_has_no_shadow() {
    let one = certificate();
    let broker = Broker::start(&[&one]);
    let coiote = Coiote::start_with("bad-name", announcing(&broker));
    coiote.set_up(Method::POST, EXTERNAL, &external(&one)).await;
    broker.messages(6).await;
    let (status, device) = coiote.post_control("/devices", &json!({"endpoint": "bad name/ä", "id": "bad"})).await;
    assert_eq!(status, StatusCode::CREATED, "{device}");
    coiote.run("bad", "AWSreadCertAuth", &[("keys", "Location")]).await;
    let path = "/devices/bad%20name%2F%C3%A4";
    assert_eq!(coiote.post_control(&format!("{path}/send"), &json!({"paths": ["Location"]})).await.0, StatusCode::OK);
    assert_eq!(coiote.post_control(&format!("{path}/announce"), &json!({})).await.0, StatusCode::NO_CONTENT);
    let expected = json!({"coioteDeviceId": "bad%20name%2F%C3%A4", "coioteDeviceType": "anjay.demo_client"});
    for (topic, payload) in broker.messages(2).await {
        assert_eq!((topic.as_str(), payload), ("createThing", expected.clone()));
    }
    assert_eq!(coiote.get_control("/tasks?device=bad%20name%2F%C3%A4").await[0]["shadowUpdate"]["status"], "kept");
    assert!(broker.subscriptions().iter().all(|topic| !topic.contains("bad")));
}

/// The demo and the tests of the whole start it without `--announce`.
#[tokio::test]
async fn without_announce_only_notifications_sends_and_results_are_published() {
    let one = certificate();
    let broker = Broker::start(&[&one]);
    let coiote = Coiote::start_with("quiet", |folder| {
        std::fs::write(folder.join("iot.pem"), one.cert.pem()).unwrap();
        std::fs::write(folder.join("iot-key.pem"), one.signing_key.serialize_pem()).unwrap();
        let files = ["--iot-cert", "iot.pem", "--iot-key", "iot-key.pem"];
        let files = files.chunks(2).flat_map(|pair| [pair[0].to_owned(), folder.join(pair[1]).display().to_string()]);
        broker.options(folder).into_iter().chain(files).collect()
    });
    assert_eq!(coiote.get_control("/integration").await["connected"], true);
    coiote.post_control("/devices/sleeper/state", &json!({"state": "online"})).await;
    coiote.post_control("/devices", &json!({"endpoint": "urn:dev:2"})).await;
    let paths = json!({"paths": ["Device.0.Battery Level"]});
    let (status, sent) = coiote.post_control("/devices/sleeper/send", &paths).await;
    assert_eq!((status, &sent), (StatusCode::OK, &json!({"Device": {"0": {"Battery Level": "87"}}})));
    let expected =
        ("$aws/things/sleeper/shadow/name/datamodel/update".to_owned(), json!({"state": {"reported": sent}}));
    assert_eq!(broker.messages(1).await, [expected]);

    let id = coiote.id_of("urn:dev:1").await;
    let keys = ("keys", "Device.0.Battery Level");
    coiote.run(&id, "AWSobserveCertAuth", &[keys, ("attributes", "[{'pmin':1}]")]).await;
    for level in ["50", "40"] {
        coiote.put_control("/devices/urn:dev:1/values", &json!({"Device.0.Battery Level": level})).await;
    }
    let (topic, notified) = broker.messages(1).await.remove(0);
    assert_eq!(topic, "$aws/things/urn:dev:1/shadow/name/datamodel/update");
    assert_eq!(notified, json!({"state": {"reported": {"Device": {"0": {"Battery Level": "40"}}}}}));
}
