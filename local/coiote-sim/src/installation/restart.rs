//! Saving the installation's state, and restoring it after a restart.

use std::time::Instant;

use rustls::pki_types::CertificateDer;
use tracing::info;

use super::{Inner, Installation, Refusal};
use crate::aws_command::{AwsCommand, OperationShadowUpdate};
use crate::cli::NewDevice;
use crate::state_file::{SavedCertificate, SavedDevice, SavedState};
use crate::task::{SavedTask, ShadowUpdateStatus, Task, TaskStatus};

impl Installation {
    /// The state that outlives a restart.
    pub(crate) fn saved(&self) -> SavedState {
        let inner = self.inner();
        let devices = inner.devices.iter().map(|device| SavedDevice {
            endpoint: device.endpoint.clone(),
            id: device.id.clone(),
            state: device.state,
            own_values: device.own_values(),
            observations_ended_after: device.observations_ended_after(),
            refusals: device.refusals_by_name(),
        });
        let client_certificates =
            inner.client_certificates.changed().map(|all| all.iter().map(|c| c.to_vec()).collect());
        let external_certificate = match inner.external_certificate.changed() {
            None => SavedCertificate::AsGiven,
            Some(None) => SavedCertificate::Removed,
            Some(Some(certificate)) => SavedCertificate::Replaced(certificate.clone()),
        };
        SavedState {
            devices: devices.collect(),
            task_prefix: inner.task_prefix.clone(),
            tasks: inner.tasks.iter().map(SavedTask::from).collect(),
            templates: inner.templates.changed().cloned(),
            client_certificates,
            external_certificate,
            announced: inner.announced.clone(),
            unconfirmed: inner.outbox.waiting().values().cloned().collect(),
        }
    }

    /// Restores the saved state of an earlier run. Nothing may have been added before.
    ///
    /// The values that operations gave a device are not saved. Operations are deterministic: run again in the same order,
    /// they lead to the same values, observations, attributes and counts, and there is no second description of a device
    /// that could disagree with the first. Nothing of that is reported, since the reports are saved. Values that a device
    /// changed by itself are saved as they were at the end, and replace those of the operations.
    pub(crate) fn restore(&self, saved: SavedState) -> Result<(), Refusal> {
        let SavedState { devices, task_prefix, tasks, templates, client_certificates, .. } = saved;
        let mut inner = self.inner();
        for SavedDevice { endpoint, id, state, .. } in &devices {
            let device = NewDevice::new(endpoint.clone(), Some(id.clone()), *state);
            self.insert_device(&mut inner, device)?;
        }
        inner.task_prefix = task_prefix;
        match saved.external_certificate {
            SavedCertificate::AsGiven => {}
            SavedCertificate::Removed => inner.external_certificate.change(None),
            SavedCertificate::Replaced(certificate) => inner.external_certificate.change(Some(certificate)),
        }
        inner.announced = saved.announced;
        for publication in saved.unconfirmed {
            // No command: the connection to AWS asks for all of them when it comes up.
            inner.outbox.add(publication);
        }
        if let Some(templates) = templates {
            inner.templates.change(templates);
        }
        if let Some(certificates) = client_certificates {
            inner.client_certificates.change(certificates.into_iter().map(CertificateDer::from).collect());
        }
        let now = Instant::now();
        for task in tasks {
            let id = task.id.clone();
            let task =
                task.into_task(&self.catalogue).map_err(|error| Refusal::Invalid(format!("task {id}: {error}")))?;
            run_again(&mut inner, &task, &devices, now);
            if let ShadowUpdateStatus::Sent { payload } = &task.shadow_update {
                // It may have arrived and only its response be lost: then AWS takes the same update twice.
                self.command(AwsCommand::UpdateShadow(OperationShadowUpdate::new(&task.device, &task.id, payload)));
            }
            inner.tasks.add(task);
        }
        for SavedDevice { endpoint, own_values, refusals, .. } in &devices {
            let device = inner.by_endpoint(endpoint)?;
            device.set_refusals(refusals).map_err(Refusal::Invalid)?;
            device.restore_own_values(own_values);
            device.restart_observations(now);
        }
        info!("gone on from {} device(s) and {} task(s) of an earlier run", inner.devices.len(), inner.tasks.len());
        Ok(())
    }
}

/// Runs the operation of a task that has run before the restart, if its device is still there. Nothing is reported.
fn run_again(inner: &mut Inner, task: &Task, devices: &[SavedDevice], now: Instant) {
    if task.status != TaskStatus::Done || task.of_removed_device {
        return;
    }
    let Ok(device) = inner.by_endpoint(&task.device) else { return };
    let refused = task.run.as_ref().map(|run| run.refused.clone()).unwrap_or_default();
    device.run(&task.decoded, &refused, now);
    if let Some(saved) = devices.iter().find(|saved| saved.endpoint == task.device) {
        device.end_observations_after(saved.observations_ended_after);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::{InstallationOptions, NewTask};
    use super::*;
    use crate::device::DeviceState;
    use crate::template::Parameter;

    /// An installation whose commands to AWS are kept.
    struct Bench {
        installation: Installation,
        commands: UnboundedReceiver<AwsCommand>,
    }

    impl Bench {
        fn new() -> Self {
            let (to_aws, commands) = unbounded_channel();
            let options = InstallationOptions {
                client_certificates: vec![CertificateDer::from(vec![1])],
                ..InstallationOptions::default()
            };
            Self { installation: Installation::new(options, Some(to_aws)).unwrap(), commands }
        }

        fn add(&self, device: &str) {
            self.installation.add_device(device.parse().unwrap()).unwrap();
        }

        fn schedule(&self, device_id: &str, operation: &str, parameters: &[(&str, &str)]) -> String {
            let named =
                |(name, value): &(&str, &str)| Parameter { name: (*name).to_owned(), value: (*value).to_owned() };
            let parameters = parameters.iter().map(named).collect();
            self.installation.schedule(device_id, NewTask::new(&format!("AWS{operation}CertAuth"), parameters)).unwrap()
        }

        /// Another installation that is restored from the saved state of this one, by way of its JSON text.
        fn restarted(&self) -> Self {
            let text = serde_json::to_string(&self.installation.saved()).unwrap();
            let next = Self::new();
            next.installation.restore(serde_json::from_str(&text).unwrap()).unwrap();
            next
        }

        /// Everything that the control API shows.
        fn seen(&self) -> Value {
            let devices = self.installation.device_views();
            let held: Vec<_> = devices
                .iter()
                .map(|d| self.installation.data_model(d["endpoint"].as_str().unwrap()).unwrap())
                .collect();
            json!({"devices": devices, "held": held, "tasks": self.installation.tasks(None).unwrap(),
                "templates": self.installation.templates()})
        }

        fn reported_tasks(&mut self) -> Vec<String> {
            let commands = std::iter::from_fn(|| self.commands.try_recv().ok());
            commands
                .filter_map(|c| if let AwsCommand::UpdateShadow(update) = c { Some(update.task_id) } else { None })
                .collect()
        }
    }

    #[test]
    fn goes_on_as_if_nothing_had_happened() {
        let first = Bench::new();
        first.add("endpoint=urn:dev:1,id=one");
        first.add("endpoint=sleeper,state=sleeping,id=two");
        first.schedule("one", "write", &[("keys", "Device.0.UTC Offset"), ("values", "+02:00")]);
        first.schedule("one", "execute", &[("keys", "Device.0.Reboot")]);
        first.schedule("one", "execute", &[("keys", "Test object.0.Increment counter"), ("arguments", "0='a'")]);
        first.schedule(
            "one",
            "observe",
            &[("keys", "Device.0.Battery Level"), ("attributes", "[{'pmin':5,'gt':1.50}]")],
        );
        first.schedule("one", "create", &[("keys", "Portfolio.3"), ("values", "")]);
        first.schedule("one", "delete", &[("keys", "Portfolio.11")]);
        first.schedule("one", "read", &[("keys", "Device.0.UTC Offset,Nothing")]);
        first.schedule("two", "execute", &[("keys", "Device.0.Reboot")]);
        first.installation.run_all_scheduled();
        let tasks = first.installation.tasks(None).unwrap();
        assert_eq!(tasks[0]["shadowUpdate"]["status"], "sent");
        first.installation.shadow_accepted("urn:dev:1", tasks[0]["id"].as_str().unwrap(), Some(9_007_199_254_740_993));

        let second = first.restarted();
        assert_eq!(second.seen(), first.seen());
        let device = &second.installation.device_views()[0];
        assert_eq!(device["reboots"], 1);
        assert_eq!(device["observations"][0]["attributes"].to_string(), r#"{"gt":1.50,"pmin":5}"#);
        // Another restart changes nothing, and ids go on.
        let third = second.restarted();
        assert_eq!(third.seen(), first.seen());
        let last = tasks[7]["id"].as_str().unwrap();
        let next = third.schedule("one", "read", &[("keys", "")]);
        assert_eq!(next, format!("{}9", last.strip_suffix('8').unwrap()));

        // Scheduled tasks run when the device comes online.
        third.installation.set_state("sleeper", DeviceState::Online).unwrap();
        third.installation.run_all_scheduled();
        assert_eq!(third.installation.device_views()[1]["reboots"], 1);
    }

    #[test]
    fn what_a_device_changed_by_itself_and_the_end_of_observations_are_kept() {
        let first = Bench::new();
        first.add("endpoint=urn:dev:1,id=one,manufacturer=AVSystem,model=Thermo-2");
        first.schedule("one", "observe", &[("keys", "Device.0.Battery Level"), ("attributes", "[{}]")]);
        first.installation.run_all_scheduled();
        first
            .installation
            .set_values("urn:dev:1", &[("Test object.0.Counter".to_owned(), "7".to_owned())].into())
            .unwrap();
        first.installation.set_state("urn:dev:1", DeviceState::Deregistered).unwrap();
        first.installation.set_state("urn:dev:1", DeviceState::Online).unwrap();
        first.schedule("one", "observe", &[("keys", "Device.0.Timezone"), ("attributes", "[{}]")]);
        first.schedule("one", "execute", &[("keys", "Test object.0.Increment counter")]);
        first.installation.run_all_scheduled();
        let second = first.restarted().restarted();
        assert_eq!(second.seen(), first.seen());
        assert_eq!(second.seen()["held"][0]["Test object"]["0"]["Counter"], "8");
        assert_eq!(second.seen()["devices"][0]["observations"].as_array().map(Vec::len), Some(1));
        assert_eq!(second.installation.description("one").unwrap()["modelName"], "Thermo-2");
    }

    #[test]
    fn reports_again_what_aws_has_not_answered_and_nothing_else() {
        let mut first = Bench::new();
        first.add("endpoint=urn:dev:1,id=one");
        let keys = ["Location", "Device", "Portfolio"];
        let tasks: Vec<_> = keys.iter().map(|key| first.schedule("one", "read", &[("keys", key)])).collect();
        first.installation.run_all_scheduled();
        first.installation.shadow_accepted("urn:dev:1", &tasks[0], Some(7));
        first.installation.shadow_rejected("urn:dev:1", &tasks[1], Some(413), "too large".to_owned());
        assert_eq!(first.reported_tasks(), tasks);

        let mut second = first.restarted();
        assert!(
            matches!(second.commands.try_recv(), Ok(AwsCommand::Subscribe { endpoint }) if endpoint == "urn:dev:1")
        );
        assert_eq!(second.reported_tasks(), tasks[2..]);
        second.installation.shadow_accepted("urn:dev:1", &tasks[2], Some(8));
        assert_eq!(second.restarted().reported_tasks(), [""; 0]);
    }

    #[test]
    fn a_device_that_came_back_holds_nothing_of_the_one_that_was_removed() {
        let first = Bench::new();
        first.add("endpoint=urn:dev:1,id=one");
        first.schedule("one", "execute", &[("keys", "Device.0.Reboot")]);
        first.installation.run_all_scheduled();
        first.schedule("one", "write", &[("keys", "Device.0.UTC Offset"), ("values", "+02:00")]);
        first.installation.remove_device("urn:dev:1").unwrap();
        assert!(first.restarted().installation.device_views().is_empty());
        first.add("endpoint=urn:dev:1,id=one");
        first.installation.run_all_scheduled();

        let second = first.restarted();
        assert_eq!(second.seen(), first.seen());
        assert_eq!(second.installation.device_views()[0]["reboots"], 0);
        assert_eq!(second.seen()["held"][0]["Device"]["0"]["UTC Offset"], "+02:00");
    }

    #[test]
    fn settings_outlive_a_restart_only_if_they_were_changed() {
        let first = Bench::new();
        let (given, other) = (CertificateDer::from(vec![1]), CertificateDer::from(vec![2]));
        assert!(first.restarted().installation.is_registered_client(&given));
        let saved = first.installation.saved();
        assert_eq!((saved.templates, saved.client_certificates), (None, None));

        first.installation.register_client_certificates(vec![other.clone()]);
        first.installation.remove_template("AWSdiscoverCertAuth").unwrap();
        let second = first.restarted().restarted();
        assert!(second.installation.is_registered_client(&other) && !second.installation.is_registered_client(&given));
        assert_eq!(second.installation.templates(), first.installation.templates());
        assert_eq!(second.installation.templates().len(), 12);
    }

    #[test]
    fn refuses_a_state_that_contradicts_itself() {
        let first = Bench::new();
        first.add("endpoint=urn:dev:1,id=one");
        first.schedule("one", "read", &[("keys", "Location")]);
        let good = serde_json::to_string(&first.installation.saved()).unwrap();
        let device = r#"{"endpoint":"urn:dev:1","id":"one","state":"online"}"#;
        for (from, to, part) in [
            (device, format!("{device},{device}"), "device \"urn:dev:1\" exists already"),
            ("AWSread", "AWSrite".to_owned(), ":1: AWSriteCertAuth has no decoder"),
            ("\"keys\"", "\"kees\"".to_owned(), ":1: parameter \"keys\" is missing"),
        ] {
            let bad = good.replace(from, &to);
            assert_ne!(bad, good, "{from}");
            let refusal = Bench::new().installation.restore(serde_json::from_str(&bad).unwrap()).unwrap_err();
            assert!(refusal.to_string().ends_with(part), "{refusal}");
        }
    }
}
