//! Places in the datamodel shadow's document.

/// A place in the datamodel shadow's document: the names from the object downwards.
///
/// Names may contain dots, so a joined path does not say where its levels end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place<'a>(Vec<&'a str>);

impl<'a> Place<'a> {
    pub(super) fn new(names: impl Into<Vec<&'a str>>) -> Place<'a> {
        Place(names.into())
    }

    /// The place with this name one level down.
    pub(super) fn below(&self, name: &'a str) -> Place<'a> {
        let mut names = self.0.clone();
        names.push(name);
        Place(names)
    }

    pub(super) fn names(&self) -> &[&'a str] {
        &self.0
    }

    /// The names joined by dots, as in Coiote's keys.
    pub(super) fn path(&self) -> String {
        self.0.join(".")
    }

    /// The paths of all levels, from the whole data model (the empty path) down to the place.
    pub(super) fn levels(&self) -> Vec<String> {
        (0..=self.0.len()).map(|level| self.0.iter().take(level).copied().collect::<Vec<_>>().join(".")).collect()
    }
}
