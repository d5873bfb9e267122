//! Actions of devices without a task: changes of values, notifications, Send.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value};
use tracing::info;

use super::{Installation, Refusal};
use crate::device::Drift;
use crate::publication::Publication;

impl Installation {
    /// Has the device send its present values (LwM2M Send), and returns them.
    pub(crate) fn send(&self, endpoint: &str, paths: &[String]) -> Result<Map<String, Value>, Refusal> {
        let mut inner = self.inner();
        let device = inner.by_endpoint(endpoint)?;
        if !device.is_registered() {
            return Err(Refusal::Invalid("the device is deregistered, and sends nothing".to_owned()));
        }
        if paths.is_empty() {
            return Err(Refusal::Invalid("paths: there are none".to_owned()));
        }
        let values = device.values_at(paths).map_err(Refusal::Invalid)?;
        info!("{endpoint}: sends {}", paths.join(", "));
        self.publish(&mut inner, Publication::data_model(endpoint, values.clone()));
        Ok(values)
    }

    /// Changes values inside the device.
    pub(crate) fn set_values(&self, endpoint: &str, values: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let device = inner.by_endpoint(endpoint)?;
        device.set_values(values).map_err(Refusal::Invalid)?;
        info!("{endpoint}: values changed: {values:?}");
        device.notice_changes();
        self.wake_timer();
        Ok(())
    }

    pub(crate) fn set_drift(&self, endpoint: &str, seconds: f64) -> Result<(), Refusal> {
        let drift = Drift::new(seconds, Instant::now()).map_err(Refusal::Invalid)?;
        let mut inner = self.inner();
        inner.by_endpoint(endpoint)?.set_drift(drift);
        info!("{endpoint}: values drift every {seconds} s (0: not at all)");
        self.wake_timer();
        Ok(())
    }

    pub(crate) fn set_refusals(&self, endpoint: &str, refusals: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.by_endpoint(endpoint)?.set_refusals(refusals).map_err(Refusal::Invalid)?;
        info!("{endpoint}: refuses {refusals:?}");
        Ok(())
    }

    /// Runs drift, notifications and held results when they are due, until the future is dropped.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.run_due(Instant::now());
            let due = async {
                match next {
                    Some(time) => tokio::time::sleep_until(time.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.timer_changed.notified() => {}
            }
        }
    }

    /// Runs everything that is due, and returns when the next thing is.
    pub(super) fn run_due(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.inner();
        let mut notifications = Vec::new();
        for device in &mut inner.devices {
            if device.next_drift().is_some_and(|time| time <= now) {
                device.drift(now);
                device.notice_changes();
            }
            if let Some(values) = device.notify(now) {
                notifications.push((device.endpoint.clone(), values));
            }
        }
        for (endpoint, values) in notifications {
            self.publish(&mut inner, Publication::data_model(&endpoint, values));
        }
        let (due, held) = std::mem::take(&mut inner.held).into_iter().partition(|(time, _)| *time <= now);
        inner.held = held;
        let mut due: Vec<_> = due;
        due.sort_by_key(|(time, _)| *time);
        for (_, command) in due {
            self.command(command);
        }
        let held = inner.held.iter().map(|(time, _)| *time);
        let devices = inner.devices.iter();
        devices.flat_map(|device| [device.next_drift(), device.next_notification(now)]).flatten().chain(held).min()
    }

    /// Has the timer look again: something may be due now, or earlier than before.
    pub(super) fn wake_timer(&self) {
        self.timer_changed.notify_one();
    }
}
