//! The state file: the state that outlives a restart, written whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::DeviceState;
use crate::external_certificate::ExternalCertificate;
use crate::publication::Publication;
use crate::task::SavedTask;

/// State of the installation that outlives a restart.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedState {
    /// In the order in which they were added.
    pub(crate) devices: Vec<SavedDevice>,
    pub(crate) task_prefix: String,
    /// Oldest first.
    pub(crate) tasks: Vec<SavedTask>,
    /// Present only if the control API changed them: they then replace those of the options.
    pub(crate) templates: Option<BTreeSet<String>>,
    /// In DER, and present only if calls changed them.
    pub(crate) client_certificates: Option<Vec<Vec<u8>>>,
    #[serde(default)]
    pub(crate) external_certificate: SavedCertificate,
    /// Endpoint names of the devices that the integration has announced.
    #[serde(default)]
    pub(crate) announced: BTreeSet<String>,
    /// Publications that AWS has not confirmed, oldest first.
    #[serde(default)]
    pub(crate) unconfirmed: Vec<Publication>,
}

/// State of a device that does not follow from its tasks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedDevice {
    pub(crate) endpoint: String,
    pub(crate) id: String,
    pub(crate) state: DeviceState,
    /// Values that it changed by itself, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) own_values: BTreeMap<String, String>,
    /// Number of operations after which all observations ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) observations_ended_after: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refusals: BTreeMap<String, String>,
}

/// The certificate that Coiote connects to AWS with.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SavedCertificate {
    /// That of the options, if any.
    #[default]
    AsGiven,
    Removed,
    Replaced(ExternalCertificate),
}

// serde prescribes the reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Error)]
pub(crate) enum StateFileError {
    #[error("--state {path}: {reason}. Give a file that the local Coiote wrote, or remove it to start afresh.")]
    Unusable { path: String, reason: String },
    #[error("--state {path}: {error}. Give a file in a folder that is there and can be written to.")]
    NoPlace { path: String, error: io::Error },
}

impl StateFileError {
    pub(crate) fn unusable(path: &Path, reason: impl ToString) -> Self {
        Self::Unusable { path: path.display().to_string(), reason: reason.to_string() }
    }

    fn no_place(path: &Path, error: io::Error) -> Self {
        Self::NoPlace { path: path.display().to_string(), error }
    }
}

/// The state of an earlier run, if there was one.
pub(crate) fn read(path: &Path) -> Result<Option<SavedState>, StateFileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Better noticed now than when there is state to lose.
            return fs::metadata(folder_of(path)).map(|_| None).map_err(|error| StateFileError::no_place(path, error));
        }
        Err(error) => return Err(StateFileError::unusable(path, error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| StateFileError::unusable(path, error))
}

/// Replaces the state file. Only its owner may read it.
pub(crate) fn write(path: &Path, state: &SavedState) -> Result<(), StateFileError> {
    replace(path, state).map_err(|error| StateFileError::no_place(path, error))
}

fn replace(path: &Path, state: &SavedState) -> io::Result<()> {
    let new = path.with_added_extension("new");
    // A file that an earlier run could not finish may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::external_certificate;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("coiote-sim-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn state() -> SavedState {
        let (certificate, key) = external_certificate::tests::made();
        let device = SavedDevice {
            endpoint: "urn:dev:1".to_owned(),
            id: "one".to_owned(),
            state: DeviceState::Sleeping,
            own_values: BTreeMap::from([("Device.0.Battery Level".to_owned(), "96".to_owned())]),
            observations_ended_after: 2,
            refusals: BTreeMap::new(),
        };
        SavedState {
            devices: vec![device],
            task_prefix: "d:abc".to_owned(),
            tasks: Vec::new(),
            templates: None,
            client_certificates: Some(vec![vec![1, 2, 255]]),
            external_certificate: SavedCertificate::Replaced(ExternalCertificate::new(certificate, key).unwrap()),
            announced: BTreeSet::from(["urn:dev:1".to_owned()]),
            unconfirmed: vec![Publication::announcement("urn:dev:1", "anjay.demo_client")],
        }
    }

    #[test]
    fn is_read_as_it_was_written_and_belongs_to_its_owner() {
        let folder = Folder::new("state");
        let file = folder.0.join("coiote.json");
        fs::write(folder.0.join("coiote.json.new"), "left behind").unwrap();
        fs::write(&file, "an earlier one").unwrap();
        let state = state();
        write(&file, &state).unwrap();
        let read = read(&file).unwrap().unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(state).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_start_from_nothing_if_it_can_be_written() {
        let folder = Folder::new("no-state");
        assert!(read(&folder.0.join("coiote.json")).unwrap().is_none());
        assert!(read(Path::new("certainly-not-there.json")).unwrap().is_none());
        let error = read(&folder.0.join("missing/coiote.json")).unwrap_err().to_string();
        assert!(error.contains("missing/coiote.json: No such file or directory"), "{error}");
        assert!(error.ends_with("Give a file in a folder that is there and can be written to."), "{error}");
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let folder = Folder::new("bad-state");
        let file = folder.0.join("coiote.json");
        let more = serde_json::to_string(&state()).unwrap().replace("taskPrefix", "taskPrefixes");
        for (text, part) in [("", "EOF"), ("[]", "invalid length 0"), (more.as_str(), "unknown field `taskPrefixes`")] {
            fs::write(&file, text).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.ends_with("or remove it to start afresh."), "{error}");
        }
        assert!(read(&folder.0).is_err());
    }
}
