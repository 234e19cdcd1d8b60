//! How drover writes its decisions back into the state repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path::HostPath;
use super::template::MessageTemplate;
use super::text::{Invalid, validated_string};

/// How drover commits the moves of machines: by whom, where to, and in which words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteBack {
    /// The name in the commits.
    pub name: String,
    /// The address in the commits.
    pub email: String,
    /// Where commits go (default `push`).
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub mode: WriteMode,
    /// Of `pull-request`: the branch that holds what is proposed; `{cluster}` stands for the cluster (default
    /// `drover/{cluster}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<BranchName>,
    /// Of `pull-request`: the server that proposals are opened on. Without it only the branch is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ProposalServer>,
    /// The commit message; drover adds trailers for programs to what it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<MessageTemplate>,
    /// The key that commits are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
}

/// Where drover's commits go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// To the branch that is followed.
    #[default]
    Push,
    /// To a branch of their own, for people to merge.
    PullRequest,
}

/// A server that proposals are opened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProposalServer {
    /// What runs there.
    #[serde(rename = "type")]
    pub form: ServerForm,
    /// The address of its API (default: of the server that the repository lies on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// A file on drover's machine that holds the token for that API; `gitlab` needs none, since it is told by the push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<HostPath>,
}

/// The kind of a git server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerForm {
    /// GitLab: a merge request, opened by options of the push itself.
    Gitlab,
    /// GitHub: a pull request, opened through its API.
    Github,
    /// Gitea or Forgejo: a pull request, opened through its API.
    Gitea,
}

/// The key that commits are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signing {
    /// The kind of the key.
    pub format: SignatureFormat,
    /// A file on drover's machine that holds the private key, without a passphrase.
    pub key_file: HostPath,
}

/// The kind of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureFormat {
    /// An OpenSSH key.
    Ssh,
    /// An OpenPGP key.
    Openpgp,
}

validated_string! {
    /// The name of a branch, which may hold `{cluster}`.
    BranchName, "the name of a branch", check = check_branch,
    pattern = r"^[A-Za-z0-9{][-A-Za-z0-9_./{}]*[A-Za-z0-9}]$", max = 200,
    about = "The name of a git branch, such as drover/{cluster}"
}

fn check_branch(text: &str) -> Result<(), Invalid> {
    let plain = text.replace("{cluster}", "c");
    let is_sound = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
    };
    let allowed = plain.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    match allowed && !plain.contains("..") && plain.split('/').all(is_sound) && text.len() <= 200 {
        true => Ok(()),
        false => Err(Invalid::new(
            format!("{text:?} is not the name of a branch"),
            "use letters, digits, '-', '_', '.', '/' and {cluster}",
        )),
    }
}

impl BranchName {
    /// The branch of a cluster.
    pub fn of(&self, cluster: &str) -> String {
        self.as_str().replace("{cluster}", cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_what_git_accepts() {
        for good in ["main", "drover/{cluster}", "{cluster}-moves", "a.b/c_d"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a..b", "-a", ".a", "a.lock", "a b", "a~1", "{node}", "a/.b"] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
        assert_eq!("drover/{cluster}".parse::<BranchName>().expect("a branch").of("prod"), "drover/prod");
    }
}
