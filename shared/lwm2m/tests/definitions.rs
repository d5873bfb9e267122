//! What the build reads: OMA's DDF files as they are published, odd ones included, and what it says of others.

#![allow(clippy::panic, clippy::unwrap_used)] // A test that fails panics.

#[path = "../build/ddf.rs"]
mod ddf;
#[path = "../build/definitions.rs"]
mod definitions;
#[path = "../build/tables.rs"]
mod tables;

/// A definition with the parts that a test varies.
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
fn a_published_file_is_taken() {
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
        let [boiler] = &ddf::objects(&xml).unwrap()[..] else { panic!("not one object") };
        assert_eq!((boiler.id, boiler.name.as_str(), boiler.multiple), (32801, "Boiler", true));
        let told: Vec<_> = boiler
            .resources
            .iter()
            .map(|r| {
                (r.id, r.name.as_str(), r.readable, r.writable, r.executable, r.multiple, r.kind, r.range.as_str())
            })
            .collect();
        assert_eq!(
            told,
            [
                (0, "Thing", true, true, false, true, "Integer", "0..100"),
                (1, "Thing", false, false, true, false, "None", ""),
                (2, "Thing", false, false, false, false, "UnsignedInteger", ""),
                (3, "Thing", true, true, false, false, "None", ""),
            ]
        );
        let source = tables::source(ddf::objects(&xml).unwrap()).unwrap();
        assert!(source.contains("BoilerThing") && source.contains("static OBJECTS: [ObjectRow; 1]"), "{source}");
    }
}

#[test]
fn several_objects_and_several_versions_in_one_file() {
    let one = definition(OBJECT, "");
    let (_, object) = one.split_once("<Object ").unwrap();
    let both = one.replace("</LWM2M>", &format!("<Object {object}"));
    assert_eq!(ddf::objects(&both).unwrap().len(), 2);
    assert!(tables::source(ddf::objects(&both).unwrap()).is_ok());
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    for (xml, expected) in [
        (String::new(), "the document does not have a root node"),
        ("<LWM2M>".to_owned(), "the root node was opened but never closed"),
        ("<LWM2M>\n<a></b></LWM2M>".to_owned(), "2:4"),
        ("<html></html>".to_owned(), "the root element is \"html\", not LWM2M"),
        ("<LWM2M></LWM2M>".to_owned(), "it defines no Object"),
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
    ] {
        match ddf::objects(&xml) {
            Ok(_) => panic!("taken: {xml}"),
            Err(message) => assert!(message.contains(expected), "{message}\nexpected {expected}"),
        }
    }
}
