//! The record that RKE1 keeps of a cluster in the cluster itself. It holds the private keys of the whole cluster beside the
//! binds: nothing but the binds is kept of it, and no error quotes it.

use data_encoding::BASE64;
use serde::Deserialize;

use crate::adapters::kube::{CallError, KubeCluster};
use crate::error::Failure;

/// The name of the object, and of the key in it.
const NAME: &str = "full-cluster-state";
const NAMESPACE: &str = "/api/v1/namespaces/kube-system";

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default, rename = "full-cluster-state")]
    state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    #[serde(default)]
    current_state: Option<CurrentState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CurrentState {
    #[serde(default)]
    rke_config: Option<EngineConfig>,
}

/// The part of the configuration of an RKE1 cluster that drover reads, wherever it stands.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EngineConfig {
    #[serde(default)]
    services: Option<Services>,
    #[serde(default)]
    upgrade_strategy: Option<UpgradeStrategy>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct Services {
    #[serde(default)]
    kubelet: Option<KubeletService>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletService {
    #[serde(default)]
    extra_binds: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpgradeStrategy {
    #[serde(default)]
    max_unavailable_worker: Option<String>,
}

impl EngineConfig {
    pub(super) fn binds(&self) -> &[String] {
        let kubelet = self.services.as_ref().and_then(|services| services.kubelet.as_ref());
        kubelet.and_then(|kubelet| kubelet.extra_binds.as_deref()).unwrap_or_default()
    }

    pub(super) fn max_unavailable(&self) -> Option<&str> {
        self.upgrade_strategy.as_ref()?.max_unavailable_worker.as_deref()
    }
}

/// Whether RKE made this cluster.
pub async fn has_state(kube: &KubeCluster) -> Result<bool, Failure> {
    for (kind, plural) in KINDS {
        if read(kube, kind, plural).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where RKE keeps its record: in a ConfigMap before it knew better.
const KINDS: [(&str, &str); 2] = [("Secret", "secrets"), ("ConfigMap", "configmaps")];

/// The binds of RKE's last run that came to its end.
pub(super) async fn live_binds(kube: &KubeCluster) -> Result<Vec<String>, Failure> {
    for (kind, plural) in KINDS {
        if let Some(body) = read(kube, kind, plural).await? {
            return binds_in(&body, kind);
        }
    }
    Err(Failure::new(format!("the cluster has no {NAME} in kube-system, so it was not made by RKE"))
        .hint("`kubelet.manager` of the Cluster document says what configures its kubelets"))
}

async fn read(kube: &KubeCluster, kind: &str, plural: &str) -> Result<Option<Vec<u8>>, Failure> {
    kube.object(&format!("{NAMESPACE}/{plural}/{NAME}")).await.map_err(|error| match &error {
        CallError::Refused { code: 403, .. } => {
            Failure::new(format!("drover may not get the {kind} {NAME} in kube-system, which tells the live binds"))
                .hint(format!(
                    "give drover's user a Role in kube-system with the verb \"get\" on the resource \"{plural}\" named {NAME}, as in deploy/rbac.yaml"
                ))
        }
        error => kube.failure("get", plural, error),
    })
}

fn binds_in(object: &[u8], kind: &str) -> Result<Vec<String>, Failure> {
    let what = || format!("the {kind} {NAME} in kube-system");
    // The messages of parsers quote what they do not understand, and that may be a key.
    let broken = |error: serde_json::Error| {
        Failure::new(format!("{} cannot be read (line {}, column {})", what(), error.line(), error.column()))
    };
    let object: Object = serde_json::from_slice(object).map_err(broken)?;
    let text = object.data.and_then(|data| data.state);
    let text = text.ok_or_else(|| Failure::new(format!("{} has no key {NAME}", what())))?;
    let state: State = match kind {
        "Secret" => {
            let decoded = BASE64.decode(text.as_bytes());
            let decoded = decoded.map_err(|_| Failure::new(format!("{} is not base64", what())))?;
            serde_json::from_slice(&decoded).map_err(broken)?
        }
        _ => serde_json::from_str(&text).map_err(broken)?,
    };
    let config = state.current_state.and_then(|state| state.rke_config).ok_or_else(|| {
        Failure::new(format!("{} tells of no cluster that runs: RKE did not come to its end yet", what()))
    })?;
    Ok(config.binds().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(state: &str) -> Vec<u8> {
        format!(r#"{{"kind": "Secret", "data": {{"{NAME}": "{}"}}}}"#, BASE64.encode(state.as_bytes())).into_bytes()
    }

    #[test]
    fn only_the_live_binds_are_read() {
        let state = r#"{"desiredState": {"rkeConfig": {"services": {"kubelet": {"extraBinds": ["/no:/no"]}}}},
            "currentState": {"rkeConfig": {"services": {"kubelet": {"extraBinds": ["/data:/data"]}}}, "certificatesBundle": {"kube-ca": {"keyPEM": "KEY"}}}}"#;
        assert_eq!(binds_in(&secret(state), "Secret").expect("binds"), ["/data:/data"]);
        let map = serde_json::json!({"data": {NAME: state}}).to_string();
        assert_eq!(binds_in(map.as_bytes(), "ConfigMap").expect("binds"), ["/data:/data"]);
        let none = r#"{"currentState": {"rkeConfig": {"services": {"kubelet": {}}}}}"#;
        assert!(binds_in(&secret(none), "Secret").expect("no binds").is_empty());
    }

    #[test]
    fn errors_quote_nothing() {
        for state in
            [r#"{"currentState": "KEY"}"#, "KEY", r#"{"currentState": {"rkeConfig": {"services": "KEY"}}}"#, "{}"]
        {
            let error = binds_in(&secret(state), "Secret").expect_err(state);
            assert!(!format!("{error} {error:?}").contains("KEY"), "{error:?}");
        }
        for object in [r#"{"data": "KEY"}"#, r#"{"data": {"full-cluster-state": "KEY!"}}"#, "KEY", r#"{"data": {}}"#] {
            let error = binds_in(object.as_bytes(), "Secret").expect_err(object);
            assert!(!format!("{error} {error:?}").contains("KEY"), "{error:?}");
        }
    }
}
