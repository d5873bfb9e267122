//! Completion of the paths of described objects by shells.

use std::ffi::OsStr;

use clap::Command;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use lwm2m::OperationName;
use lwm2m::objects::{Object, Resource};

/// Shells with completion.
pub(crate) const SHELLS: Shells<'static> = Shells(COMPLETERS);
const COMPLETERS: &[&dyn EnvCompleter] = &[&BashWithBlanks, &Elvish, &Fish, &Powershell, &Zsh];

/// Completer for bash that quotes candidates as file names: bash takes a blank in others for the end of a word.
struct BashWithBlanks;

impl EnvCompleter for BashWithBlanks {
    fn name(&self) -> &'static str {
        Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        Bash.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn std::io::Write,
    ) -> Result<(), std::io::Error> {
        let mut script = Vec::new();
        Bash.write_registration(var, name, bin, completer, &mut script)?;
        let script = String::from_utf8_lossy(&script)
            .replace("complete -o nospace", "complete -o filenames -o nospace")
            // Behind a dot the path goes on.
            .replace("=~ [=/:]$", "=~ [=/:.]$");
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        cmd: &mut Command,
        args: Vec<std::ffi::OsString>,
        current_dir: Option<&std::path::Path>,
        buf: &mut dyn std::io::Write,
    ) -> Result<(), std::io::Error> {
        Bash.write_complete(cmd, args, current_dir, buf)
    }
}

/// Adds the completion of paths to each subcommand, of those that its operation can be done with.
pub(crate) fn with_paths(command: Command) -> Command {
    let command = OperationName::ALL.iter().fold(command, |command, operation| {
        let completer = ArgValueCompleter::new(move |typed: &OsStr| candidates(typed, Some(*operation)));
        command.mut_subcommand(subcommand(*operation), |sub| sub.mut_arg("paths", |paths| paths.add(completer)))
    });
    let completer = ArgValueCompleter::new(|typed: &OsStr| candidates(typed, None));
    command.mut_subcommand("datamodel", |sub| sub.mut_arg("path", |path| path.add(completer)))
}

/// Name of the operation's subcommand, such as `cancel-observe`.
pub(crate) fn subcommand(operation: OperationName) -> String {
    let mut name = String::new();
    for letter in operation.as_str().chars() {
        if letter.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Lists the completions of a word: names of objects, then of their resources.
fn candidates(typed: &OsStr, operation: Option<OperationName>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    // As it stands on the line: with a quotation mark before it, or backslashes before blanks.
    let typed = typed.trim_start_matches(['"', '\'']).replace('\\', "");
    let mut found: Vec<(String, String)> = Vec::new();
    for object in Object::all() {
        let name = object.name();
        match typed.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.')) {
            Some((instance, resource)) if instance.parse::<u16>().is_ok() => {
                let fitting = object.resources().filter(|described| described.name().starts_with(resource));
                for described in
                    fitting.filter(|described| operation.is_none_or(|operation| is_addressable(operation, *described)))
                {
                    found.push((format!("{name}.{instance}.{}", described.name()), help(described)));
                }
            }
            _ => {
                let path = if object.is_multiple() { format!("{name}.") } else { format!("{name}.0.") };
                if path.starts_with(&typed) && path != typed {
                    found.push((path, format!("object {}", object.id())));
                }
            }
        }
    }
    // Of several versions, the newest.
    let mut seen = std::collections::HashSet::new();
    found.retain(|(path, _)| seen.insert(path.clone()));
    found.into_iter().map(|(path, help)| CompletionCandidate::new(path).help(Some(help.into()))).collect()
}

fn help(resource: Resource) -> String {
    let (id, data_type) = (resource.id(), format!("{:?}", resource.data_type()));
    if resource.is_executable() { format!("resource {id}, is executed") } else { format!("resource {id}, {data_type}") }
}

/// Says whether the operation can be done with the resource.
fn is_addressable(operation: OperationName, resource: Resource) -> bool {
    use OperationName::*;
    match operation {
        Read | ReadComposite | Observe | ObserveComposite | CancelObserve | CancelObserveComposite => {
            resource.is_readable()
        }
        Write | WriteComposite | Create => resource.is_writable(),
        Execute => resource.is_executable(),
        Discover | WriteAttributes => true,
        // It removes instances.
        Delete => resource.is_multiple(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(typed: &str, operation: OperationName) -> Vec<String> {
        let found = candidates(OsStr::new(typed), Some(operation));
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn paths_are_completed_level_by_level() {
        assert!(values("Dev", OperationName::Read).contains(&"Device.0.".to_owned()));
        assert!(values("LwM2M Ser", OperationName::Read).contains(&"LwM2M Server.".to_owned()));
        assert_eq!(values("Device.0.UTC", OperationName::Read), ["Device.0.UTC Offset"]);
        assert_eq!(values("LwM2M Server.12.Life", OperationName::Write), ["LwM2M Server.12.Lifetime"]);
        assert_eq!(values("\"LwM2M\\ Server.1.Life", OperationName::Write), ["LwM2M Server.1.Lifetime"]);
        assert!(values("Nothing of the kind", OperationName::Read).is_empty());
    }

    #[test]
    fn only_what_the_operation_can_be_done_with() {
        assert!(values("Device.0.Reboot", OperationName::Read).is_empty());
        assert_eq!(values("Device.0.Reb", OperationName::Execute), ["Device.0.Reboot"]);
        assert!(values("Device.0.Battery L", OperationName::Write).is_empty());
    }

    #[test]
    fn every_operation_is_a_subcommand() {
        let command = crate::cli::command();
        for operation in OperationName::ALL {
            assert!(command.find_subcommand(subcommand(*operation)).is_some(), "{operation}");
        }
        command.debug_assert();
    }
}
