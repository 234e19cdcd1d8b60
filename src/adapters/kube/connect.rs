//! From the connection of a Cluster document to a client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};
use kube::Config;
use kube::client::AuthError;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use sha2::{Digest, Sha256};

use super::{Fence, KubeCluster, fence};
use crate::error::Failure;
use crate::model::cluster::Connection;

/// How a kubeconfig that nobody named is called.
const DEFAULT: &str = "the default kubeconfig";

impl KubeCluster {
    /// Prepares a client; nothing is sent yet. A relative kubeconfig is looked for below `base`. Where there is a fence,
    /// nodes are written only while it permits that.
    pub async fn connect(
        name: &str,
        connection: &Connection,
        base: Option<&Path>,
        timeout: Duration,
        fence: Option<Arc<Fence>>,
    ) -> Result<Self, Failure> {
        let mut config = match connection.in_cluster {
            true => Config::incluster().map_err(|error| {
                Failure::caused("drover does not run inside a cluster", &error)
                    .hint("use a kubeconfig to reach this cluster from outside")
            })?,
            false => from_kubeconfig(connection, base).await?,
        };
        config.connect_timeout = Some(timeout);
        config.headers.push((header::USER_AGENT, user_agent(fence.as_deref())));
        config.default_retry = false; // drover retries itself: it knows which calls may wait, and for how long
        if !has_header_safe_token(&config.auth_info) {
            return Err(Failure::new("the token of the kubeconfig cannot be used: it holds a line break"));
        }
        // A kubeconfig can name a command that fetches credentials, which runs now and may take its time.
        let prepared = tokio::task::spawn_blocking(move || {
            let fenced = match fence {
                Some(fence) => Some((fence::client(&config, &fence)?, fence)),
                None => None,
            };
            Ok((kube::Client::try_from(config)?, fenced))
        });
        let (client, fenced) = match tokio::time::timeout(timeout, prepared).await {
            Ok(Ok(clients)) => clients.map_err(|error| unusable(&error))?,
            Ok(Err(error)) => return Err(Failure::caused("the connection cannot be set up", &error)),
            Err(_) => {
                return Err(Failure::new(format!(
                    "the command of the kubeconfig gave no credentials within {} s",
                    timeout.as_secs_f32()
                ))
                .hint("`timeout` in the Cluster document sets how long drover waits"));
            }
        };
        Ok(Self { name: name.to_owned(), client, timeout, fenced })
    }

    /// Stands for everything that a connection is made of. It changes with the kubeconfig and with the certificates and
    /// keys that it names; what a command or a service account yields is renewed without it.
    pub fn fingerprint(connection: &Connection, base: Option<&Path>, timeout: Duration) -> Result<String, Failure> {
        let mut digest = Sha256::new();
        digest.update(format!("{connection:?} {timeout:?}"));
        if !connection.in_cluster {
            let (kubeconfig, shown) = kubeconfig_of(connection, base)?;
            let text = serde_json::to_vec(&kubeconfig)
                .map_err(|error| Failure::caused(format!("{shown} cannot be used"), &error))?;
            digest.update(text);
            let authorities = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
            let authorities = authorities.filter_map(|cluster| cluster.certificate_authority.as_ref());
            let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
            let users = users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
            for path in authorities.chain(users.flatten()) {
                // A file that cannot be read is told of when it is used.
                digest.update(std::fs::read(path).unwrap_or_default());
            }
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The context that kubectl would use.
    pub fn current_context() -> Result<String, Failure> {
        let kubeconfig = Kubeconfig::read().map_err(|error| unreadable(DEFAULT, &error))?;
        kubeconfig.current_context.ok_or_else(|| {
            Failure::new("the default kubeconfig has no current context").hint("name one with --context")
        })
    }

    /// The cluster's name in the state.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Names the replica too, so that an audit log tells them apart.
fn user_agent(fence: Option<&Fence>) -> HeaderValue {
    const NAME: &str = concat!("drover/", env!("CARGO_PKG_VERSION"));
    let whole = fence.and_then(|fence| HeaderValue::try_from(format!("{NAME} ({})", fence.identity)).ok());
    whole.unwrap_or(HeaderValue::from_static(NAME))
}

/// The kubeconfig of a connection, and what it is called.
fn kubeconfig_of(connection: &Connection, base: Option<&Path>) -> Result<(Kubeconfig, String), Failure> {
    match &connection.kubeconfig {
        Some(path) => {
            let path = located(path, base)?;
            let shown = format!("the kubeconfig {}", path.display());
            Ok((Kubeconfig::read_from(&path).map_err(|error| unreadable(&shown, &error))?, shown))
        }
        None => Ok((Kubeconfig::read().map_err(|error| unreadable(DEFAULT, &error))?, DEFAULT.to_owned())),
    }
}

async fn from_kubeconfig(connection: &Connection, base: Option<&Path>) -> Result<Config, Failure> {
    let (kubeconfig, shown) = kubeconfig_of(connection, base)?;
    if let Some(context) = &connection.context
        && !kubeconfig.contexts.iter().any(|known| known.name == *context)
    {
        let known: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::new(format!("{shown} has no context {context:?}")).hint(format!("it has: {known}")));
    }
    let options = KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| Failure::caused(format!("{shown} cannot be used"), &error))
}

/// A parser quotes what it cannot read, and a kubeconfig is full of secrets: only the place is told.
fn unreadable(shown: &str, error: &KubeconfigError) -> Failure {
    let KubeconfigError::Parse(error) = error else {
        return Failure::caused(format!("{shown} cannot be read"), error);
    };
    let place = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
    Failure::new(format!("{shown} is not a kubeconfig{}", place.unwrap_or_default()))
        .hint("`kubectl config view` reads it too, and says more")
}

fn unusable(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Auth(error) => Failure::new(credential_cause(error)),
        error => Failure::caused("the connection cannot be set up", error),
    }
}

/// Whether an HTTP header can hold the token; kube panics where it cannot.
fn has_header_safe_token(auth: &AuthInfo) -> bool {
    let auth = serde_json::to_value(auth).unwrap_or_default();
    auth["token"].as_str().is_none_or(|token| !token.chars().any(char::is_control))
}

/// Why there are no credentials, without the command's environment and output, which can hold them.
pub(super) fn credential_cause(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("the command of the kubeconfig gave no credentials: {}", out.status)
        }
        AuthError::AuthExecParse(_) | AuthError::AuthExec(_) | AuthError::ParseTokenKey(_) => {
            "the command of the kubeconfig answered with something that is no ExecCredential".to_owned()
        }
        error => format!("the credentials of the kubeconfig cannot be used: {error}"),
    }
}

fn located(path: &str, base: Option<&Path>) -> Result<PathBuf, Failure> {
    let expanded = match path.strip_prefix("~/") {
        #[expect(clippy::disallowed_methods, reason = "the home folder is part of where a kubeconfig lives")]
        Some(rest) => std::env::home_dir().map(|home| home.join(rest)).unwrap_or_else(|| PathBuf::from(path)),
        None => PathBuf::from(path),
    };
    if expanded.is_absolute() {
        return Ok(expanded);
    }
    base.map(|base| base.join(&expanded)).ok_or_else(|| {
        Failure::new(format!("the kubeconfig path {path:?} is relative, and this state has no folder on this machine"))
            .hint("write an absolute path, or one that begins with ~/")
    })
}
