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
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock;
use crate::daemon::Daemon;
use crate::error::Failure;
use crate::report::{DaemonStatus, daemon_html};
use hooks::Hooks;

/// How long a client may take for the head of a request, and stay without one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at the same time; more wait until one ends.
const CONNECTIONS: usize = 512;
/// How long the end of the daemon waits for answers under way.
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
        self.answer(router, &stop).await;
        Ok(())
    }

    /// Speaks HTTP with whoever connects. What axum brings for this waits for a slow client forever.
    async fn answer(self, router: Router, stop: &CancellationToken) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let (places, graceful) = (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (self.listener.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => break,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors, say
                continue;
            };
            let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                let _ = connection.await; // a client that went away is nobody's trouble
                drop(place);
            });
        }
        let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
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
    match daemon.numbers() {
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
