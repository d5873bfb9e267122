//! Parser of OMA's DDF XML: one or more `Object` elements below `LWM2M`.

use roxmltree::{Document, Node};

use crate::definitions::{self, Object, Resource};

/// Parses a file of definitions. Errors name the line.
pub(crate) fn objects(xml: &[u8]) -> Result<Vec<Object>, String> {
    let xml = std::str::from_utf8(xml).map_err(|error| {
        let line = 1 + xml.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        format!("line {line}: a character that is not in UTF-8; save the file in that encoding")
    })?;
    // Some published files begin with a byte order mark.
    let document = Document::parse(xml.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("line {}: {error}", error.pos().row))?;
    let root = document.root_element();
    if !root.has_tag_name("LWM2M") {
        return Err(format!("{}: the root element is {:?}, not LWM2M", place(root), root.tag_name().name()));
    }
    let found = children(root, "Object").map(object).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(format!("{}: it defines no Object", place(root))) } else { Ok(found) }
}

fn object(node: Node) -> Result<Object, String> {
    let place = place(node);
    let id = definitions::id(&text(node, "ObjectID").ok_or(format!("{place}: no ObjectID"))?, &place)?;
    let place = format!("{place}: object {id}");
    let field = |name| text(node, name).unwrap_or_default();
    let items = children(node, "Resources").flat_map(|resources| children(resources, "Item"));
    definitions::check_mandatory(&field("Mandatory"), &place)?;
    Ok(Object {
        id,
        name: definitions::name(&field("Name"), &place)?,
        version: definitions::version(&field("ObjectVersion"), &place)?,
        multiple: definitions::multiple(&field("MultipleInstances"), &place)?,
        resources: items.map(resource).collect::<Result<_, _>>()?,
    })
}

fn resource(node: Node) -> Result<Resource, String> {
    let place = place(node);
    let id = definitions::id(node.attribute("ID").ok_or(format!("{place}: an Item without an ID"))?, &place)?;
    let place = format!("{place}: resource {id}");
    let field = |name| text(node, name).unwrap_or_default();
    let (readable, writable, executable) = definitions::operations(&field("Operations"), &place)?;
    Ok(Resource {
        id,
        name: definitions::name(&field("Name"), &place)?,
        readable,
        writable,
        executable,
        multiple: definitions::multiple(&field("MultipleInstances"), &place)?,
        data_type: definitions::data_type(&field("Type"), &place)?,
        range: definitions::range(&field("RangeEnumeration"), &place)?,
    })
}

fn children<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// Text of a child element, without comments in it.
fn text(node: Node, name: &'static str) -> Option<String> {
    let child = children(node, name).next()?;
    Some(child.children().filter_map(|part| part.text().filter(|_| part.is_text())).collect())
}

fn place(node: Node) -> String {
    format!("line {}", node.document().text_pos_at(node.range().start).row)
}
