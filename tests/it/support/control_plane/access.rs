//! Who speaks to the API server: tokens, kubeconfigs and rights.

use std::path::Path;

use serde_json::{Value, json};

use super::TOKEN_MARK;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    /// What drover's own RBAC grants: read and patch nodes, read pods.
    Drover,
    /// Reads nodes and pods, changes nothing.
    Reader,
    /// Changes nodes, and sees no pods.
    Blind,
    /// What an agent's service account may do.
    Agent,
}

impl Role {
    pub(crate) const ALL: [Self; 5] = [Self::Admin, Self::Drover, Self::Reader, Self::Blind, Self::Agent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Drover => "drover",
            Self::Reader => "reader",
            Self::Blind => "blind",
            Self::Agent => "agent",
        }
    }

    /// Names the cluster too: a token sent to the wrong cluster is refused.
    pub(super) fn token(self, cluster: &str) -> String {
        format!("{}{TOKEN_MARK}{cluster}", self.name())
    }

    /// The role's line in the server's token file.
    pub(super) fn token_line(self, cluster: &str) -> String {
        let (name, token) = (self.name(), self.token(cluster));
        match self {
            Self::Admin => format!("{token},{name},{name},system:masters\n"),
            Self::Drover | Self::Reader | Self::Blind => format!("{token},{name},{name}\n"),
            Self::Agent => format!("{token},system:serviceaccount:drover:drover-agent,{name}\n"),
        }
    }

    /// JSON, which every reader of YAML reads.
    pub(super) fn kubeconfig(self, cluster: &str, url: &str, ca: &Path) -> String {
        let user = format!("{}@{cluster}", self.name());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": cluster, "cluster": { "server": url, "certificate-authority": ca } }],
            "users": [{ "name": user, "user": { "token": self.token(cluster) } }],
            "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
            "current-context": cluster,
        });
        format!("{config:#}\n")
    }

    /// The API paths and objects that grant a role its rights, in the order of creation.
    pub(super) fn rbac(self) -> Vec<(String, Value)> {
        let read = |resource: &str| rule(resource, &["get", "list", "watch"]);
        let rules = match self {
            Self::Admin => return Vec::new(),
            // What people are told to apply is what is tested.
            Self::Drover => return manifests(include_str!("../../../../deploy/rbac.yaml")),
            Self::Agent => {
                let definition = manifests(include_str!("../../../../deploy/nodestorages.yaml"));
                let rights = manifests(include_str!("../../../../deploy/agent-rbac.yaml"));
                return definition.into_iter().chain(rights).collect();
            }
            Self::Reader => vec![read("nodes"), read("pods")],
            Self::Blind => vec![rule("nodes", &["get", "list", "watch", "patch"])],
        };
        let group = "rbac.authorization.k8s.io";
        let metadata = json!({ "name": self.name() });
        let role = json!({ "metadata": metadata, "rules": rules });
        let binding = json!({
            "metadata": metadata,
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": self.name() },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": self.name() }],
        });
        vec![
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles".into(), role),
            ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".into(), binding),
        ]
    }
}

/// The objects of a file that a person would give to kubectl, and where they are created.
fn manifests(text: &str) -> Vec<(String, Value)> {
    let documents = text.split("\n---\n").map(|document| {
        let object: Value = serde_yaml::from_str(document).expect("a manifest");
        let (version, kind) =
            (object["apiVersion"].as_str().expect("a version"), object["kind"].as_str().expect("a kind"));
        let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
        let namespace = object["metadata"]["namespace"].as_str().map(|name| format!("/namespaces/{name}"));
        let path = format!("{root}{}/{}s", namespace.unwrap_or_default(), kind.to_lowercase());
        (path, object)
    });
    documents.collect()
}

fn rule(resource: &str, verbs: &[&str]) -> Value {
    json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs })
}
