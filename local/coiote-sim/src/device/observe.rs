//! Observations, and the attributes that steer their notifications.

use serde::Serialize;
use serde_json::Number;

use super::path::Path;
use super::{Device, Outcome};
use crate::attributes::Attributes;
use crate::operation::{KeyAttributes, Keys};

#[derive(Debug, Serialize)]
pub(super) struct Observation {
    /// As it was asked for; empty for the whole data model.
    key: String,
    composite: bool,
    /// What was given with the observation, not what was written before.
    attributes: Attributes,
    /// Several keys may name one path (a trailing dot means nothing); none for the whole data model.
    #[serde(skip)]
    path: Option<Path>,
}

impl Device {
    pub(super) fn observe(&mut self, targets: &[KeyAttributes], outcome: &mut Outcome) {
        for KeyAttributes { key, attributes } in targets {
            let observed = self.observable(key).and_then(|path| {
                self.write_attributes_at(path, attributes)?;
                self.start_observing(key, Some(path), attributes.clone(), false);
                Ok(())
            });
            outcome.record(key, observed);
        }
    }

    pub(super) fn observe_composite(&mut self, keys: &Keys, outcome: &mut Outcome) {
        let Keys::Some(keys) = keys else {
            self.start_observing("", None, Attributes::new(), true);
            return outcome.record("", Ok(()));
        };
        for key in keys {
            let observed =
                self.observable(key).map(|path| self.start_observing(key, Some(path), Attributes::new(), true));
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

    fn start_observing(&mut self, key: &str, path: Option<Path>, attributes: Attributes, composite: bool) {
        self.observations.retain(|o| o.composite != composite || o.path != path);
        self.observations.push(Observation { key: key.to_owned(), composite, attributes, path });
    }

    /// Attributes that are not named stay as they are; all are refused together when they contradict each other.
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

    /// LwM2M Core, 5.1.2: thresholds belong to numeric resources; lt + 2·st < gt. (pmax below pmin is legal: pmax is then ignored.)
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
