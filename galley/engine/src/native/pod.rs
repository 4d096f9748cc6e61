use std::collections::BTreeMap;
use std::sync::Arc;

use istio_api::manifest::Metadata;
use istio_api::manifest::{Field, FieldError};

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IP addresses, the primary one first.
    pub ips: Vec<String>,
    /// Whether it has not terminated.
    pub alive: bool,
    /// Service account, `default` if not set.
    pub service_account: String,
    /// Node; empty before it is scheduled.
    pub node: Arc<str>,
    /// Name of its workload: the Deployment, StatefulSet, CronJob …, or the Pod itself.
    pub workload: String,
}

pub(super) fn read(metadata: &Metadata, object: &Field<'_>) -> Result<Pod, FieldError> {
    let (spec, status) = (object.get("spec")?, object.get("status")?);
    let mut ips = Vec::new();
    for entry in status.get("podIPs")?.list()? {
        ips.extend(entry.get("ip")?.text()?.map(str::to_owned));
    }
    if let Some(ip) = status.get("podIP")?.text()?
        && !ip.is_empty()
        && !ips.iter().any(|known| known == ip)
    {
        ips.insert(0, ip.to_owned());
    }
    let phase = status.get("phase")?.text()?.unwrap_or("Running");
    let account = spec
        .get("serviceAccountName")?
        .text()?
        .filter(|name| !name.is_empty());
    Ok(Pod {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        ips,
        alive: !matches!(phase, "Succeeded" | "Failed"),
        service_account: account.unwrap_or("default").to_owned(),
        node: spec.get("nodeName")?.text()?.unwrap_or_default().into(),
        workload: workload(metadata, object)?,
    })
}

fn workload(metadata: &Metadata, object: &Field<'_>) -> Result<String, FieldError> {
    for owner in object.get("metadata")?.get("ownerReferences")?.list()? {
        if owner.get("controller")?.flag()? != Some(true) {
            continue;
        }
        let kind = owner.get("kind")?.text()?.unwrap_or_default();
        let name = owner.get("name")?.text()?.unwrap_or_default();
        let made_by = match kind {
            // A ReplicaSet of a Deployment is named with the hash that its Pods have as a label.
            "ReplicaSet" => metadata
                .labels
                .get("pod-template-hash")
                .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-')),
            // A Job of a CronJob is named with the minute of its run.
            "Job" => name
                .rsplit_once('-')
                .filter(|(_, time)| time.len() >= 8 && time.bytes().all(|b| b.is_ascii_digit()))
                .map(|(name, _)| name),
            _ => None,
        };
        return Ok(made_by.unwrap_or(name).to_owned());
    }
    Ok(metadata.name.to_string())
}
