//! The webhook as a route of the daemon's HTTP server.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::{Check, Delivery, Event, Rejected, Replays, Secrets};
use crate::adapters::files;
use crate::error::Failure;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the webhook needs.
#[derive(Debug)]
pub struct Hooks {
    secret_file: Option<PathBuf>,
    clock: fn() -> Timestamp,
    patience: Duration,
    push: Arc<Notify>,
    replays: Mutex<Replays>,
}

impl Hooks {
    /// A webhook that wakes `push` after each genuine push; pushes that come before it is awaited count as one.
    ///
    /// The secrets are read from their file, one a line, for each delivery: while one replaces another, both are
    /// accepted. Without a file everything is genuine. `clock` gives the time.
    pub fn new(secret_file: Option<PathBuf>, clock: fn() -> Timestamp, push: Arc<Notify>) -> Self {
        Self { secret_file, clock, patience: PATIENCE, push, replays: Mutex::default() }
    }

    /// How long a body may take instead of ten seconds.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The secrets as they are now.
    async fn secrets(&self) -> Result<Option<Secrets>, Failure> {
        let Some(path) = self.secret_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || Secrets::parse(&files::read_text(&path)?)).await;
        read.unwrap_or_else(|error| Err(Failure::caused("the secrets of webhooks cannot be read", &error))).map(Some)
    }

    async fn check(&self, headers: &HeaderMap, mut body: Body, secrets: Option<&Secrets>) -> Result<Delivery, Refused> {
        let mut check = Check::begin(headers, secrets, (self.clock)())?;
        let read = async {
            while let Some(frame) = body.frame().await {
                if let Some(piece) = frame.map_err(|_| Refused::Broken)?.data_ref() {
                    check.update(piece)?;
                }
            }
            Ok::<_, Refused>(())
        };
        tokio::time::timeout(self.patience, read).await.map_err(|_| Refused::TooSlow)??;
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(check.finish(&mut replays, (self.clock)())?)
    }
}

/// Why a delivery gets no further.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("the body did not come in time")]
    TooSlow,
    #[error("the body could not be read")]
    Broken,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Rejected(rejected) => rejected.status(),
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// The route `POST /hooks/git`.
pub fn router(hooks: Arc<Hooks>) -> Router {
    Router::new().route("/hooks/git", post(receive)).with_state(hooks)
}

async fn receive(State(hooks): State<Arc<Hooks>>, request: Request) -> (StatusCode, String) {
    let secrets = match hooks.secrets().await {
        Ok(secrets) => secrets,
        Err(failure) => {
            // Without its secrets drover believes nobody; what is wrong with them is nobody's business outside.
            tracing::error!(hint = failure.advice(), "webhooks are refused: {failure}");
            return (StatusCode::SERVICE_UNAVAILABLE, "the secret cannot be read\n".to_owned());
        }
    };
    let (head, body) = request.into_parts();
    match hooks.check(&head.headers, body, secrets.as_ref()).await {
        Ok(Delivery { event: Event::Push, provider, .. }) => {
            tracing::info!(?provider, "a webhook says that something was pushed");
            hooks.push.notify_one();
            (StatusCode::ACCEPTED, "drover looks at the repository\n".to_owned())
        }
        Ok(Delivery { event: Event::Ping, .. }) => (StatusCode::OK, "drover hears\n".to_owned()),
        Ok(Delivery { event: Event::Other, .. }) => (StatusCode::OK, "nothing to do\n".to_owned()),
        Err(refused) => {
            tracing::warn!("a webhook was refused: {refused}");
            (refused.status(), format!("{refused}\n"))
        }
    }
}
