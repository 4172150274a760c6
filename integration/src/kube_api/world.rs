//! The objects, their versions, and what happened to them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::SystemTime,
};

use serde_json::{Value, json};

use super::{
    apply, definition,
    error::ApiError,
    event,
    resources::{Resource, Target, built_in},
    schema,
    selectors::Selection,
};

/// How many events are remembered at most.
const MAX_EVENTS: usize = 50_000;
/// How many lists may be read page by page at once.
const MAX_SNAPSHOTS: usize = 64;

type Key = (String, String, String);

/// What happened to one object.
#[derive(Clone, Debug)]
struct Happened {
    version: u64,
    plural: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// A list that is read page by page: what is left of it.
#[derive(Debug)]
struct Snapshot {
    token: String,
    version: u64,
    rest: VecDeque<Value>,
}

/// Everything that the server has.
#[derive(Debug)]
pub(crate) struct World {
    version: u64,
    /// What happened before this is forgotten.
    oldest: u64,
    uids: u64,
    resources: BTreeSet<Resource>,
    /// By plural, namespace and name.
    objects: BTreeMap<Key, Value>,
    happened: VecDeque<Happened>,
    snapshots: VecDeque<Snapshot>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            version: 100,
            oldest: 100,
            uids: 0,
            resources: built_in().into_iter().collect(),
            objects: BTreeMap::new(),
            happened: VecDeque::new(),
            snapshots: VecDeque::new(),
        }
    }
}

/// How an object is written.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create(Value),
    Replace(Value),
    Merge(Value),
    Apply { object: Value, manager: String, force: bool },
    Delete,
}

impl World {
    /// The kind that a path means.
    pub fn resource(&self, target: &Target) -> Result<Resource, ApiError> {
        let known = self.resources.iter().find(|own| {
            (&own.group, &own.version, &own.plural)
                == (&target.group, &target.version, &target.plural)
        });
        let serves = |own: &Resource| match target.part.as_deref() {
            None => true,
            Some("status") => own.status,
            Some(part) => part == "exec" && own.plural == "pods",
        };
        known
            .filter(|own| serves(own))
            .cloned()
            .ok_or_else(|| ApiError::new(404, "the server could not find the requested resource"))
    }

    /// One object.
    pub fn read(&self, resource: &Resource, target: &Target) -> Result<Value, ApiError> {
        let name = target.name.as_deref().unwrap_or_default();
        let key =
            (resource.plural.clone(), target.namespace.clone().unwrap_or_default(), name.into());
        let object = self.objects.get(&key).ok_or_else(|| absent(resource, name))?;
        Ok(event::shown(resource, object))
    }

    /// The kinds, in order.
    pub fn resources(&self) -> &BTreeSet<Resource> {
        &self.resources
    }

    /// The version of a kind's definition that is served, if somebody defined it.
    pub fn definition(&self, resource: &Resource) -> Option<&Value> {
        let name = format!("{}.{}", resource.plural, resource.group);
        let key = ("customresourcedefinitions".to_owned(), String::new(), name);
        let versions = self.objects.get(&key)?["spec"]["versions"].as_array()?;
        versions.iter().find(|own| own["name"] == resource.version.as_str())
    }

    /// All objects of a kind.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        self.objects.iter().filter(|(key, _)| key.0 == plural).map(|(_, own)| own.clone()).collect()
    }

    /// A page of a list.
    pub fn list(
        &mut self,
        resource: &Resource,
        selection: &Selection,
        limit: usize,
        token: &str,
        shuffled: bool,
    ) -> Result<Value, ApiError> {
        let mut snapshot = if token.is_empty() {
            let mut items: VecDeque<Value> = self.selected(resource, selection).collect();
            if shuffled {
                items.make_contiguous().reverse();
                let middle = items.len() / 2;
                items.rotate_left(middle);
            }
            self.uids += 1;
            Snapshot { token: format!("page-{}", self.uids), version: self.version, rest: items }
        } else {
            let known = self.snapshots.iter().position(|own| own.token == token);
            known
                .and_then(|place| self.snapshots.remove(place))
                .ok_or_else(|| ApiError::new(410, "The provided continue parameter is too old"))?
        };
        let page: Vec<Value> = (0..limit.max(1)).map_while(|_| snapshot.rest.pop_front()).collect();
        let mut metadata = json!({"resourceVersion": snapshot.version.to_string()});
        if !snapshot.rest.is_empty() {
            metadata["continue"] = snapshot.token.clone().into();
            metadata["remainingItemCount"] = snapshot.rest.len().into();
            self.snapshots.push_back(snapshot);
            if self.snapshots.len() > MAX_SNAPSHOTS {
                self.snapshots.pop_front();
            }
        }
        Ok(json!({
            "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
            "metadata": metadata, "items": page,
        }))
    }

    fn selected(&self, resource: &Resource, selection: &Selection) -> impl Iterator<Item = Value> {
        let all = self.objects.iter().filter(|(key, _)| key.0 == resource.plural);
        let shown = all.map(|(_, object)| event::shown(resource, object));
        shown.filter(|object| selection.selects(object))
    }

    /// The version that a watch begins at, or that it is forgotten; 0 where it begins with what is
    /// there.
    pub fn begin(&self, version: &str) -> Result<u64, ApiError> {
        match version.parse::<u64>().unwrap_or(0) {
            0 => Ok(0),
            old if old < self.oldest => Err(ApiError::new(
                410,
                format!("too old resource version: {old} ({})", self.oldest),
            )),
            version => Ok(version),
        }
    }

    /// What a watch has to say since a version, and the version that it is then at.
    pub fn since(
        &self,
        version: u64,
        resource: &Resource,
        selection: &Selection,
    ) -> Result<(Vec<Value>, u64), ApiError> {
        if self.begin(&version.to_string())? == 0 {
            let added = |object| json!({"type": "ADDED", "object": object});
            return Ok((self.selected(resource, selection).map(added).collect(), self.version));
        }
        let later = self.happened.iter().filter(|own| own.version > version);
        let shown = |object: &Option<Value>| {
            let object = object.as_ref().map(|own| event::shown(resource, own));
            object.filter(|own| selection.selects(own))
        };
        let events = later.filter(|own| own.plural == resource.plural).filter_map(|own| {
            match (shown(&own.before), shown(&own.after)) {
                (None, None) => None,
                (None, Some(after)) => Some(json!({"type": "ADDED", "object": after})),
                (Some(_), Some(after)) => Some(json!({"type": "MODIFIED", "object": after})),
                (Some(mut last), None) => {
                    last["metadata"]["resourceVersion"] = own.version.to_string().into();
                    Some(json!({"type": "DELETED", "object": last}))
                }
            }
        });
        Ok((events.collect(), self.version))
    }

    /// Forgets what happened until now.
    pub fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.happened.clear();
        self.snapshots.clear();
    }

    /// Puts an object, status included, whoever owns it.
    pub fn put(&mut self, mut object: Value) -> Result<Value, ApiError> {
        let api_version = text(&object, "apiVersion");
        let kind = text(&object, "kind");
        let known =
            self.resources.iter().find(|own| own.api_version() == api_version && own.kind == kind);
        let resource = known
            .cloned()
            .ok_or_else(|| ApiError::new(404, format!("no kind {kind} in {api_version}")))?;
        let (namespace, name) = named(&object, &resource)?;
        self.admit(&resource, &mut object)?;
        let before = self.objects.get(&(resource.plural.clone(), namespace, name)).cloned();
        self.store(&resource, before, object)
    }

    /// Takes an object away.
    pub fn delete(
        &mut self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), ApiError> {
        let known = self.resources.iter().find(|own| own.plural == plural).cloned();
        let resource = known.ok_or_else(|| ApiError::new(404, format!("no {plural}")))?;
        let key = (plural.to_owned(), namespace.unwrap_or_default().to_owned(), name.to_owned());
        let before = self.objects.remove(&key).ok_or_else(|| absent(&resource, name))?;
        if resource.kind == "CustomResourceDefinition" {
            self.forget_kind(&before);
        }
        self.happen(&resource.plural, Some(before), None);
        Ok(())
    }

    /// Carries out a request that writes; a dry one only says what would come of it.
    pub fn write(&mut self, target: &Target, write: Write, dry: bool) -> Result<Value, ApiError> {
        let resource = self.resource(target)?;
        let before = match &target.name {
            Some(_) => self.read(&resource, target).ok(),
            None => None,
        };
        let name = target.name.clone().unwrap_or_default();
        let old = || before.clone().ok_or_else(|| absent(&resource, &name));
        let mut new = match write {
            Write::Delete => {
                let gone = old()?;
                if dry {
                    return Ok(gone);
                }
                self.delete(&resource.plural, target.namespace.as_deref(), &name)?;
                return Ok(gone);
            }
            Write::Create(object) => {
                let (_, name) = named(&object, &resource)?;
                let mut at = target.clone();
                at.name = Some(name.clone());
                if self.read(&resource, &at).is_ok() {
                    let message = format!("{} \"{name}\" already exists", resource.plural);
                    return Err(ApiError {
                        reason: "AlreadyExists",
                        ..ApiError::new(409, message)
                    });
                }
                object
            }
            Write::Replace(object) => {
                same_version(&old()?, &object)?;
                object
            }
            Write::Merge(patch) => {
                let mut object = old()?;
                same_version(&object, &patch)?;
                merge(&mut object, &patch);
                object
            }
            Write::Apply { object, manager, force } => {
                if before.is_none() && target.is_status() {
                    return Err(absent(&resource, &name));
                }
                let base = before.clone().unwrap_or_else(|| json!({"metadata": {}}));
                apply::apply(base, &object, &manager, force)?
            }
        };
        if let Some(namespace) = &target.namespace {
            new["metadata"]["namespace"] = namespace.clone().into();
        }
        if resource.status {
            keep_other_part(&mut new, before.as_ref(), target.is_status());
        }
        self.admit(&resource, &mut new)?;
        if dry {
            return Ok(new);
        }
        self.store(&resource, before, new)
    }

    fn admit(&self, resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.clone().into();
        let wrong = match self.definition(resource) {
            Some(served) => schema::check(&served["schema"]["openAPIV3Schema"], object),
            None if resource.group == "events.k8s.io" => event::wrong(object),
            None if resource.kind == "CustomResourceDefinition" => definition::wrong(object),
            None => Vec::new(),
        };
        if wrong.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(resource, &text(&object["metadata"], "name"), &wrong))
    }

    fn store(
        &mut self,
        resource: &Resource,
        before: Option<Value>,
        mut object: Value,
    ) -> Result<Value, ApiError> {
        let (namespace, name) = named(&object, resource)?;
        let spec_changed = before.as_ref().is_none_or(|old| old["spec"] != object["spec"]);
        let generation =
            before.as_ref().map_or(0, |old| old["metadata"]["generation"].as_i64().unwrap_or(0));
        let uid = before.as_ref().map(|old| old["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["generation"] = (generation + i64::from(spec_changed)).into();
        if let Some(uid) = uid.filter(|_| metadata["uid"].is_null()) {
            metadata["uid"] = uid;
        } else if metadata["uid"].is_null() {
            self.uids += 1;
            metadata["uid"] = format!("00000000-0000-4000-8000-{:012}", self.uids).into();
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] =
                humantime::format_rfc3339_seconds(SystemTime::now()).to_string().into();
        }
        if resource.kind == "CustomResourceDefinition" {
            object["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        }
        let mut unversioned = object.clone();
        unversioned["metadata"]["resourceVersion"] = Value::Null;
        let unchanged = before.as_ref().is_some_and(|old| {
            let mut old = old.clone();
            old["metadata"]["resourceVersion"] = Value::Null;
            old == unversioned
        });
        if unchanged {
            return Ok(before.unwrap_or(object));
        }
        object["metadata"]["resourceVersion"] = (self.version + 1).to_string().into();
        if resource.kind == "CustomResourceDefinition" {
            self.learn_kind(&object);
        }
        self.objects.insert((resource.plural.clone(), namespace, name), object.clone());
        self.happen(&resource.plural, before, Some(object.clone()));
        Ok(object)
    }

    fn happen(&mut self, plural: &str, before: Option<Value>, after: Option<Value>) {
        self.version += 1;
        let happened = Happened { version: self.version, plural: plural.into(), before, after };
        self.happened.push_back(happened);
        if self.happened.len() > MAX_EVENTS
            && let Some(forgotten) = self.happened.pop_front()
        {
            self.oldest = forgotten.version;
        }
    }

    fn learn_kind(&mut self, definition: &Value) {
        self.forget_kind(definition);
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().into_iter().flatten() {
            self.resources.insert(Resource {
                group: text(spec, "group"),
                version: text(version, "name"),
                plural: text(&spec["names"], "plural"),
                kind: text(&spec["names"], "kind"),
                namespaced: spec["scope"] == "Namespaced",
                status: !version["subresources"]["status"].is_null(),
                short: strings(&spec["names"]["shortNames"]),
            });
        }
    }

    fn forget_kind(&mut self, definition: &Value) {
        let (group, plural) =
            (text(&definition["spec"], "group"), text(&definition["spec"]["names"], "plural"));
        self.resources.retain(|own| (&own.group, &own.plural) != (&group, &plural));
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Namespace and name of an object of a kind.
fn named(object: &Value, resource: &Resource) -> Result<(String, String), ApiError> {
    let metadata = &object["metadata"];
    let name = text(metadata, "name");
    if name.is_empty() {
        return Err(ApiError::new(422, "metadata.name: Required value"));
    }
    let namespace = text(metadata, "namespace");
    if resource.namespaced == namespace.is_empty() {
        return Err(ApiError::new(422, "metadata.namespace: does not fit the kind"));
    }
    Ok((namespace, name))
}

fn absent(resource: &Resource, name: &str) -> ApiError {
    ApiError::new(404, format!("{} \"{name}\" not found", resource.full_name()))
}

fn same_version(old: &Value, new: &Value) -> Result<(), ApiError> {
    let wanted = &new["metadata"]["resourceVersion"];
    if wanted.is_null() || wanted == "" || *wanted == old["metadata"]["resourceVersion"] {
        return Ok(());
    }
    let message = "the object has been modified; please apply your changes to the latest version";
    Err(ApiError::new(409, message))
}

/// A request for the status writes nothing else, and one for the rest writes no status.
fn keep_other_part(new: &mut Value, before: Option<&Value>, of_status: bool) {
    let old = before.cloned().unwrap_or_else(|| json!({}));
    if of_status {
        let status = new["status"].take();
        let owners = new["metadata"]["managedFields"].take();
        *new = old;
        new["status"] = status;
        if !owners.is_null() {
            new["metadata"]["managedFields"] = owners;
        }
    } else if let Some(fields) = new.as_object_mut() {
        match old.get("status") {
            Some(status) => drop(fields.insert("status".into(), status.clone())),
            None => drop(fields.remove("status")),
        }
    }
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|fields| fields.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}
