//! Sends messages to webhooks. Addresses and keys are read from their files for each message, so that rotated ones are
//! picked up; neither is ever part of an error.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use http::{StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::files;
use crate::error::Failure;
use crate::model::fleet::{Notification, NotificationForm};

/// The header that holds the signature of a message of type `generic`.
pub const SIGNATURE_HEADER: &str = "X-Drover-Signature-256";

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest wait that a receiver can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Bytes of an answer that are read.
const ANSWER: u64 = 64 << 10;

/// A client of webhooks. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Sender {
    agent: Agent,
}

/// Why a message was not taken.
struct Unsent {
    failure: Failure,
    /// The least time after which it can be tried again; none where that cannot help.
    again: Option<Duration>,
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self { failure, again: None }
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// A client that trusts what the machine trusts, and honours the proxies of the environment.
    pub fn new() -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(ATTEMPT))
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            // A message is for the address in the file, not for where that leads.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("drover/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into() }
    }

    /// Sends one message. While the receiver is away or busy it is tried five times, over about two minutes.
    ///
    /// # Errors
    /// What the receiver answered at last, or why it could not be reached; of its address only the host is named.
    pub async fn send(&self, to: &Arc<Notification>, body: Value) -> Result<(), Failure> {
        let back_off = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(5))
            .with_max_delay(LONGEST_WAIT)
            .with_max_times(4)
            .with_jitter();
        let body = Arc::new(body);
        let attempt = || async {
            let (sender, to, body) = (self.clone(), to.clone(), body.clone());
            let attempt = tokio::task::spawn_blocking(move || sender.attempt(&to, &body)).await;
            attempt.unwrap_or_else(|error| Err(Failure::caused("a message could not be sent", &error).into()))
        };
        attempt
            .retry(back_off)
            .when(|unsent: &Unsent| unsent.again.is_some())
            .adjust(|unsent, wait| Some(wait?.max(unsent.again?)))
            .await
            .map_err(|unsent| unsent.failure)
    }

    fn attempt(&self, to: &Notification, body: &Value) -> Result<(), Unsent> {
        let url = address(to)?;
        let receiver = format!("the {} webhook at {}", to.form.name(), url.host().unwrap_or_default());
        let secret = to.secret_file.as_ref().map(|file| secret_text(file.as_str())).transpose()?;
        let body = match &secret {
            Some(secret) if to.form == NotificationForm::Feishu => {
                signed_for_feishu(body.clone(), secret, jiff::Timestamp::now().as_second())
            }
            _ => body.clone(),
        };
        let body = body.to_string();
        let mut request = self.agent.post(url).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        if let Some(secret) = secret.filter(|_| to.form == NotificationForm::Generic) {
            request = request.header(SIGNATURE_HEADER, signature(&secret, body.as_bytes()));
        }
        let mut response = request.send(body).map_err(|error| unreachable(&receiver, &error))?;
        let text = response.body_mut().with_config().limit(ANSWER).read_to_string().unwrap_or_default();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
        judge(to, &receiver, response.status(), wait.map(Duration::from_secs), &text)
    }
}

/// The address of a receiver.
fn address(to: &Notification) -> Result<Uri, Failure> {
    let file = to.url_file.as_str();
    let bad = |what| {
        Failure::new(format!("{file} {what}"))
            .hint("it must hold the address of a webhook, https://…, and nothing else")
    };
    let url: Uri = secret_text(file)?.parse().map_err(|_| bad("holds no address"))?;
    match url.scheme_str() {
        Some("http" | "https") if url.host().is_some_and(|host| !host.is_empty()) => Ok(url),
        _ => Err(bad("holds no address of http or https")),
    }
}

/// The text of a file without the line break at its end.
fn secret_text(file: &str) -> Result<String, Failure> {
    let text = files::read_regular(Path::new(file))?;
    match str::from_utf8(&text).map(str::trim) {
        Ok("") => Err(Failure::new(format!("{file} is empty"))),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Failure::new(format!("{file} is not UTF-8"))),
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// The value of the header that signs a generic message.
fn signature(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", HEXLOWER.encode(&hmac(secret.as_bytes(), body)))
}

/// A body as a signed Feishu robot expects it. Time and secret are the key; the message itself is not signed.
fn signed_for_feishu(mut body: Value, secret: &str, seconds: i64) -> Value {
    let key = format!("{seconds}\n{secret}");
    body["timestamp"] = seconds.to_string().into();
    body["sign"] = BASE64.encode(&hmac(key.as_bytes(), b"")).into();
    body
}

/// Only errors that cannot hold an address are repeated.
fn unreachable(receiver: &str, error: &ureq::Error) -> Unsent {
    let (cause, passing) = match error {
        ureq::Error::Io(error) => (error.to_string(), true),
        ureq::Error::Timeout(_) => ("no answer in time".to_owned(), true),
        ureq::Error::HostNotFound => ("there is no such host".to_owned(), true),
        ureq::Error::ConnectionFailed => ("no connection".to_owned(), true),
        ureq::Error::ConnectProxyFailed(_) => ("the proxy did not connect".to_owned(), true),
        ureq::Error::Tls(cause) => ((*cause).to_owned(), false),
        ureq::Error::Rustls(error) => (error.to_string(), false),
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => ("it broke the HTTP protocol".to_owned(), true),
        _ => ("the request could not be made".to_owned(), false),
    };
    let failure = Failure::new(format!("{receiver} cannot be reached: {cause}"));
    Unsent { failure, again: passing.then_some(Duration::ZERO) }
}

/// What robots say beside status 200.
#[derive(Deserialize)]
struct Verdict {
    /// WeCom's word for it.
    errcode: Option<i64>,
    /// Feishu's word for it.
    code: Option<i64>,
    /// Feishu's word for it in earlier times.
    #[serde(rename = "StatusCode")]
    status_code: Option<i64>,
}

/// Whether an answer means that the message was taken. The text of the answer could hold the address, and is not shown.
fn judge(
    to: &Notification,
    receiver: &str,
    status: StatusCode,
    wait: Option<Duration>,
    text: &str,
) -> Result<(), Unsent> {
    let wait = wait.unwrap_or_default().min(LONGEST_WAIT);
    if !status.is_success() {
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let mut failure = Failure::new(format!("{receiver} answered {}", status.as_u16()));
        if !again {
            failure = failure.hint(format!("check that {} holds the address of a webhook that exists", to.url_file));
        }
        return Err(Unsent { failure, again: again.then_some(wait) });
    }
    if matches!(to.form, NotificationForm::Generic | NotificationForm::Slack) {
        return Ok(());
    }
    let verdict = serde_json::from_str::<Verdict>(text).ok();
    let Some(code) = verdict.and_then(|verdict| verdict.errcode.or(verdict.code).or(verdict.status_code)) else {
        let failure = Failure::new(format!("{receiver} gave an answer that is none of a robot"));
        return Err(failure.hint(format!("check that {} holds the address of a robot", to.url_file)).into());
    };
    let (hint, again) = match (to.form, code) {
        (_, 0) => return Ok(()),
        (NotificationForm::Wecom, 45009) | (NotificationForm::Feishu, 11232) => {
            ("it takes fewer messages a minute; ask for fewer `kinds`", Some(Duration::from_secs(60)))
        }
        (NotificationForm::Wecom, -1) => ("it is busy", Some(wait)),
        (NotificationForm::Wecom, 93000) => ("the robot of this address does not exist", None),
        (NotificationForm::Feishu, 19021) => ("check `secretFile` and the clock of this machine", None),
        (NotificationForm::Feishu, 19022) => ("the robot does not take messages from this machine's address", None),
        (NotificationForm::Feishu, 19024) => ("the robot wants a keyword: let it be `drover`", None),
        _ => ("the robot's documentation explains this code", None),
    };
    Err(Unsent { failure: Failure::new(format!("{receiver} refused the message: code {code}")).hint(hint), again })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_signed() {
        // printf '{}' | openssl dgst -sha256 -hmac key
        assert_eq!(signature("key", b"{}"), "sha256=a777724d943eb48dc69bca8a4a6d57a04db3f9ec7e1de4e581e860265bdf3032");
        // The key of Feishu's signature is "1700000000\nsecret".
        let signed = signed_for_feishu(serde_json::json!({"msg_type": "text"}), "secret", 1_700_000_000);
        assert_eq!(signed["timestamp"], "1700000000");
        assert_eq!(signed["sign"], "fiWS2+gh28DOydAv7hzONH/mDn9+b1Y4Y5ivXWXy8vA=");
        assert_eq!(signed["msg_type"], "text");
    }
}
