//! Calico's resources out of YAML and JSON, typed, each value with its line.
//!
//! ```text
//! text ─► documents (streams, here-documents, fences) ─► tree with lines ─► Resource + Problems ─► Resources
//! ```
//!
//! Every form that files come in is read: multi-document YAML, `List` and the typed lists, top-level sequences, JSON, dumps
//! of `kubectl` and `calicoctl`, here-documents of run-books; both API groups. What does not fit is a [`Problem`] with file,
//! line and field; the rest of the resource stays. A resource that the API server or Felix would refuse is kept and marked.

mod cursor;
mod documents;
mod kind;
mod kinds;
mod problem;
mod rules;
#[cfg(test)]
mod tests;
mod types;
mod validate;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use cursor::nearest;
pub use kind::Kind;
pub use problem::{Problem, ProblemKind};
pub use types::*;

use crate::calico::settings::Place;
use crate::calico::settings::ports::shortened;
use crate::calico::yaml::{self, Node as Tree, Value};
use crate::files::SnapshotFiles;
use cursor::Cursor;
use problem::Problems;

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 32 << 20;

/// Deepest nesting of lists in lists.
const MAX_LISTS: usize = 3;

/// A set of resources: what is in a datastore, in an export, or in the files of a change.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    items: Vec<Resource>,
    /// Where each is among them.
    places: HashMap<Key, usize>,
    /// What is wrong with them, in the order of reading.
    pub problems: Vec<Problem>,
}

/// What tells resources apart: kind, namespace, name.
type Key = (Kind, Option<String>, String);

impl Resources {
    /// Reads one file.
    pub fn read(&mut self, file: &Arc<str>, bytes: &[u8]) {
        let mut reader = Reader { file, problems: Problems::default(), found: Vec::new() };
        reader.file(bytes);
        let Reader { found, problems, .. } = reader;
        self.problems.extend(problems.finish(file));
        for resource in found {
            if let Some(before) = self.put(resource.clone()) {
                let meta = &resource.meta;
                self.problems.push(Problem {
                    kind: ProblemKind::Duplicate,
                    place: meta.place.clone(),
                    column: 0,
                    resource: meta.title(),
                    field: "metadata.name".to_owned(),
                    message: format!("is also in {}; this one replaces it", before.meta.place),
                    fix: "keep one of them".to_owned(),
                    refused: false,
                });
            }
        }
    }

    /// The resources of these files (name and bytes), in their order.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut all = Self::default();
        for (name, bytes) in files {
            all.read(&Arc::from(name), bytes);
        }
        all
    }

    /// The resources in a snapshot's folder `calico/`.
    #[must_use]
    pub fn of_files(files: &SnapshotFiles) -> Self {
        Self::of(files.below("calico/").map(|(name, bytes)| (files.label(name), bytes)))
    }

    /// All resources, in the order they were first given.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.items.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The resource of this kind and name. Policies of the tier `default` go by their name with and without `default.`.
    #[must_use]
    pub fn get(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Option<&Resource> {
        let key = (kind.clone(), namespace.map(str::to_owned), trimmed(kind, name).to_owned());
        self.items.get(*self.places.get(&key)?)
    }

    /// Adds a resource or replaces the one of its kind and name, which is given back.
    pub fn put(&mut self, resource: Resource) -> Option<Resource> {
        match self.places.entry(key_of(&resource)) {
            Entry::Occupied(place) => {
                let known = self.items.get_mut(*place.get())?;
                Some(std::mem::replace(known, resource))
            }
            Entry::Vacant(place) => {
                place.insert(self.items.len());
                self.items.push(resource);
                None
            }
        }
    }

    /// Creates or replaces every resource of `change` (`kubectl apply`). Those that would be refused change nothing.
    /// Gives the titles of those that replaced one.
    pub fn apply(&mut self, change: &Self) -> Vec<String> {
        let taken = change.items.iter().filter(|resource| !resource.refused).cloned();
        let replaced: Vec<String> = taken.filter_map(|resource| Some(self.put(resource)?.meta.title())).collect();
        self.problems.extend(change.problems.iter().cloned());
        replaced
    }

    /// Deletes `KIND/NAME` or `KIND/NAMESPACE/NAME`; kinds by any name kubectl knows.
    ///
    /// # Errors
    /// What is wrong with the word, or that there is no such resource, with names that are near.
    pub fn delete(&mut self, word: &str) -> Result<Resource, String> {
        let expected = "expected KIND/NAME such as gnp/default-deny, or KIND/NAMESPACE/NAME";
        let mut parts = word.splitn(3, '/');
        let (Some(kind), Some(second)) = (parts.next(), parts.next()) else {
            return Err(format!("{:?}: {expected}", shortened(word)));
        };
        let kind = Kind::called(kind).ok_or_else(|| format!("{kind:?} is no kind of Calico resource; {expected}"))?;
        let (namespace, name) = match parts.next() {
            Some(name) => (Some(second), name),
            None if kind.is_namespaced() => (Some("default"), second),
            None => (None, second),
        };
        let key = (kind.clone(), namespace.map(str::to_owned), trimmed(&kind, name).to_owned());
        let Some(gone) = self.remove(&key) else {
            let names: Vec<&str> =
                self.items.iter().filter(|r| r.meta.kind == kind).map(|r| r.meta.name.value.as_str()).collect();
            let hint = match nearest(name, &names) {
                Some(near) => format!("did you mean {near}?"),
                None if names.is_empty() => format!("no {} is known at all", kind.name()),
                None => format!("known are {}", names.iter().take(8).copied().collect::<Vec<_>>().join(", ")),
            };
            return Err(format!("there is no {} {name:?} to delete; {hint}", kind.name()));
        };
        Ok(gone)
    }

    fn remove(&mut self, key: &Key) -> Option<Resource> {
        let index = self.places.remove(key)?;
        self.places.values_mut().filter(|place| **place > index).for_each(|place| *place -= 1);
        Some(self.items.remove(index))
    }

    /// Enforces every staged policy: it takes the place of the enforced one of its name, which goes where that is what is
    /// staged. Those that are staged to be ignored, or that would be refused, stay. Gives what happened, in words.
    pub fn enforce_staged(&mut self) -> Vec<String> {
        let is_staged = |resource: &&Resource| resource.meta.kind.is_staged() && !resource.refused;
        let staged: Vec<Resource> = self.items.iter().filter(is_staged).cloned().collect();
        let mut done = Vec::new();
        for mut resource in staged {
            let Some(kind) = resource.meta.kind.enforced() else { continue };
            let Spec::Policy(policy) = &mut resource.spec else { continue };
            let action = policy.staged_action.take().map(|action| action.value);
            if action.as_deref() == Some("Ignore") {
                continue;
            }
            let title = resource.meta.title();
            self.remove(&key_of(&resource));
            resource.meta.kind = kind;
            if action.as_deref() == Some("Delete") {
                self.remove(&key_of(&resource));
                done.push(format!("{title}, which deletes the policy of its name, is enforced"));
            } else {
                self.put(resource);
                done.push(format!("{title} is enforced"));
            }
        }
        done
    }
}

fn key_of(resource: &Resource) -> Key {
    let meta = &resource.meta;
    (meta.kind.clone(), meta.namespace.clone(), trimmed(&meta.kind, &meta.name.value).to_owned())
}

/// A policy's name without `default.`, which Calico up to 3.31 puts in front of names in the tier `default`.
fn trimmed<'n>(kind: &Kind, name: &'n str) -> &'n str {
    if kind.has_tier() { name.strip_prefix("default.").unwrap_or(name) } else { name }
}

struct Reader<'a> {
    file: &'a Arc<str>,
    problems: Problems,
    found: Vec<Resource>,
}

impl Reader<'_> {
    fn file(&mut self, bytes: &[u8]) {
        if bytes.len() > MAX_BYTES {
            let message = format!("the file has {} bytes, at most {MAX_BYTES} are read", bytes.len());
            self.report(ProblemKind::Malformed, (0, 0), message, "split it");
            return;
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        for document in documents::documents(&text) {
            match yaml::read(&document.text) {
                Ok(root) => self.value(&root.moved(document.offset), document.indent, 0, None),
                Err(error) => {
                    let line = document.offset.saturating_add(error.line.max(1));
                    let column = if error.column == 0 { 0 } else { error.column.saturating_add(document.indent) };
                    let message = format!("not YAML or JSON: {}", error.message);
                    let fix = hint(&document.text, error.line);
                    self.report(ProblemKind::Malformed, (line, column), message, fix);
                }
            }
        }
    }

    fn report(&mut self, kind: ProblemKind, (line, column): (u32, u32), message: String, fix: impl Into<String>) {
        self.problems.add(Problem {
            kind,
            place: Place { file: Arc::clone(self.file), line },
            column,
            resource: String::new(),
            field: String::new(),
            message,
            fix: fix.into(),
            refused: kind == ProblemKind::Malformed,
        });
    }

    /// A document, or an item of a list that says which kind its items have.
    fn value(&mut self, root: &Tree, indent: u32, depth: usize, of_list: Option<(&str, &str)>) {
        match &root.value {
            // comments alone, or nothing
            Value::Null => {}
            Value::List(items) => {
                if depth < MAX_LISTS {
                    items.iter().for_each(|item| self.value(item, indent, depth + 1, of_list));
                } else {
                    let message = format!("lists nest deeper than {MAX_LISTS}");
                    self.report(ProblemKind::NotAResource, (root.line, 0), message, "write the resources one by one");
                }
            }
            Value::Scalar(text) => {
                let message = format!("found {:?}, expected a resource with apiVersion and kind", shortened(text));
                self.report(ProblemKind::NotAResource, (root.line, root.column), message, "remove it");
            }
            Value::Map(_) => self.map(root, indent, depth, of_list),
        }
    }

    fn map(&mut self, root: &Tree, indent: u32, depth: usize, of_list: Option<(&str, &str)>) {
        let text = |key: &str| root.get(key).and_then(Tree::text);
        let api = text("apiVersion").or(of_list.map(|(api, _)| api)).unwrap_or_default();
        let Some(kind) = text("kind").or(of_list.map(|(_, kind)| kind)).filter(|kind| !kind.is_empty()) else {
            let message = "no kind is given, expected a resource with apiVersion and kind".to_owned();
            self.report(ProblemKind::NotAResource, (root.line, 0), message, "add kind, or remove the document");
            return;
        };
        if let Some(item) = kind.strip_suffix("List").filter(|_| root.get("items").is_some()) {
            let items = root.get("items").map(Tree::items).unwrap_or_default();
            let inherited = if item.is_empty() { None } else { Some((api, item)) };
            if depth < MAX_LISTS {
                items.iter().for_each(|item| self.value(item, indent, depth + 1, inherited));
            } else {
                let message = format!("lists nest deeper than {MAX_LISTS}");
                self.report(ProblemKind::NotAResource, (root.line, 0), message, "write the resources one by one");
            }
            return;
        }
        self.resource(root, indent, api, kind);
    }

    fn resource(&mut self, root: &Tree, indent: u32, api_version: &str, kind: &str) {
        let kind = Kind::of(api_version, kind);
        let api = if api_version.starts_with("projectcalico.org/") {
            Api::V3
        } else if api_version.starts_with("crd.projectcalico.org/") {
            Api::Crd
        } else {
            Api::Other
        };
        let place = Place { file: Arc::clone(self.file), line: root.line };
        let mut cursor = Cursor {
            file: self.file,
            resource: kind.name().to_owned(),
            indent,
            problems: &mut self.problems,
            refused: false,
        };
        let Some(meta) = meta(&mut cursor, root, api, kind, place) else { return };
        cursor.resource = meta.title();
        group(&mut cursor, root, &meta, api_version);
        let spec = match &meta.kind {
            Kind::GlobalNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
            | Kind::NetworkPolicy
            | Kind::StagedNetworkPolicy => {
                kinds::policy(&mut cursor, root, &meta).map(|policy| Spec::Policy(Box::new(policy)))
            }
            Kind::Tier => kinds::tier(&mut cursor, root, &meta).map(Spec::Tier),
            Kind::HostEndpoint => kinds::host_endpoint(&mut cursor, root).map(Spec::HostEndpoint),
            Kind::GlobalNetworkSet | Kind::NetworkSet => kinds::network_set(&mut cursor, root).map(Spec::NetworkSet),
            Kind::Profile => kinds::profile(&mut cursor, root).map(|profile| Spec::Profile(Box::new(profile))),
            Kind::FelixConfiguration => Some(Spec::Felix(Box::new(kinds::felix(&mut cursor, root)))),
            Kind::KubeControllersConfiguration => {
                Some(Spec::KubeControllers(Box::new(kinds::kube_controllers(&mut cursor, root))))
            }
            Kind::ClusterInformation => Some(Spec::ClusterInformation(kinds::cluster_information(&mut cursor, root))),
            Kind::BgpPeer => Some(Spec::BgpPeer(kinds::bgp_peer(&mut cursor, root))),
            Kind::Node => Some(Spec::Node(kinds::node(root))),
            _ => Some(Spec::Other),
        };
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        if api != Api::Other || meta.kind.has_tier() {
            cursor.map(root, "", &known);
        }
        if let Kind::Other(name) = &meta.kind {
            let message = format!("kind {:?} is not of Calico's policy model: not looked at", shortened(name));
            let at = (root.line, 0);
            cursor.problem(ProblemKind::OtherKind, at, "kind", message, other_kind(name));
        }
        let refused = cursor.refused;
        if let Some(spec) = spec {
            self.found.push(Resource { meta, spec, refused });
        }
    }
}

/// What a person may have meant with a kind that is not known.
fn other_kind(name: &str) -> String {
    let known = [
        "GlobalNetworkPolicy",
        "StagedGlobalNetworkPolicy",
        "NetworkPolicy",
        "StagedNetworkPolicy",
        "Tier",
        "HostEndpoint",
        "GlobalNetworkSet",
        "NetworkSet",
        "Profile",
        "FelixConfiguration",
        "KubeControllersConfiguration",
    ];
    nearest(name, &known).map(|near| format!("did you mean {near}?")).unwrap_or_default()
}

/// A word on what commonly breaks a document.
fn hint(text: &str, line: u32) -> String {
    let at = usize::try_from(line).unwrap_or(0);
    let near: Vec<&str> = text.lines().skip(at.saturating_sub(2)).take(3).collect();
    if near.iter().any(|line| line.starts_with('\t') || line.trim_start_matches(' ').starts_with('\t')) {
        return "indent with blanks, YAML takes no tabs".to_owned();
    }
    let selector = near.iter().any(|line| {
        let value = line.split_once("elector:").map_or("", |(_, value)| value.trim_start());
        value.starts_with(['!', '{', '*', '&', '|', '\'', '"']) && !value.ends_with(['\'', '"'])
    });
    if selector { "put the whole selector in double quotes".to_owned() } else { "mend the YAML there".to_owned() }
}

/// `None` when the resource has no name: it cannot be told from others.
fn meta(cursor: &mut Cursor<'_>, root: &Tree, api: Api, kind: Kind, place: Place) -> Option<Meta> {
    let empty = Tree::null(root.line);
    let node = root.get("metadata").unwrap_or(&empty);
    let name = if matches!(node.value, Value::Map(_)) { cursor.text_at(node, "metadata", "name") } else { None };
    let Some(name) = name.filter(|name| !name.value.is_empty()) else {
        if !matches!(kind, Kind::Other(_)) {
            let fix = "add metadata.name (kubectl apply takes no generateName)";
            cursor.refuse(ProblemKind::NotAResource, (node.line, 0), "metadata.name", "is missing", fix);
        }
        return None;
    };
    let mut labels = cursor.texts_map(node, "metadata", "labels");
    let mut annotations = cursor.texts_map(node, "metadata", "annotations");
    if let Some(stored) = annotations.remove("projectcalico.org/metadata") {
        match kinds::stored_metadata(&stored) {
            Some((stored_labels, stored_annotations)) => {
                let field = |value: String| Field { value, line: stored.line, column: stored.column };
                labels.extend(stored_labels.into_iter().map(|(key, value)| (key, field(value))));
                annotations.extend(stored_annotations.into_iter().map(|(key, value)| (key, field(value))));
            }
            None => {
                let message = "the annotation projectcalico.org/metadata is not JSON: the labels it holds are lost";
                let at = (stored.line, stored.column);
                cursor.problem(ProblemKind::BadValue, at, "metadata.annotations", message, "export the resource again");
            }
        }
    }
    let namespace = kind.is_namespaced().then(|| {
        let given = cursor.text_at(node, "metadata", "namespace").map(|field| field.value);
        given.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned())
    });
    let meta = Meta { api, kind, name, namespace, labels, annotations, place };
    if meta.kind != Kind::Node {
        validate::labels(cursor, &meta);
    }
    Some(meta)
}

/// Whether the group in `apiVersion` has this kind.
fn group(cursor: &mut Cursor<'_>, root: &Tree, meta: &Meta, api_version: &str) {
    let of_calico =
        !matches!(meta.kind, Kind::Node | Kind::KubernetesNetworkPolicy | Kind::ClusterNetworkPolicy | Kind::Other(_));
    if !of_calico || meta.api != Api::Other {
        return;
    }
    let line = root.entries().iter().find(|(key, _, _)| key == "apiVersion").map_or(root.line, |(_, line, _)| *line);
    let fix = "write apiVersion: projectcalico.org/v3";
    if api_version.is_empty() {
        cursor.refuse(ProblemKind::Missing, (line, 0), "apiVersion", "is missing", fix);
    } else {
        let message = format!("found {:?}, expected projectcalico.org/v3", shortened(api_version));
        cursor.refuse(ProblemKind::BadValue, (line, 0), "apiVersion", message, fix);
    }
}

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

impl Meta {
    /// The labels without their places.
    #[must_use]
    pub fn plain_labels(&self) -> Labels {
        self.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect()
    }
}
