//! Compiles object definitions into constant tables: those of OMA's registry from `objects.tsv` and `object-versions.tsv`, and
//! the user's own from the project's `objects` folder, which are in OMA's DDF XML.
//!
//! The tables contain no pointers, so nothing has to be set up or relocated when a function starts, and pages that are not
//! used are not even read from disk.

#[path = "build/ddf.rs"]
mod ddf;
#[path = "build/definitions.rs"]
mod definitions;
#[path = "build/ranges.rs"]
mod ranges;
#[path = "build/registry.rs"]
mod registry;
#[path = "build/tables.rs"]
mod tables;

use std::path::{Path, PathBuf};
use std::process::exit;
use std::{env, fs};

use definitions::Object;

fn main() {
    match generate() {
        Ok(()) => {}
        Err(message) => {
            println!("cargo::error={message}");
            exit(1);
        }
    }
}

fn generate() -> Result<(), String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");

    let standard = here.join("objects.tsv");
    println!("cargo::rerun-if-changed={}", standard.display());
    let mut objects = registry::objects(&read(&standard)?).map_err(|why| format!("{}: {why}", standard.display()))?;

    let versions = here.join("object-versions.tsv");
    println!("cargo::rerun-if-changed={}", versions.display());
    let older = registry::older_versions(&read(&versions)?, &objects);
    objects.extend(older.map_err(|why| format!("{}: {why}", versions.display()))?);

    let own = here.join("../../objects");
    println!("cargo::rerun-if-changed={}", own.display());
    for file in definition_files(&own)? {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let definitions = fs::read(&file).map_err(|error| error.to_string());
        let own = definitions.and_then(|definitions| ddf::objects(&definitions));
        let own: Vec<Object> = own.map_err(|why| format!("objects/{name}: {why}"))?;
        objects.extend(own);
    }

    let into = Path::new(&variable("OUT_DIR")?).join("tables.rs");
    fs::write(&into, tables::source(objects)?).map_err(|error| format!("{}: {error}", into.display()))
}

/// XML files of a folder, sorted by name; empty where there is no such folder.
fn definition_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set; is this not run by cargo?"))
}
