//! Pull requests on GitHub, Gitea and Forgejo: opened once, and brought up to date while they are open.

use std::path::Path;
use std::time::Duration;

use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::files;
use crate::error::Failure;
use crate::model::write_back::{ProposalServer, ServerForm};

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read.
const ANSWER: u64 = 8 << 20;
/// Open proposals of one repository that are looked through.
const PAGES: usize = 20;
const PAGE: usize = 50;

/// What is proposed.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'p> {
    /// The branch.
    pub branch: &'p str,
    /// The branch that it is to be merged into.
    pub into: &'p str,
    /// Its title.
    pub title: &'p str,
    /// What it says; where that is empty, an open one keeps its words.
    pub body: &'p str,
}

#[derive(Deserialize)]
struct Open {
    number: u64,
    html_url: String,
    head: End,
    base: End,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "ref")]
    name: String,
}

/// A server that proposals are opened on.
pub struct Server {
    agent: Agent,
    /// The address of the repository in the API.
    repository: String,
    owner: String,
    token: String,
}

/// The host and path of a repository, from any address that git takes.
fn place_of(address: &str) -> Option<(&str, &str)> {
    let (authority, path) = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => address.split_once(':')?,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.trim_matches('/');
    Some((host.split(':').next().unwrap_or(host), path.strip_suffix(".git").unwrap_or(path)))
}

fn default_api(form: ServerForm, host: &str) -> String {
    match form {
        ServerForm::Github if host == "github.com" => "https://api.github.com".to_owned(),
        ServerForm::Github => format!("https://{host}/api/v3"),
        ServerForm::Gitea | ServerForm::Gitlab => format!("https://{host}/api/v1"),
    }
}

impl Server {
    /// A server and its token. `repository` is where git finds the repository.
    pub fn new(server: &ProposalServer, repository: &str) -> Result<Self, Failure> {
        let file = server.token_file.as_ref().ok_or_else(|| {
            Failure::new("there is no token for the API of the git server")
                .hint("name it in `writeBack.server.tokenFile`")
        })?;
        let token = files::read_text(Path::new(file.as_str()))?.trim().to_owned();
        let (host, path) = place_of(repository).ok_or_else(|| {
            Failure::new("the repository is not on a server").hint("`writeBack.server` needs one behind ssh or https")
        })?;
        let api = server.api.as_deref();
        let api = api.map_or_else(|| default_api(server.form, host), |api| api.trim_end_matches('/').to_owned());
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The token is for this server, not for where it leads.
            .max_redirects(0)
            .user_agent(concat!("drover/", env!("CARGO_PKG_VERSION")))
            .build();
        let owner = path.split('/').next().unwrap_or_default().to_owned();
        Ok(Self { agent: config.into(), repository: format!("{api}/repos/{path}"), owner, token })
    }

    /// Opens a proposal, or updates the one that is open; gives its address.
    pub fn open_or_update(&self, proposal: &Proposal<'_>) -> Result<String, Failure> {
        let Proposal { branch, into, title, body } = proposal;
        if let Some(open) = self.find(proposal)? {
            if !body.is_empty() {
                let change = json!({ "title": title, "body": body });
                self.ask("PATCH", &format!("/pulls/{}", open.number), Some(&change))?;
            }
            return Ok(open.html_url);
        }
        let new = json!({ "title": title, "body": body, "head": branch, "base": into });
        let opened: Open = read(self.ask("POST", "/pulls", Some(&new))?)?;
        Ok(opened.html_url)
    }

    fn find(&self, proposal: &Proposal<'_>) -> Result<Option<Open>, Failure> {
        let is_it = |open: &Open| open.head.name == proposal.branch && open.base.name == proposal.into;
        for page in 1..=PAGES {
            // GitHub takes `head` and `per_page`, Gitea `limit`; each ignores what is the other's.
            let asked = format!(
                "/pulls?state=open&head={}:{}&base={}&per_page={PAGE}&limit={PAGE}&page={page}",
                self.owner, proposal.branch, proposal.into
            );
            let open: Vec<Open> = read(self.ask("GET", &asked, None)?)?;
            let is_last = open.is_empty();
            if let Some(found) = open.into_iter().find(is_it) {
                return Ok(Some(found));
            }
            if is_last {
                break;
            }
        }
        Ok(None)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.repository);
        let within = |error: &dyn std::fmt::Display| Failure::new(format!("{method} {url}: {error}"));
        let request = http::Request::builder()
            .method(method)
            .uri(&url)
            .header(header::AUTHORIZATION, format!("token {}", self.token))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .map_err(|error| within(&error))?;
        let mut response = self.agent.run(request).map_err(|error| within(&error))?;
        let text = response.body_mut().with_config().limit(ANSWER).read_to_string().map_err(|error| within(&error))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let status = response.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer["message"].as_str().unwrap_or_default().replace(char::is_control, " ");
        let failure = within(&format!("{status} {said}"));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                failure.hint("check that the token in `writeBack.server.tokenFile` may open pull requests there")
            }
            _ => failure,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer)
        .map_err(|error| Failure::caused("the API of the git server answered something unexpected", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_by_every_address() {
        for address in [
            "https://git.example.org/ops/fleet.git",
            "https://ann:s3cret@git.example.org:8443/ops/fleet",
            "ssh://git@git.example.org:22/ops/fleet.git",
            "git@git.example.org:ops/fleet.git",
        ] {
            assert_eq!(place_of(address), Some(("git.example.org", "ops/fleet")), "{address}");
        }
        assert_eq!(default_api(ServerForm::Github, "github.com"), "https://api.github.com");
        assert_eq!(default_api(ServerForm::Gitea, "git.example.org"), "https://git.example.org/api/v1");
    }
}
