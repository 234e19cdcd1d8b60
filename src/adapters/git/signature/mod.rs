//! Whose signature a commit carries, judged by files outside of the repository: who can push must not choose the judges.
//!
//! A verdict depends on the commit and those files alone, never on the time of day: a commit that was signed while its
//! key was valid stays acceptable when the key expires, however often drover is started.

mod openpgp;
mod signing;
mod ssh;

use std::path::PathBuf;

use git2::{ErrorCode, Oid};
use pgp::composed::SignedPublicKey;

pub use self::signing::SigningKey;
use self::ssh::AllowedSigner;
use super::{Git, failed, short};
use crate::adapters::files;
use crate::error::Failure;

/// Files that say who may sign commits.
#[derive(Debug, Clone, Default)]
pub struct SignerFiles {
    /// OpenSSH's `allowed_signers`.
    pub ssh: Option<PathBuf>,
    /// Public OpenPGP keys, armored or binary.
    pub openpgp: Option<PathBuf>,
}

/// What the files said when they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerTexts {
    ssh: Option<(PathBuf, String)>,
    openpgp: Option<(PathBuf, Vec<u8>)>,
}

/// Who may sign commits.
pub struct Signers {
    texts: SignerTexts,
    ssh: Vec<AllowedSigner>,
    openpgp: Vec<SignedPublicKey>,
}

/// Why a commit's signature is not enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// There is none.
    Unsigned,
    /// It is by a key that is not an allowed signer's.
    Foreign {
        /// The key.
        signer: String,
    },
    /// It proves nothing.
    Bad {
        /// What is wrong, and whose it was.
        why: String,
    },
}

impl Distrust {
    fn bad(why: impl Into<String>) -> Self {
        Self::Bad { why: why.into() }
    }
}

impl SignerFiles {
    /// Reads the files.
    pub fn read(&self) -> Result<SignerTexts, Failure> {
        let within = |failure: Failure| failure.within("the allowed signers");
        let ssh = self.ssh.as_ref().map(|path| Ok((path.clone(), files::read_text(path)?)));
        let openpgp = self.openpgp.as_ref().map(|path| Ok((path.clone(), files::read_bytes(path)?)));
        Ok(SignerTexts { ssh: ssh.transpose().map_err(within)?, openpgp: openpgp.transpose().map_err(within)? })
    }
}

impl Signers {
    /// Reads what the files said.
    pub fn parse(texts: SignerTexts) -> Result<Self, Failure> {
        let ssh = texts.ssh.as_ref().map(|(path, text)| ssh::parse(path, text)).transpose()?;
        let openpgp = texts.openpgp.as_ref().map(|(path, bytes)| openpgp::parse(path, bytes)).transpose()?;
        Ok(Self { ssh: ssh.unwrap_or_default(), openpgp: openpgp.unwrap_or_default(), texts })
    }

    /// What was read.
    pub fn texts(&self) -> &SignerTexts {
        &self.texts
    }

    /// The signer of some data. `committed` is when the commit says that it was made.
    fn signer(&self, signature: &str, data: &[u8], committed: i64) -> Result<String, Distrust> {
        let begins = |with: &str| signature.trim_start().starts_with(with);
        if begins("-----BEGIN SSH SIGNATURE-----") {
            ssh::signer(&self.ssh, signature, data, committed)
        } else if begins("-----BEGIN PGP ") {
            openpgp::signer(&self.openpgp, signature, data)
        } else if begins("-----BEGIN SIGNED MESSAGE-----") {
            Err(Distrust::bad(
                "its signature is of a kind that is not supported: X.509; sign with an SSH or OpenPGP key",
            ))
        } else {
            Err(Distrust::bad("its signature is of a kind that is not supported; sign with an SSH or OpenPGP key"))
        }
    }
}

impl Git {
    /// Who signed a commit, if it is one of these signers. An error is no verdict: the commit could not be read.
    pub fn signer(&self, commit: Oid, signers: &Signers) -> Result<Result<String, Distrust>, Failure> {
        let unreadable = |error: git2::Error| failed(format!("cannot read commit {}", short(commit)), &error);
        let committed = self.repository.find_commit(commit).map_err(unreadable)?.committer().when().seconds();
        let (signature, data) = match self.repository.extract_signature(&commit, None) {
            Ok(found) => found,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(Err(Distrust::Unsigned)),
            Err(error) => return Err(unreadable(error)),
        };
        Ok(match signature.as_str() {
            Ok(signature) => signers.signer(signature, &data, committed),
            Err(_) => Err(Distrust::bad("its signature is not text")),
        })
    }
}

/// A moment as a person reads it.
fn shown(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
