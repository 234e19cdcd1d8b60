//! How drover proves who it is to a git server. Secrets are read when they are needed and are never shown.

use std::path::PathBuf;

use git2::{Cred, CredentialType, Error, RemoteCallbacks};

/// Where credentials for git servers come from, in the order in which they are tried: for ssh the key file and the
/// agent, for https the token, and at last git's own credential helpers.
#[derive(Clone, Default)]
pub struct Credentials {
    /// A private key for ssh.
    pub key_file: Option<PathBuf>,
    /// A token for https.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("Credentials").field("key_file", &self.key_file).field("token", &token).finish()
    }
}

impl Credentials {
    /// Callbacks that answer a server's questions, each answer once: libgit2 asks again for ever when one is refused.
    pub(super) fn callbacks<'c>(&self) -> RemoteCallbacks<'c> {
        let mut callbacks = RemoteCallbacks::new();
        let credentials = self.clone();
        let mut attempt = 0;
        callbacks.credentials(move |url, user, allowed| {
            if allowed.contains(CredentialType::USERNAME) {
                return Cred::username(user.unwrap_or("git"));
            }
            attempt += 1;
            credentials.answer(url, user.unwrap_or("git"), allowed, attempt)
        });
        callbacks
    }

    fn answer(&self, url: &str, user: &str, allowed: CredentialType, attempt: usize) -> Result<Cred, Error> {
        let mut ways: Vec<Box<dyn Fn() -> Result<Cred, Error> + '_>> = Vec::new();
        if allowed.contains(CredentialType::SSH_KEY) {
            if let Some(key) = &self.key_file {
                ways.push(Box::new(|| Cred::ssh_key(user, None, key, None)));
            }
            ways.push(Box::new(|| Cred::ssh_key_from_agent(user)));
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
            if let Some(token) = &self.token {
                // GitHub, GitLab and Gitea take any user name with a token but an empty one.
                ways.push(Box::new(move || {
                    Cred::userpass_plaintext(if user == "git" { "oauth2" } else { user }, token)
                }));
            }
            ways.push(Box::new(|| Cred::credential_helper(&git2::Config::open_default()?, url, Some(user))));
        }
        match ways.get(attempt - 1) {
            Some(way) => way(),
            None => Err(Error::from_str("the server refused every credential that drover has")),
        }
    }
}

/// An address without the password that it may hold.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    match authority.rsplit_once('@') {
        // In `ssh://git@host` the user is no secret; in `https://TOKEN@host` it is.
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:***@{host}/{path}"),
            None if scheme == "ssh" => url.to_owned(),
            None => format!("{scheme}://***@{host}/{path}"),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        assert_eq!(redacted("https://ann:s3cret@git.example.org/x.git"), "https://ann:***@git.example.org/x.git");
        assert_eq!(redacted("https://s3cret@git.example.org/x.git"), "https://***@git.example.org/x.git");
        assert_eq!(redacted("https://git.example.org/x.git"), "https://git.example.org/x.git");
        assert_eq!(redacted("git@git.example.org:x.git"), "git@git.example.org:x.git");
        let shown = format!("{:?}", Credentials { key_file: None, token: Some("s3cret".into()) });
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
