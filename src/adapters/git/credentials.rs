//! How drover proves who it is to a git server. Secrets are read when they are needed and are never shown.

use std::path::{Path, PathBuf};

use git2::{Cred, CredentialType, Error, ErrorClass, ErrorCode, RemoteCallbacks};

use crate::adapters::files;

/// Where credentials for git servers come from, in the order in which they are tried: for ssh the key file and the
/// agent, for https the tokens, and at last git's own credential helpers.
#[derive(Clone, Default)]
pub struct Credentials {
    /// A private key for ssh.
    pub key_file: Option<PathBuf>,
    /// A token for https.
    pub token: Option<String>,
    /// A file that holds a token for https; read anew for each connection, so that a rotated token is picked up.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("Credentials")
            .field("key_file", &self.key_file)
            .field("token", &token)
            .field("token_file", &self.token_file)
            .finish()
    }
}

impl Credentials {
    /// Callbacks that answer a server's questions, each answer once: libgit2 asks again for ever when one is refused.
    ///
    /// Only the server of `address` is answered; one that a redirect leads to learns nothing.
    pub(super) fn callbacks<'c>(&self, address: &str) -> RemoteCallbacks<'c> {
        let mut callbacks = RemoteCallbacks::new();
        let credentials = self.clone();
        let (server, by_password) = (server_of(address), redacted(address) != address);
        let mut attempt = 0;
        callbacks.credentials(move |url, user, allowed| {
            if url.contains("://") && server_of(url) != server {
                return Err(refused(format!("the server sends on to {}, which gets no credentials", server_of(url))));
            }
            if allowed.contains(CredentialType::USERNAME) {
                return Cred::username(user.unwrap_or("git"));
            }
            let user = user.unwrap_or("git");
            let ways = credentials.ways(url, user, allowed);
            // A way that yields nothing on this machine, such as a helper without an answer, is passed over.
            while let Some((_, way)) = ways.get(attempt) {
                attempt += 1;
                if let Ok(credential) = way() {
                    return Ok(credential);
                }
            }
            let mut tried: Vec<&str> = ways.iter().map(|(what, _)| *what).collect();
            if by_password && allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
                tried.insert(0, "the password of the address");
            }
            Err(refused(match tried.as_slice() {
                [] => "the server asks for credentials that drover has not".to_owned(),
                tried => format!("the server wants other credentials; tried {}", tried.join(", ")),
            }))
        });
        callbacks
    }

    fn ways<'w>(&'w self, url: &'w str, user: &'w str, allowed: CredentialType) -> Vec<(&'static str, Way<'w>)> {
        let mut ways: Vec<(&'static str, Way<'w>)> = Vec::new();
        if allowed.contains(CredentialType::SSH_KEY) {
            if let Some(key) = &self.key_file {
                ways.push(("the key file", Box::new(move || Cred::ssh_key(user, None, key, None))));
            }
            ways.push(("the ssh agent", Box::new(move || Cred::ssh_key_from_agent(user))));
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
            // GitHub, GitLab and Gitea take any user name with a token but an empty one.
            let name = if user == "git" { "oauth2" } else { user };
            match self.token_file.as_deref().map(token_in) {
                Some(Some(token)) => {
                    ways.push(("the token file", Box::new(move || Cred::userpass_plaintext(name, &token))));
                }
                Some(None) => {
                    let nothing = || Err(refused("there is no token".to_owned()));
                    ways.push(("the token file, in which no token can be read", Box::new(nothing)));
                }
                None => {}
            }
            if let Some(token) = &self.token {
                ways.push(("the token", Box::new(move || Cred::userpass_plaintext(name, token))));
            }
            let helper = move || Cred::credential_helper(&git2::Config::open_default()?, url, Some(user));
            ways.push(("git's credential helpers", Box::new(helper)));
        }
        ways
    }
}

type Way<'w> = Box<dyn Fn() -> Result<Cred, Error> + 'w>;

fn token_in(file: &Path) -> Option<String> {
    files::read_text(file).ok().map(|text| text.trim().to_owned()).filter(|token| !token.is_empty())
}

fn refused(message: String) -> Error {
    Error::new(ErrorCode::Auth, ErrorClass::Callback, message)
}

/// The host of an address, and its port where that is not the usual one.
fn server_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server).to_ascii_lowercase();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    server.strip_suffix(usual).map(str::to_owned).unwrap_or(server)
}

/// An address without the password that it may hold.
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let prefix = &url[..url.len() - rest.len()];
    // A password that was not escaped may hold any character: all that stands before the last `@` may be part of it.
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some((name, _)) if !name.contains(['/', '@', '?', '#']) => format!("{prefix}{name}:***@{host}"),
        // In `ssh://git@host` the user is no secret; in `https://TOKEN@host` it is.
        None if matches!(scheme, "" | "ssh") && !user.contains(['/', '@', '?', '#']) => url.to_owned(),
        _ => format!("{prefix}***@{host}"),
    }
}

/// A message of libgit2 about an address. It quotes parts of one that it cannot make sense of, and they may belong to a
/// password that was not escaped.
pub(super) fn redacted_message(message: &str, url: &str) -> String {
    const ENDS: [char; 6] = [':', '/', '@', '?', '#', '&'];
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let well_formed = rest.split(['/', '?', '#']).skip(1).all(|part| !part.contains('@'));
    let Some((hidden, _)) = rest.rsplit_once('@').filter(|_| !well_formed) else { return message.to_owned() };
    let parts = hidden.split(ENDS).filter(|part| !part.is_empty());
    parts.fold(message.to_owned(), |message, part| message.replace(part, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_its_host_and_port() {
        assert_eq!(server_of("https://ann:s3cret@Git.example.org:443/x.git"), "git.example.org");
        assert_eq!(server_of("https://git.example.org?x=a@b"), "git.example.org");
        assert_eq!(server_of("https://git.example.org:8443"), "git.example.org:8443");
    }

    #[test]
    fn a_secret_that_was_not_escaped_is_not_shown_either() {
        for url in [
            "https://ann:s3/cret@git.example.org/x.git",
            "https://ann:s3@cret@git.example.org/x.git",
            "https://ann:@s3cret/@git.example.org/x.git",
            "https://s3/cret@git.example.org/x.git",
            "https://s3?cret@git.example.org/x.git",
            "https://s3#cret:x@git.example.org/x.git",
            "ssh://s3/cret@git.example.org/x.git",
        ] {
            let shown = redacted(url);
            assert!(!shown.contains("s3") && !shown.contains("cret"), "{shown}");
            assert!(shown.contains("git.example.org/x.git"), "{shown}");
        }
        let url = "https://ann:s3/cret@git.example.org/x.git";
        assert_eq!(redacted_message("invalid port: 's3'", url), "invalid port: '***'");
        let url = "https://ann:s3cret@git.example.org/x.git";
        assert_eq!(redacted_message("cannot reach git.example.org", url), "cannot reach git.example.org");
    }

    #[test]
    fn no_secret_is_shown() {
        assert_eq!(redacted("https://ann:s3cret@git.example.org/x.git"), "https://ann:***@git.example.org/x.git");
        assert_eq!(redacted("https://s3cret@git.example.org/x.git"), "https://***@git.example.org/x.git");
        assert_eq!(redacted("https://git.example.org/x.git"), "https://git.example.org/x.git");
        assert_eq!(redacted("git@git.example.org:x.git"), "git@git.example.org:x.git");
        assert_eq!(redacted("ssh://git@git.example.org/x.git"), "ssh://git@git.example.org/x.git");
        let shown = format!("{:?}", Credentials { token: Some("s3cret".into()), ..Credentials::default() });
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
