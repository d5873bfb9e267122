//! Observations, and the attributes that control their notifications.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::content::{Content, Objects};
use super::notification::{self, NextNotification, NotificationPeriods, Thresholds};
use super::path::Path;
use super::{Device, DeviceState, Outcome};
use crate::attributes::Attributes;
use crate::decoded_operation::{KeyAttributes, Keys};

#[derive(Debug, Serialize)]
pub(super) struct Observation {
    /// Key as it was given; empty for the whole data model.
    key: String,
    composite: bool,
    /// Attributes given with the observation, without those written before.
    attributes: Attributes,
    /// Path of the key; `None` for the whole data model. Several keys may name one path, as with a trailing dot.
    #[serde(skip)]
    path: Option<Path>,
    /// Values of the last notification, or of the response to Observe.
    #[serde(skip)]
    notified: Objects,
    /// Time of that notification or response.
    #[serde(skip)]
    notified_at: Instant,
    /// Resources that have changed enough since then.
    #[serde(skip)]
    pending: BTreeSet<(u16, u16, u16)>,
}

impl Device {
    pub(super) fn observe(&mut self, targets: &[KeyAttributes], now: Instant, outcome: &mut Outcome) {
        for KeyAttributes { key, attributes } in targets {
            let observed = self.observable(key).and_then(|path| {
                self.write_attributes_at(path, attributes)?;
                self.start_observing(key, Some(path), attributes.clone(), false, now);
                Ok(())
            });
            outcome.record(key, observed);
        }
    }

    pub(super) fn observe_composite(&mut self, keys: &Keys, now: Instant, outcome: &mut Outcome) {
        let Keys::Some(keys) = keys else {
            self.start_observing("", None, Attributes::new(), true, now);
            return outcome.record("", Ok(()));
        };
        for key in keys {
            let observed =
                self.observable(key).map(|path| self.start_observing(key, Some(path), Attributes::new(), true, now));
            outcome.record(key, observed);
        }
    }

    pub(super) fn cancel(&mut self, keys: &Keys, composite: bool, outcome: &mut Outcome) {
        let Keys::Some(keys) = keys else {
            self.observations.retain(|observation| observation.composite != composite);
            return outcome.record("all", Ok(()));
        };
        for key in keys {
            let before = self.observations.len();
            let cancelled = self.model.catalogue.resolve(key).and_then(|path| {
                self.observations.retain(|o| o.composite != composite || o.path != Some(path));
                if self.observations.len() < before { Ok(()) } else { Err("it is not observed".to_owned()) }
            });
            outcome.record(key, cancelled);
        }
    }

    pub(super) fn write_attributes(&mut self, targets: &[KeyAttributes], outcome: &mut Outcome) {
        for KeyAttributes { key, attributes } in targets {
            let written = self.model.catalogue.resolve(key).and_then(|path| {
                self.model.check_exists(path)?;
                self.write_attributes_at(path, attributes)
            });
            outcome.record(key, written);
        }
    }

    pub(super) fn forget_observations_below(&mut self, path: Path) {
        self.observations.retain(|observation| !observation.path.is_some_and(|observed| path.holds(observed)));
    }

    fn observable(&self, key: &str) -> Result<Path, String> {
        let path = self.model.catalogue.resolve(key)?;
        self.model.check_exists(path)?;
        if let Path::Resource(_, _, id) | Path::ResourceInstance(_, _, id, _) = path
            && !self.model.resource(path, id)?.operations.readable()
        {
            return Err("the resource is not readable, and so cannot be observed".to_owned());
        }
        Ok(path)
    }

    fn start_observing(
        &mut self,
        key: &str,
        path: Option<Path>,
        attributes: Attributes,
        composite: bool,
        now: Instant,
    ) {
        self.observations.retain(|o| o.composite != composite || o.path != path);
        self.observations.push(Observation {
            key: key.to_owned(),
            composite,
            attributes,
            path,
            notified: self.present(path),
            notified_at: now,
            pending: BTreeSet::new(),
        });
    }

    pub(super) fn forget_all_observations(&mut self) {
        self.observations.clear();
    }

    /// Takes the present values as notified, as if each observation had just begun. Called after a restart.
    pub(crate) fn restart_observations(&mut self, now: Instant) {
        for mut observation in std::mem::take(&mut self.observations) {
            observation.notified = self.present(observation.path);
            observation.notified_at = now;
            observation.pending.clear();
            self.observations.push(observation);
        }
    }

    /// Notes the observed resources that have changed enough for a notification. Called after every change, so that one
    /// that is taken back before its notification is due is not missed.
    pub(crate) fn notice_changes(&mut self) {
        let mut observations = std::mem::take(&mut self.observations);
        for observation in &mut observations {
            let present = self.present(observation.path);
            let notified = &observation.notified;
            let changed = resources(&present).filter(|(at, content)| {
                notification::is_worth_notifying(content_of(notified, *at), content, |instance| {
                    self.thresholds(*at, instance)
                })
            });
            observation.pending.extend(changed.map(|(at, _)| at));
            observation.pending.retain(|at| content_of(&present, *at).is_some());
        }
        self.observations = observations;
    }

    /// Time at which the next notification is due; `None` while the device is not online.
    pub(crate) fn next_notification(&self, now: Instant) -> Option<Instant> {
        let due = self.observations.iter().filter_map(|observation| match self.next(observation, now) {
            NextNotification::Changes | NextNotification::Everything => Some(now),
            NextNotification::At(time) => Some(time),
            NextNotification::Never => None,
        });
        if self.state == DeviceState::Online { due.min() } else { None }
    }

    /// Values that are due, of all observations together, in the form of a result. They count as notified.
    pub(crate) fn notify(&mut self, now: Instant) -> Option<Map<String, Value>> {
        if self.state != DeviceState::Online {
            return None;
        }
        let mut due = Objects::new();
        let mut observations = std::mem::take(&mut self.observations);
        for observation in &mut observations {
            let next = self.next(observation, now);
            if !matches!(next, NextNotification::Changes | NextNotification::Everything) {
                continue;
            }
            let present = self.present(observation.path);
            for (at @ (o, i, r), content) in resources(&present) {
                if next == NextNotification::Everything || observation.pending.contains(&at) {
                    observation.notified.entry(o).or_default().entry(i).or_default().insert(r, content.clone());
                    merge(due.entry(o).or_default().entry(i).or_default().entry(r), content);
                }
            }
            observation.notified_at = now;
            observation.pending.clear();
        }
        self.observations = observations;
        (!due.is_empty()).then(|| self.model.render(&due))
    }

    fn next(&self, observation: &Observation, now: Instant) -> NextNotification {
        self.periods(observation.path).next(observation.notified_at, !observation.pending.is_empty(), now)
    }

    /// Periods by the attributes of the observed path or those above it. The whole data model has none.
    fn periods(&self, path: Option<Path>) -> NotificationPeriods {
        let seconds = |name| {
            let number = self.effective(path?, name)?.as_u64()?;
            Some(Duration::from_secs(number))
        };
        NotificationPeriods { pmin: seconds("pmin").unwrap_or_default(), pmax: seconds("pmax") }
    }

    fn thresholds(&self, (o, i, r): (u16, u16, u16), instance: Option<u16>) -> Thresholds {
        let path = instance.map_or(Path::Resource(o, i, r), |instance| Path::ResourceInstance(o, i, r, instance));
        let number = |name| self.effective(path, name).and_then(Number::as_f64);
        Thresholds { gt: number("gt"), lt: number("lt"), st: number("st") }
    }

    /// Attribute of the path, or of the nearest path above it that has it.
    fn effective(&self, path: Path, name: &str) -> Option<&Number> {
        path.and_above().find_map(|path| self.attributes.get(&path)?.get(name)?.as_ref())
    }

    /// Readable values at the path; none if it is gone.
    fn present(&self, path: Option<Path>) -> Objects {
        let Some(path) = path else { return self.model.read_all() };
        let mut objects = Objects::new();
        match self.model.read(path, &mut objects) {
            Ok(()) => objects,
            Err(_) => Objects::new(),
        }
    }

    /// Changes the named attributes of the path, or none of them if they would contradict each other.
    fn write_attributes_at(&mut self, path: Path, attributes: &Attributes) -> Result<(), String> {
        let mut kept = self.attributes.get(&path).cloned().unwrap_or_default();
        for (name, value) in attributes {
            match value {
                Some(number) => kept.insert(name.clone(), Some(number.clone())),
                None => kept.remove(name),
            };
        }
        self.check_attributes(path, &kept)?;
        if kept.is_empty() {
            self.attributes.remove(&path);
        } else {
            self.attributes.insert(path, kept);
        }
        Ok(())
    }

    /// Checks attributes by LwM2M Core, section 5.1.2: thresholds belong to numeric resources, and lt + 2·st < gt.
    ///
    /// A pmax below pmin is legal and ignored.
    fn check_attributes(&self, path: Path, attributes: &Attributes) -> Result<(), String> {
        let number = |name: &str| attributes.get(name).and_then(Option::as_ref).and_then(Number::as_f64);
        let (gt, lt, st) = (number("gt"), number("lt"), number("st"));
        if gt.or(lt).or(st).is_some() {
            let numeric = match path {
                Path::Resource(o, _, r) | Path::ResourceInstance(o, _, r, _) => {
                    self.model.catalogue.resource(o, r).is_some_and(|resource| resource.kind.is_numeric())
                }
                Path::Object(_) | Path::Instance(..) => false,
            };
            if !numeric {
                return Err("gt, lt and st are for numeric resources only".to_owned());
            }
        }
        if st.is_some_and(|st| st < 0.0) {
            return Err("st is not negative".to_owned());
        }
        match (gt, lt) {
            (Some(gt), Some(lt)) if lt + 2.0 * st.unwrap_or_default() >= gt => {
                Err("lt + 2*st has to be less than gt".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn resources(objects: &Objects) -> impl Iterator<Item = ((u16, u16, u16), &Content)> {
    objects.iter().flat_map(|(&o, instances)| {
        instances.iter().flat_map(move |(&i, instance)| instance.iter().map(move |(&r, content)| ((o, i, r), content)))
    })
}

fn content_of(objects: &Objects, (o, i, r): (u16, u16, u16)) -> Option<&Content> {
    objects.get(&o)?.get(&i)?.get(&r)
}

/// Merges resource instances that several observations notify of one resource.
fn merge(entry: Entry<'_, u16, Content>, content: &Content) {
    match (entry, content) {
        (Entry::Occupied(mut held), Content::Multiple(more)) => {
            if let Content::Multiple(values) = held.get_mut() {
                values.extend(more.iter().map(|(id, text)| (*id, text.clone())));
            }
        }
        (Entry::Occupied(mut held), Content::Single(_)) => {
            held.insert(content.clone());
        }
        (Entry::Vacant(place), _) => {
            place.insert(content.clone());
        }
    }
}
