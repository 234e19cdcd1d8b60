//! The few HTTP requests that tests make themselves.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// A test against a paused server must fail, not hang.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What the API server answered, success or not.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.body))
    }

    /// Itself if the request was carried out.
    pub(crate) fn accepted(self, what: &str) -> Self {
        assert!((200..300).contains(&self.status), "{what}: {} {}", self.status, self.body);
        self
    }
}

/// Connections to one server, verified by its own certificate authority and by no other.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    pub(super) fn new(url: String, ca: &Path) -> Result<Self, String> {
        let pem = fs::read(ca).map_err(|e| format!("read {}: {e}", ca.display()))?;
        let mut roots = Vec::new();
        for item in ureq::tls::parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(e) => return Err(format!("parse {}: {e}", ca.display())),
            }
        }
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build())
            .proxy(None)
            .user_agent("drover-tests")
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .max_idle_connections_per_host(8)
            .build();
        Ok(Self { agent: config.into(), url })
    }

    /// The status and the body of what is read at a path, as it comes.
    pub(crate) fn open(&self, token: &str, path: &str) -> Result<(u16, impl Read), String> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", format!("Bearer {token}"));
        let reply = request.call().map_err(|e| e.to_string())?;
        Ok((reply.status().as_u16(), reply.into_body().into_reader()))
    }

    /// The body is its content type and value.
    pub(crate) fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Reply, String> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {token}"));
        let reply = match body {
            None => self.agent.run(request.body(()).map_err(|e| e.to_string())?),
            Some((content_type, value)) => {
                let request = request.header("content-type", content_type).body(value.to_string());
                self.agent.run(request.map_err(|e| e.to_string())?)
            }
        };
        let mut reply = reply.map_err(|e| e.to_string())?;
        let body = reply.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(|e| e.to_string())?;
        Ok(Reply { status: reply.status().as_u16(), body })
    }
}
