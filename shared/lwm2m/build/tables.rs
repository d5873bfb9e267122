//! The tables as Rust source: plain numbers, and one text that holds all names.

use std::collections::HashMap;
use std::fmt::Write;

use crate::definitions::Object;

pub(crate) fn source(mut objects: Vec<Object>) -> Result<String, String> {
    // By id, so that a binary search finds them; the standard's description before the user's own.
    objects.sort_by_key(|object| object.id);
    for object in &mut objects {
        object.resources.sort_by_key(|resource| resource.id);
    }

    let mut texts = Texts::default();
    let mut ranges = Ranges::default();
    let (mut object_rows, mut resource_rows) = (String::new(), String::new());
    let mut resources = 0;
    for object in &objects {
        let name = texts.add(&object.name);
        let count = object.resources.len();
        let _ = writeln!(
            object_rows,
            "    ObjectRow {{ id: {}, name: {name}, multiple: {}, first: {resources}, count: {count} }},",
            object.id, object.multiple
        );
        resources += count;
        for resource in &object.resources {
            let name = texts.add(&resource.name);
            let range = ranges.add(&resource.range, resource.kind, &mut texts);
            let _ = writeln!(
                resource_rows,
                "    ResourceRow {{ id: {}, name: {name}, readable: {}, writable: {}, executable: {}, multiple: {}, \
                 kind: Kind::{}, range: {range} }},",
                resource.id,
                resource.readable,
                resource.writable,
                resource.executable,
                resource.multiple,
                resource.kind
            );
        }
    }
    if resources > usize::from(u16::MAX) || texts.all.len() > u32::MAX as usize {
        return Err(format!("{resources} resources are more than the tables can hold"));
    }

    let mut by_name: Vec<(&str, usize)> = objects.iter().map(|object| object.name.as_str()).zip(0..).collect();
    by_name.sort();
    let by_name: Vec<usize> = by_name.into_iter().map(|(_, index)| index).collect();

    let longest = objects.iter().map(|object| object.name.len()).max().unwrap_or_default();
    Ok(format!(
        "const LONGEST_OBJECT_NAME: usize = {longest};\n\
         static TEXTS: &str = {:?};\n\
         static OBJECTS: [ObjectRow; {}] = [\n{object_rows}];\n\
         static BY_NAME: [u16; {}] = {by_name:?};\n\
         static RESOURCES: [ResourceRow; {resources}] = [\n{resource_rows}];\n\
         static RANGES: [RangeRow; {}] = [\n{}];\n\
         static INTERVALS: [(f64, f64); {}] = {:?};\n",
        texts.all,
        objects.len(),
        objects.len(),
        ranges.count,
        ranges.rows,
        ranges.intervals.len(),
        ranges.intervals,
    ))
}

/// Every text once.
#[derive(Default)]
struct Texts {
    all: String,
    at: HashMap<String, usize>,
}

impl Texts {
    fn add(&mut self, text: &str) -> String {
        let at = *self.at.entry(text.to_owned()).or_insert_with(|| {
            let at = self.all.len();
            self.all.push_str(text);
            at
        });
        format!("Text {{ at: {at}, len: {} }}", text.len())
    }
}

#[derive(Default)]
struct Ranges {
    count: usize,
    rows: String,
    intervals: Vec<(f64, f64)>,
    known: HashMap<(String, bool), usize>,
}

impl Ranges {
    /// The index of the range plus one; 0 where there is none that can be checked.
    fn add(&mut self, range: &str, kind: &str, texts: &mut Texts) -> usize {
        let of_length = kind == "String";
        let numeric = matches!(kind, "Integer" | "UnsignedInteger" | "Float" | "Time");
        let Some(intervals) = (of_length || numeric).then(|| intervals(range, of_length)).flatten() else { return 0 };
        if let Some(known) = self.known.get(&(range.to_owned(), of_length)) {
            return *known;
        }
        let text = texts.add(range);
        let (first, count) = (self.intervals.len(), intervals.len());
        let _ = writeln!(
            self.rows,
            "    RangeRow {{ text: {text}, of_length: {of_length}, first: {first}, count: {count} }},"
        );
        self.intervals.extend(intervals);
        self.count += 1;
        self.known.insert((range.to_owned(), of_length), self.count);
        self.count
    }
}

/// `0..100`, also `1...63` and `-30..-120` as some are written; lists such as `0..3, 99`. A number that stands alone
/// means different things in different definitions and is not checked; a length is only checked against a range.
fn intervals(range: &str, of_length: bool) -> Option<Vec<(f64, f64)>> {
    let range = range.strip_suffix("bytes").filter(|_| of_length).unwrap_or(range).trim();
    let parts: Vec<&str> = range.split(',').map(str::trim).collect();
    let alone = parts.len() == 1;
    parts
        .into_iter()
        .map(|part| match part.split_once("..") {
            Some((from, to)) => {
                let (from, to): (f64, f64) =
                    (from.trim().parse().ok()?, to.trim_start_matches('.').trim().parse().ok()?);
                Some((from.min(to), from.max(to)))
            }
            None if alone || of_length => None,
            None => part.parse().ok().map(|value: f64| (value, value)),
        })
        .collect()
}
