//! What an agent may do in its cluster, and nothing else: the rights that its calls need.

use serde_json::{Value, json};

use crate::model::storage::PLURAL;

/// The namespace and the name of the agent's service account.
const ACCOUNT: (&str, &str) = ("drover", "drover-agent");
const RBAC: &str = "rbac.authorization.k8s.io";

/// The objects that give an agent its rights: a service account, a role, and what binds the two.
pub fn objects() -> [Value; 3] {
    let (namespace, name) = ACCOUNT;
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                // follow: what is asked of the machine
                rule("drover.dev", PLURAL, &["get", "list", "watch"]),
                // tell: the report, which cannot change what is asked
                rule("drover.dev", &format!("{PLURAL}/status"), &["patch"]),
                // tell: the condition StorageReady
                rule("", "nodes/status", &["patch"]),
            ],
        }),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }),
    ]
}
