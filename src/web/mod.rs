//! What the daemon serves: its page, its status, its health, its numbers, and an ear for webhooks.

pub mod hooks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock;
use crate::daemon::Daemon;
use crate::error::Failure;
use crate::report::{DaemonStatus, daemon_html};
use hooks::Hooks;

/// How long requests that are under way may take when the server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// A server that listens already.
pub struct Server {
    listener: TcpListener,
    address: String,
}

/// Listens, so that an address which is taken is known before anything else begins.
pub async fn bind(address: &str) -> Result<Server, Failure> {
    let failed = |error: std::io::Error| {
        Failure::caused(format!("cannot listen on {address}"), &error).hint("name another address with --listen")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?.to_string();
    Ok(Server { listener, address })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves until `stop`.
    pub async fn serve(
        self,
        daemon: Arc<Daemon>,
        hook_secret: Option<PathBuf>,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let hooks = Hooks::new(hook_secret, clock::now, daemon.trigger());
        let router = Router::new()
            .route("/", get(page))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(ready))
            .with_state(daemon)
            .merge(hooks::router(Arc::new(hooks)));
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        // Somebody who never finishes a request must not keep the process.
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            served = serve => served.map_err(|error| Failure::caused("cannot serve", &error)),
            () = patience => Ok(()),
        }
    }
}

async fn page(State(daemon): State<Arc<Daemon>>) -> Response {
    match daemon_html(&daemon.board.status()) {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(daemon): State<Arc<Daemon>>) -> axum::Json<DaemonStatus> {
    axum::Json(daemon.board.status())
}

async fn metrics(State(daemon): State<Arc<Daemon>>) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match daemon.metrics.text(&daemon.board.status()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether the process is worth keeping: a repository or a cluster that is away is no reason to restart it.
async fn health(State(daemon): State<Arc<Daemon>>) -> Response {
    let status = daemon.board.status();
    let code = if daemon.is_alive() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (code, checks(&status)).into_response()
}

/// Whether the daemon truly follows the state and every cluster.
async fn ready(State(daemon): State<Arc<Daemon>>) -> Response {
    let status = daemon.board.status();
    let code = if status.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, checks(&status)).into_response()
}

/// A line for each check, as the API server of Kubernetes writes them.
fn checks(status: &DaemonStatus) -> String {
    let line = |check: &crate::report::Check| {
        format!("[{}] {}: {}\n", if check.ok { '+' } else { '-' }, check.name, check.detail)
    };
    status.checks.iter().map(line).collect()
}
