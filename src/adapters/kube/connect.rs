//! From the connection of a Cluster document to a client.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::KubeCluster;
use crate::error::Failure;
use crate::model::cluster::Connection;

impl KubeCluster {
    /// Prepares a client; nothing is sent yet. A relative kubeconfig is looked for below `base`.
    pub async fn connect(
        name: &str,
        connection: &Connection,
        base: Option<&Path>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let mut config = match connection.in_cluster {
            true => Config::incluster().map_err(|error| {
                Failure::caused("drover does not run inside a cluster", &error)
                    .hint("use a kubeconfig to reach this cluster from outside")
            })?,
            false => from_kubeconfig(connection, base).await?,
        };
        config.connect_timeout = Some(timeout);
        config.default_retry = false; // drover retries itself: it knows which calls may wait, and for how long
        let client = kube::Client::try_from(config)
            .map_err(|error| Failure::caused("the connection cannot be set up", &error))?;
        Ok(Self { name: name.to_owned(), client, timeout })
    }

    /// The context that kubectl would use.
    pub fn current_context() -> Result<String, Failure> {
        let kubeconfig =
            Kubeconfig::read().map_err(|error| Failure::caused("the default kubeconfig cannot be read", &error))?;
        kubeconfig.current_context.ok_or_else(|| {
            Failure::new("the default kubeconfig has no current context").hint("name one with --context")
        })
    }

    /// The cluster's name in the state.
    pub fn name(&self) -> &str {
        &self.name
    }
}

async fn from_kubeconfig(connection: &Connection, base: Option<&Path>) -> Result<Config, Failure> {
    let (kubeconfig, shown) = match &connection.kubeconfig {
        Some(path) => {
            let path = located(path, base)?;
            let shown = format!("the kubeconfig {}", path.display());
            let read = Kubeconfig::read_from(&path)
                .map_err(|error| Failure::caused(format!("{shown} cannot be read"), &error))?;
            (read, shown)
        }
        None => {
            let read =
                Kubeconfig::read().map_err(|error| Failure::caused("the default kubeconfig cannot be read", &error))?;
            (read, "the default kubeconfig".to_owned())
        }
    };
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
