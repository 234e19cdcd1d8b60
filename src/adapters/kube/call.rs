//! One call to an API server: retried with back-off and jitter while that can help, and explained when it cannot.

use std::error::Error as StdError;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::{AuthError, Body};
use serde::Deserialize;
use tokio::time::Instant;

use super::KubeCluster;
use super::connect::credential_cause;

/// How long a read is repeated while the server is busy.
const READ_PATIENCE: Duration = Duration::from_secs(8);
/// How long a write is repeated while the server is busy or away: long enough for a restart.
const WRITE_PATIENCE: Duration = Duration::from_secs(45);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("{message} ({code})")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What the server says.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer came.
    #[error("{cause}")]
    Unreachable {
        /// Why.
        cause: String,
    },
    /// The answer is not what the API promises.
    #[error("its list of {what} cannot be read: {cause}")]
    Unreadable {
        /// What was listed.
        what: String,
        /// Why.
        cause: String,
    },
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The process may not write to the cluster now.
    #[error("the cluster's Lease is not held")]
    Fenced,
}

impl CallError {
    fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { code: 429 | 500 | 502 | 503 | 504, .. })
    }

    /// Whether the server could not be spoken to at all.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut)
    }

    /// Whether the server does not let drover do this to any object.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { code: 401 | 403, .. }) && !self.is_objection()
    }

    /// Whether an admission plugin or webhook objects to this one change.
    fn is_objection(&self) -> bool {
        let Self::Refused { code: 403, message, .. } = self else { return false };
        message.contains("denied the request") || (message.contains(" is forbidden: ") && !message.contains(" cannot "))
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What drover reads of the API server's own description of an error.
#[derive(Deserialize)]
struct Status {
    message: String,
}

fn back_off() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
}

/// How long to wait before the next attempt: at least what the server asks for. None where that is past the deadline.
fn wait_until(deadline: Instant, error: &CallError, back_off: Option<Duration>) -> Option<Duration> {
    let wait = back_off?.max(error.retry_after().unwrap_or_default());
    (Instant::now() + wait < deadline).then_some(wait)
}

/// Waits, and tells whether it could wait to the end.
async fn wait_unless(stop: &AtomicBool, wait: Duration) -> bool {
    const GLANCE: Duration = Duration::from_millis(50);
    let end = Instant::now() + wait;
    while !stop.load(Relaxed) && Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + GLANCE)).await;
    }
    !stop.load(Relaxed)
}

impl KubeCluster {
    /// A read: waits for a busy server, but not for one that is away.
    pub(super) async fn call(&self, request: Request<Vec<u8>>) -> Result<Vec<u8>, CallError> {
        let deadline = Instant::now() + READ_PATIENCE;
        (|| attempt(&self.client, request.clone()))
            .retry(back_off())
            .when(CallError::is_busy)
            .adjust(|error, wait| wait_until(deadline, error, wait))
            .await
    }

    /// A write that is safe to repeat: waits for a busy server, and for one that restarts. Once `stop` is set, nothing
    /// is repeated any more.
    pub(super) async fn write(&self, request: Request<Vec<u8>>, stop: &AtomicBool) -> Result<Vec<u8>, CallError> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        let once = || async {
            match &self.fenced {
                None => attempt_within(&self.client, request.clone(), self.timeout).await,
                Some((client, fence)) => {
                    fence
                        .guard(&request, async |request, limit| {
                            attempt_within(client, request, limit.min(self.timeout)).await
                        })
                        .await
                }
            }
        };
        let mut waits = back_off().build();
        // A server that has just come back knows nobody's rights for a moment.
        let mut was_away = false;
        loop {
            let error = match once().await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            was_away |= error.is_lost();
            let may_pass = error.is_busy() || error.is_lost() || (was_away && error.is_denied());
            let wait = waits.next().filter(|_| may_pass).and_then(|wait| wait_until(deadline, &error, Some(wait)));
            match wait {
                Some(wait) if wait_unless(stop, wait).await => {}
                _ => return Err(error),
            }
        }
    }

    /// The body of an answer, before it has come.
    pub(super) async fn open(&self, request: Request<Vec<u8>>) -> Result<Body, CallError> {
        open(&self.client, request).await
    }
}

async fn attempt_within(
    client: &kube::Client,
    request: Request<Vec<u8>>,
    limit: Duration,
) -> Result<Vec<u8>, CallError> {
    tokio::time::timeout(limit, attempt(client, request)).await.unwrap_or(Err(CallError::TimedOut))
}

async fn attempt(client: &kube::Client, request: Request<Vec<u8>>) -> Result<Vec<u8>, CallError> {
    let body = open(client, request).await?;
    Ok(body.collect().await.map_err(|error| unreachable_cause(&error))?.to_bytes().into())
}

async fn open(client: &kube::Client, request: Request<Vec<u8>>) -> Result<Body, CallError> {
    let response = client.send(request.map(Body::from)).await.map_err(|error| unreachable_cause(&error))?;
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok(body);
    }
    let body = body.collect().await.map_err(|error| unreachable_cause(&error))?.to_bytes();
    let seconds = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Err(CallError::Refused {
        code: parts.status.as_u16(),
        message: message_of(&body, parts.status),
        retry_after: seconds.map(|seconds: u64| Duration::from_secs(seconds.min(60))),
    })
}

/// The lines of an answer, as they come.
pub(super) struct Lines {
    body: Body,
    come: Vec<u8>,
}

impl Lines {
    /// No object is nearly as large: etcd takes 1.5 MB.
    const LONGEST: usize = 32 << 20;

    pub(super) fn of(body: Body) -> Self {
        Self { body, come: Vec::new() }
    }

    /// The next line; none at the end. It can be stopped at any await.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.come[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.come.split_off(searched + end + 1);
                return Ok(Some(std::mem::replace(&mut self.come, rest)));
            }
            searched = self.come.len();
            if searched > Self::LONGEST {
                return Err(CallError::Unreachable { cause: "its watch never ends a line".into() });
            }
            match self.body.frame().await.transpose().map_err(|error| unreachable_cause(&error))? {
                Some(frame) => self.come.extend(frame.into_data().unwrap_or_default()),
                // What was cut off is no line.
                None => return Ok(None),
            }
        }
    }
}

fn message_of(body: &[u8], status: StatusCode) -> String {
    if let Ok(status) = serde_json::from_slice::<Status>(body) {
        return status.message;
    }
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let reason = status.canonical_reason().unwrap_or("an error without a name");
    line.map_or_else(|| reason.to_owned(), |line| line.chars().take(200).collect())
}

/// An error of kube's own calls in drover's terms.
pub(super) fn call_error(error: &kube::Error) -> CallError {
    match error {
        kube::Error::Api(status) => {
            CallError::Refused { code: status.code, message: status.message.clone(), retry_after: None }
        }
        error => unreachable_cause(error),
    }
}

/// The innermost cause: what a person can act upon ("connection refused"), not the layers around it.
fn unreachable_cause(error: &(dyn StdError + 'static)) -> CallError {
    let chain = || std::iter::successors(Some(error), |&error| error.source());
    // The time that a connection may take ends as a timeout of drover's own, with no error number of the system.
    let ran_out = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
    if chain().any(|error| error.downcast_ref::<io::Error>().is_some_and(ran_out)) {
        return CallError::TimedOut;
    }
    if let Some(error) = chain().find_map(|error| error.downcast_ref::<AuthError>()) {
        return CallError::Unreachable { cause: credential_cause(error) };
    }
    CallError::Unreachable { cause: chain().last().map(ToString::to_string).unwrap_or_default() }
}
