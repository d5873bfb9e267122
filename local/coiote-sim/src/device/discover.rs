//! Response to Discover: CoRE links (LwM2M Core, section 6.3.2) with the attributes that were written.

use serde_json::Number;

use super::Device;
use super::content::{Content, Instance};
use super::path::Path;

impl Device {
    /// Links of the path and everything below it, down to resources.
    pub(super) fn links(&self, key: &str) -> Result<String, String> {
        let path = self.model.catalogue.resolve(key)?;
        self.model.check_exists(path)?;
        let mut links = Vec::new();
        match path {
            Path::Object(id) => {
                links.push(self.link(path));
                for (instance, content) in self.model.instances(id) {
                    self.instance_links(Path::Instance(id, instance), content, &mut links);
                }
            }
            Path::Instance(..) => self.instance_links(path, self.model.instance(path)?, &mut links),
            Path::Resource(..) | Path::ResourceInstance(..) => links.push(self.link(path)),
        }
        Ok(links.join(","))
    }

    fn instance_links(&self, path: Path, content: &Instance, links: &mut Vec<String>) {
        links.push(self.link(path));
        let (Some((o, i)), Ok(object)) = (path.instance(), self.model.object(path)) else { return };
        // Resources that cannot be read hold no content and exist all the same.
        let there = object.resources.iter().filter(|r| !r.operations.readable() || content.contains_key(&r.id));
        links.extend(there.map(|resource| self.link(Path::Resource(o, i, resource.id))));
    }

    fn link(&self, path: Path) -> String {
        let mut link = format!("<{path}>");
        match path {
            Path::Object(_) => {
                if let Ok(object) = self.model.object(path) {
                    link.push_str(&format!(";ver={}", object.version));
                }
            }
            Path::Resource(_, _, id) => {
                if let Ok(Some(Content::Multiple(values))) = self.model.instance(path).map(|i| i.get(&id)) {
                    link.push_str(&format!(";dim={}", values.len()));
                }
            }
            Path::Instance(..) | Path::ResourceInstance(..) => {}
        }
        for (name, value) in self.attributes.get(&path).into_iter().flatten() {
            if let Some(value) = value.as_ref().map(Number::to_string) {
                link.push_str(&format!(";{name}={value}"));
            }
        }
        link
    }
}
