//! What the agent may do in a cluster: the very objects that are deployed.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::apiserver::Audited;

const FOLDER: &str = "deploy/kustomize/base";

/// `verb`, API group, resource.
pub type Right = (String, String, String);

/// Its namespace, ServiceAccount, ClusterRole and the binding of both.
pub fn objects() -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for file in ["namespace.yaml", "rbac.yaml"] {
        let path = crate::workspace().join(FOLDER).join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let read: Vec<Value> = serde_saphyr::from_multiple(&text)
            .with_context(|| format!("cannot parse {}", path.display()))?;
        objects.extend(read);
    }
    Ok(objects)
}

/// The user that the binding means.
pub fn user() -> Result<String> {
    let objects = objects()?;
    let binding = of_kind(&objects, "ClusterRoleBinding")?;
    let subject = &binding["subjects"][0];
    let text = |field: &str| {
        subject[field]
            .as_str()
            .context("the binding has no subject")
    };
    let (namespace, name) = (text("namespace")?, text("name")?);
    Ok(format!("system:serviceaccount:{namespace}:{name}"))
}

/// What the role grants.
pub fn granted() -> Result<BTreeSet<Right>> {
    let objects = objects()?;
    let rules = &of_kind(&objects, "ClusterRole")?["rules"];
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().context("the role has no rules")? {
        for verb in words(&rule["verbs"]) {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    rights.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    Ok(rights)
}

/// What was asked for, of objects.
pub fn used(audit: &[Audited]) -> BTreeSet<Right> {
    let rights = audit.iter().filter_map(|entry| {
        let group = entry.group()?.to_owned();
        Some((entry.verb.clone(), group, entry.resource()?))
    });
    rights.collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let mut objects = objects.iter();
    objects
        .find(|object| object["kind"] == kind)
        .with_context(|| format!("no {kind} in {FOLDER}"))
}
