//! Parsing of definitions by the build: published DDF files, including odd ones, and errors for invalid ones.

#![allow(clippy::panic, clippy::unwrap_used)] // A test that fails panics.

#[path = "../build/ddf.rs"]
mod ddf;
#[path = "../build/definitions.rs"]
mod definitions;
#[path = "../build/ranges.rs"]
mod ranges;
#[path = "../build/tables.rs"]
mod tables;

/// A DDF file with the parts that a test varies.
fn definition(object: &str, items: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- Copyright notice, as in every published file -->
<LWM2M xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="http://www.openmobilealliance.org/tech/profiles/LWM2M.xsd">
  <Object ObjectType="MODefinition">
    {object}
    <Resources>{items}</Resources>
    <Description2><![CDATA[]]></Description2>
  </Object>
</LWM2M>"#
    )
}

const OBJECT: &str = "<Name>Boiler</Name><Description1><![CDATA[A boiler & more]]></Description1><ObjectID>32801</ObjectID>\
    <ObjectURN>urn:oma:lwm2m:x:32801</ObjectURN><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory>";

fn item(id: &str, fields: &str) -> String {
    format!("<Item ID=\"{id}\"><Name>Thing</Name>{fields}</Item>")
}

#[test]
fn a_published_file_is_parsed() {
    let items = [
        item(
            "0",
            "<Operations>RW</Operations><MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Type>Integer</Type><RangeEnumeration>0..100</RangeEnumeration><Units>%</Units><Description>x</Description>",
        ),
        // Empty elements, as executable resources have them
        item(
            "1",
            "<Operations>E</Operations><MultipleInstances>Single</MultipleInstances><Type></Type><RangeEnumeration/><Units/>",
        ),
        // Another case, spaces, a bootstrap-only resource, no Type at all
        item("2", "<Operations> </Operations><Type> unsigned integer </Type>"),
        item("3", "<Operations>rw</Operations>"),
    ];
    let xml = definition(OBJECT, &items.concat());
    for xml in [xml.clone(), format!("\u{feff}{xml}"), xml.replace('\n', "\r\n")] {
        let [boiler] = &ddf::objects(xml.as_bytes()).unwrap()[..] else { panic!("not one object") };
        assert_eq!((boiler.id, boiler.name.as_str(), boiler.multiple), (32801, "Boiler", true));
        let resources: Vec<_> = boiler
            .resources
            .iter()
            .map(|r| {
                (r.id, r.name.as_str(), r.readable, r.writable, r.executable, r.multiple, r.data_type, r.range.as_str())
            })
            .collect();
        assert_eq!(
            resources,
            [
                (0, "Thing", true, true, false, true, "Integer", "0..100"),
                (1, "Thing", false, false, true, false, "None", ""),
                (2, "Thing", false, false, false, false, "UnsignedInteger", ""),
                (3, "Thing", true, true, false, false, "None", ""),
            ]
        );
        let source = tables::source(ddf::objects(xml.as_bytes()).unwrap()).unwrap();
        assert!(source.contains("BoilerThing") && source.contains("static OBJECTS: [ObjectRow; 1]"), "{source}");
    }
}

#[test]
fn several_objects_and_several_versions_in_one_file() {
    let one = definition(OBJECT, "");
    let (_, object) = one.split_once("<Object ").unwrap();
    let both = one.replace("</LWM2M>", &format!("<Object {object}"));
    assert_eq!(ddf::objects(both.as_bytes()).unwrap().len(), 2);
    assert!(tables::source(ddf::objects(both.as_bytes()).unwrap()).is_ok());
}

#[test]
fn ranges_are_understood_in_the_forms_that_are_in_use() {
    use ranges::{Limit, limit};
    let words = |words: &[&str], or_length| {
        Some(Limit::Words { words: words.iter().map(|word| (*word).to_owned()).collect(), or_length })
    };
    let value = |intervals: &[(f64, f64)]| Some(Limit::Value(intervals.to_vec()));
    let length = |intervals: &[(f64, f64)]| Some(Limit::Length(intervals.to_vec()));
    for (range, data_type, expected) in [
        ("0..100", "Integer", value(&[(0.0, 100.0)])),
        ("1...63", "Integer", value(&[(1.0, 63.0)])),
        ("-30..-120", "Integer", value(&[(-120.0, -30.0)])),
        ("0-100", "Integer", value(&[(0.0, 100.0)])),
        ("[1:4]", "Integer", value(&[(1.0, 4.0)])),
        ("0..3, 99", "Integer", value(&[(0.0, 3.0), (99.0, 99.0)])),
        ("0 or 2", "Integer", value(&[(0.0, 0.0), (2.0, 2.0)])),
        ("\"0\";\"1\"", "Integer", value(&[(0.0, 0.0), (1.0, 1.0)])),
        ("8 bit", "Integer", value(&[(-128.0, 255.0)])),
        ("16-bit", "UnsignedInteger", value(&[(0.0, 65535.0)])),
        ("1..8", "Time", value(&[(1.0, 8.0)])),
        ("5", "Integer", None),
        ("-5", "Integer", None),
        // Open at one end, or no limit at all
        ("0..inf", "Float", value(&[(0.0, f64::INFINITY)])),
        ("-inf..0", "Float", value(&[(f64::NEG_INFINITY, 0.0)])),
        ("-inf..inf", "Float", None),
        ("-infinity..1e999", "Float", None),
        ("nan..1", "Float", None),
        ("NaN..NaN", "Integer", None),
        ("<7 to >12.5", "Integer", None),
        ("0..", "Integer", None),
        ("..", "Integer", None),
        (",", "Integer", None),
        ("0..1); panic!(", "Float", None),
        ("ON;OFF", "Float", None),
        ("\"", "Integer", None),
        // Texts: their length, or a list
        ("0..255", "String", length(&[(0.0, 255.0)])),
        ("0-255 bytes", "String", length(&[(0.0, 255.0)])),
        ("1..64 Bytes", "String", length(&[(1.0, 64.0)])),
        ("0 or 26 Bytes", "String", length(&[(0.0, 0.0), (26.0, 26.0)])),
        ("64 Bytes", "String", None),
        ("64", "String", None),
        ("10,26", "String", words(&["10", "26"], true)),
        ("\"eco\",\"comfort\"", "String", words(&["eco", "comfort"], false)),
        ("'a, b' ; 'c'", "String", words(&["a, b", "c"], false)),
        ("\u{201c}eco\u{201d} | \u{201c}comfort\u{201d}", "String", words(&["eco", "comfort"], false)),
        ("\"eco\"", "String", words(&["eco"], false)),
        ("ON;OFF", "String", words(&["ON", "OFF"], false)),
        ("eco or comfort", "String", words(&["eco", "comfort"], false)),
        ("wi-fi;cellular", "String", words(&["wi-fi", "cellular"], false)),
        ("\"a-z\",\"0-9\"", "String", words(&["a-z", "0-9"], false)),
        // Characters or numbers
        ("a-z,A-Z,0-9", "String", None),
        ("a-z, _", "String", None),
        ("10-20, 30-40", "String", None),
        // Commas between thousands
        ("1,000..2,000", "Integer", None),
        ("1,500..3,500", "Float", None),
        ("1,000..2,000", "String", None),
        ("1,000..2,000", "Opaque", None),
        ("0..10, 20..100", "Integer", value(&[(0.0, 10.0), (20.0, 100.0)])),
        ("0.5..1, 2", "Float", value(&[(0.5, 1.0), (2.0, 2.0)])),
        ("The possible values of Resource are listed in 5.3.1.1", "String", None),
        ("see RFC 5646, section 2", "String", None),
        ("", "String", None),
        ("1..8", "Opaque", length(&[(1.0, 8.0)])),
        ("16-32-48 bytes", "Opaque", length(&[(16.0, 16.0), (32.0, 32.0), (48.0, 48.0)])),
        ("8 bit", "Opaque", None),
        ("0..1", "Boolean", None),
        ("0..1", "None", None),
    ] {
        assert_eq!(limit(range, data_type), expected, "{range:?} of {data_type}");
    }
}

/// The generated source consists of numbers, names of our own, and one escaped text.
#[test]
fn no_text_of_a_definition_gets_into_the_generated_source_unchecked() {
    let odd = "a\"]; fn main() {} /* \\ { } \u{202e} \u{1f600} &lt; '";
    for data_type in ["Integer", "Float", "String", "Opaque", "Time", "Boolean", "Objlnk"] {
        for range in ["-inf..inf", "0..inf", "nan..1", "1e999..2", "-0..0", odd, "\"a\\\",\"b\"", "\"\u{202e}\",\"x\""]
        {
            let xml = definition(
                OBJECT,
                &format!(
                    "<Item ID=\"1\"><Name>{odd}</Name><Operations>RW</Operations><Type>{data_type}</Type>\
                     <RangeEnumeration>{range}</RangeEnumeration></Item>"
                ),
            );
            let source = tables::source(ddf::objects(xml.as_bytes()).unwrap()).unwrap();
            assert!(source.is_ascii());
            let (before, text) = source.split_once("static TEXTS: &str = \"").unwrap();
            let (text, after) = text.split_once("\";\n").unwrap();
            // No character of the text ends the literal
            assert!(!text.replace("\\\\", "").replace("\\\"", "").contains('"'), "{text}");
            let rest = format!("{before}{after}").replace("f64::INFINITY", "").replace("f64::NEG_INFINITY", "");
            assert!(!rest.contains("inf") && !rest.contains("NaN") && !rest.contains("main"), "{rest}");
        }
    }
}

#[test]
fn the_newest_version_comes_first_and_a_name_keeps_its_blanks() {
    let version = |version: &str, name: &str| {
        let object = OBJECT.replace("Boiler", name).replace("</ObjectURN>", &format!("</ObjectURN>{version}"));
        let xml = definition(&object, "");
        ddf::objects(xml.as_bytes()).unwrap().remove(0)
    };
    let objects = vec![
        version("<ObjectVersion>1.9</ObjectVersion>", "Old"),
        version("<ObjectVersion>1.10</ObjectVersion>", "Newest  <!-- blanks -->one"),
        version("", "First"),
    ];
    let source = tables::source(objects).unwrap();
    assert!(source.contains("\"Newest  oneOldFirst\""), "{source}");
}

#[test]
fn errors_name_the_place() {
    for (xml, expected) in [
        (String::new(), "the document does not have a root node"),
        ("<LWM2M>".to_owned(), "line 1: the root node was opened but never closed"),
        ("<LWM2M>\n<a></b></LWM2M>".to_owned(), "line 2: expected 'a' tag, not 'b' at 2:4"),
        ("<html></html>".to_owned(), "line 1: the root element is \"html\", not LWM2M"),
        ("<LWM2M></LWM2M>".to_owned(), "line 1: it defines no Object"),
        (definition("<Name>Boiler</Name>", ""), "line 4: no ObjectID"),
        (
            definition("<Name>Boiler</Name><ObjectID>70000</ObjectID>", ""),
            "line 4 \"70000\" is not a number from 0 to 65535",
        ),
        (definition("<ObjectID>5</ObjectID>", ""), "line 4: object 5 has no name"),
        (definition(OBJECT, "<Item><Name>x</Name></Item>"), "line 6: an Item without an ID"),
        (
            definition(OBJECT, &item("1", "<Operations>X</Operations>")),
            "line 6: resource 1: Operations is \"X\", not R, W, RW, E or empty",
        ),
        (
            definition(OBJECT, &item("1", "<Type>Double</Type>")),
            "line 6: resource 1: Type is \"Double\", which LwM2M does not have",
        ),
        (
            definition(OBJECT, &item("1", "<MultipleInstances>Many</MultipleInstances>")),
            "line 6: resource 1: MultipleInstances is \"Many\"",
        ),
        (
            definition(&OBJECT.replace("Boiler<", &format!("{}<", "x".repeat(256))), ""),
            "line 4: object 32801: a name of 256 bytes",
        ),
        (
            definition(&OBJECT.replace("Boiler<", "Boi\u{7f}ler<"), ""),
            "line 4: object 32801: a control character in the name",
        ),
        (
            definition(OBJECT, &item("1", &format!("<RangeEnumeration>{}</RangeEnumeration>", "1,".repeat(2_001)))),
            "line 6: resource 1: a RangeEnumeration of 4002 bytes",
        ),
        (
            definition(&OBJECT.replace("</ObjectURN>", "</ObjectURN><ObjectVersion>new</ObjectVersion>"), ""),
            "line 4: object 32801: ObjectVersion is \"new\"",
        ),
        (definition(&OBJECT.replace(">Optional<", ">Perhaps<"), ""), "line 4: object 32801: Mandatory is \"Perhaps\""),
    ] {
        match ddf::objects(xml.as_bytes()) {
            Ok(_) => panic!("taken: {xml}"),
            Err(message) => assert!(message.contains(expected), "{message}\nexpected {expected}"),
        }
    }
}
