//! Who sent a delivery, and whether it is genuine. Pure: headers and pieces of a body in, a verdict out.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Replays;
use crate::error::Failure;

/// Bytes that a body may have: what GitHub sends at most.
pub const MAX_BODY: u64 = 25 << 20;
/// Seconds by which a signed time may differ from now.
const TOLERANCE: i64 = 300;
/// Characters that a delivery id may have.
const LONGEST_ID: usize = 200;

/// The secrets that senders may prove themselves with: several while one is replaced by another.
#[derive(Clone)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Reads secrets, one a line; blank lines and white space around a secret do not count.
    ///
    /// # Errors
    /// When there is no secret at all: an empty one would let everybody in.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let secrets: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if secrets.is_empty() {
            return Err(Failure::new("there is no secret for webhooks").hint("write one into the file, one a line"));
        }
        Ok(Self(secrets))
    }

    /// Whether one of the secrets is this, told in the same time for every text of the same length.
    fn contain(&self, text: &[u8]) -> bool {
        // Digests have one length; the lengths of the secrets stay unknown.
        let text = Sha256::digest(text);
        any(self.0.iter().map(|secret| Sha256::digest(secret).as_slice().ct_eq(text.as_slice())))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Whether any of these is true; all of them are looked at.
fn any(choices: impl Iterator<Item = Choice>) -> bool {
    choices.fold(Choice::from(0), |any, choice| any | choice).into()
}

/// Who sent a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// GitHub.
    GitHub,
    /// Gitea or Forgejo.
    Gitea,
    /// GitLab.
    GitLab,
    /// A script, or a server that drover does not know.
    Script,
}

/// What a delivery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something may have been pushed.
    Push,
    /// Only that the sender reaches drover.
    Ping,
    /// Something that does not change the repository.
    Other,
}

/// A genuine delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it.
    pub provider: Provider,
    /// What it says.
    pub event: Event,
    /// Its id, where the sender gives one.
    pub id: Option<String>,
}

/// Why a delivery is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It proves nothing.
    #[error("a signature or token is required")]
    Unsigned,
    /// What it proves itself with is not right.
    #[error("the signature or token is not right")]
    Forged,
    /// It was signed at another time.
    #[error("the signed time is not now")]
    OutOfTime,
    /// A header cannot be read.
    #[error("a header cannot be read")]
    Malformed,
    /// It was accepted before.
    #[error("this delivery was accepted before")]
    Replayed,
    /// Its body is too long.
    #[error("the body is longer than 25 MiB")]
    TooLarge,
}

impl Rejected {
    /// The HTTP status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unsigned | Self::Forged | Self::OutOfTime => StatusCode::UNAUTHORIZED,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Replayed => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// A name that does not change, as for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Forged => "forged",
            Self::OutOfTime => "out-of-time",
            Self::Malformed => "malformed",
            Self::Replayed => "replayed",
            Self::TooLarge => "too-large",
        }
    }
}

/// The check of one delivery while its body arrives. The body runs through it and is not kept.
#[derive(Debug)]
pub struct Check {
    delivery: Delivery,
    proof: Proof,
    length: u64,
}

/// What is left to prove once the whole body has been seen.
#[derive(Debug)]
enum Proof {
    /// Nothing.
    Given,
    /// That one of the MACs, each under another secret, is one of the signatures.
    Signed { macs: Vec<Hmac<Sha256>>, signatures: Vec<Vec<u8>> },
}

impl Check {
    /// Begins with the headers of a delivery. Without secrets everything is genuine.
    ///
    /// # Errors
    /// When the headers alone are enough to reject it.
    pub fn begin(headers: &HeaderMap, secrets: Option<&Secrets>, now: Timestamp) -> Result<Self, Rejected> {
        if header(headers, "content-length")?.is_some_and(|length| length.parse().is_ok_and(|n: u64| n > MAX_BODY)) {
            return Err(Rejected::TooLarge);
        }
        let delivery = delivery(headers)?;
        let proof = match secrets {
            Some(secrets) => prove(headers, secrets, now)?,
            None => Proof::Given,
        };
        Ok(Self { delivery, proof, length: 0 })
    }

    /// The next piece of the body.
    ///
    /// # Errors
    /// When the body gets too long.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), Rejected> {
        self.length += piece.len() as u64;
        if self.length > MAX_BODY {
            return Err(Rejected::TooLarge);
        }
        if let Proof::Signed { macs, .. } = &mut self.proof {
            macs.iter_mut().for_each(|mac| mac.update(piece));
        }
        Ok(())
    }

    /// The verdict after the whole body. Only what is genuine is remembered among the replays.
    ///
    /// # Errors
    /// When it is not genuine, or was accepted before.
    pub fn finish(self, replays: &mut Replays, now: Timestamp) -> Result<Delivery, Rejected> {
        if let Proof::Signed { macs, signatures } = self.proof {
            let one_by_one = macs.into_iter().map(|mac| mac.finalize().into_bytes());
            let genuine = any(one_by_one.flat_map(|mac| {
                signatures.iter().map(move |signature| mac.as_slice().ct_eq(signature)).collect::<Vec<_>>()
            }));
            if !genuine {
                return Err(Rejected::Forged);
            }
        }
        match &self.delivery.id {
            Some(id) if !replays.remember(id, now) => Err(Rejected::Replayed),
            _ => Ok(self.delivery),
        }
    }
}

/// A header that stands there at most once, and is text.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Rejected> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Rejected::Malformed),
        (Some(_), Some(_)) => Err(Rejected::Malformed),
    }
}

fn delivery(headers: &HeaderMap) -> Result<Delivery, Rejected> {
    // Gitea also sends the headers of GitHub.
    const PROVIDERS: [(Provider, &str, &[&str]); 4] = [
        (Provider::Gitea, "x-forgejo-event", &["x-forgejo-delivery"]),
        (Provider::Gitea, "x-gitea-event", &["x-gitea-delivery"]),
        (Provider::GitHub, "x-github-event", &["x-github-delivery"]),
        (Provider::GitLab, "x-gitlab-event", &["webhook-id", "idempotency-key", "x-gitlab-event-uuid"]),
    ];
    for (provider, event, ids) in PROVIDERS {
        if let Some(event) = header(headers, event)? {
            let event = match event {
                // System hooks of GitLab tell what they are only in their body.
                "push" | "create" | "delete" | "Push Hook" | "Tag Push Hook" | "System Hook" => Event::Push,
                "ping" => Event::Ping,
                _ => Event::Other,
            };
            return Ok(Delivery { provider, event, id: id(headers, ids)? });
        }
    }
    let id = id(headers, &["webhook-id", "x-drover-delivery"])?;
    Ok(Delivery { provider: Provider::Script, event: Event::Push, id })
}

/// The delivery id in the first of these headers that is there.
fn id(headers: &HeaderMap, names: &[&str]) -> Result<Option<String>, Rejected> {
    for name in names {
        match header(headers, name)? {
            Some(id) if id.is_empty() || id.len() > LONGEST_ID => return Err(Rejected::Malformed),
            Some(id) => return Ok(Some(id.to_owned())),
            None => {}
        }
    }
    Ok(None)
}

/// The strongest proof that the headers offer; one that is there must hold, whatever else is there.
fn prove(headers: &HeaderMap, secrets: &Secrets, now: Timestamp) -> Result<Proof, Rejected> {
    if let Some(signatures) = header(headers, "webhook-signature")? {
        return standard_webhook(headers, signatures, secrets, now);
    }
    for name in ["x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256", "x-drover-signature-256"] {
        if let Some(signature) = header(headers, name)? {
            let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
            let signature = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| Rejected::Malformed)?;
            let macs = secrets.0.iter().filter_map(|secret| mac(secret.as_bytes())).collect();
            return Ok(Proof::Signed { macs, signatures: vec![signature] });
        }
    }
    let bearer = header(headers, "authorization")?.map(|value| value.split_once(' ').unwrap_or((value, "")));
    let token = match (header(headers, "x-gitlab-token")?, bearer) {
        (Some(token), _) => token,
        (None, Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(Rejected::Unsigned),
    };
    if secrets.contain(token.as_bytes()) { Ok(Proof::Given) } else { Err(Rejected::Forged) }
}

/// The scheme of standardwebhooks.com: id, time and body are signed, each signature is `v1,` and base64.
fn standard_webhook(
    headers: &HeaderMap,
    signatures: &str,
    secrets: &Secrets,
    now: Timestamp,
) -> Result<Proof, Rejected> {
    let (Some(id), Some(time)) = (header(headers, "webhook-id")?, header(headers, "webhook-timestamp")?) else {
        return Err(Rejected::Unsigned);
    };
    let seconds: i64 = time.parse().map_err(|_| Rejected::Malformed)?;
    if seconds.abs_diff(now.as_second()) > TOLERANCE as u64 {
        return Err(Rejected::OutOfTime);
    }
    let signatures = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let signatures: Vec<_> = signatures.filter_map(|text| BASE64.decode(text.as_bytes()).ok()).collect();
    let macs = secrets.0.iter().filter_map(|secret| {
        // The scheme writes its keys in base64 behind a prefix.
        let key = secret.strip_prefix("whsec_").and_then(|key| BASE64.decode(key.as_bytes()).ok());
        let mac = mac(key.as_deref().unwrap_or(secret.as_bytes()))?;
        Some(mac.chain_update(id).chain_update(".").chain_update(time).chain_update("."))
    });
    Ok(Proof::Signed { macs: macs.collect(), signatures })
}

/// HMAC takes keys of every length, so that there always is one.
fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}
