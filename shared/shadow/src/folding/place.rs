//! A place in the data model, as the names on the way to it.

/// The names from the object down to the place itself.
///
/// Names may hold dots, so a joined path does not tell where its levels end; a place does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place<'a>(Vec<&'a str>);

impl<'a> Place<'a> {
    pub(super) fn new(names: impl Into<Vec<&'a str>>) -> Place<'a> {
        Place(names.into())
    }

    pub(super) fn below(&self, name: &'a str) -> Place<'a> {
        let mut names = self.0.clone();
        names.push(name);
        Place(names)
    }

    pub(super) fn names(&self) -> &[&'a str] {
        &self.0
    }

    /// The names joined by dots, as Coiote's keys are.
    pub(super) fn path(&self) -> String {
        self.0.join(".")
    }

    /// The paths of all levels, from the whole data model, which is empty, down to the place.
    pub(super) fn levels(&self) -> Vec<String> {
        (0..=self.0.len()).map(|level| self.0.iter().take(level).copied().collect::<Vec<_>>().join(".")).collect()
    }
}
