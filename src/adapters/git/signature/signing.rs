//! drover's own signatures, with keys from files.

use std::path::Path;

use jiff::Timestamp;
use pgp::composed::{ArmorOptions, Deserializable, DetachedSignature, SignedSecretKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, Password, SigningKey as PgpSigningKey};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::ssh::NAMESPACE;
use crate::adapters::files;
use crate::error::Failure;
use crate::model::write_back::{SignatureFormat, Signing};

/// A key that signs commits.
pub enum SigningKey {
    /// An OpenSSH key.
    Ssh(Box<PrivateKey>),
    /// An OpenPGP key.
    OpenPgp(Box<SignedSecretKey>),
}

impl SigningKey {
    /// Reads the key that a state asks for.
    pub fn read(signing: &Signing) -> Result<Self, Failure> {
        let path = signing.key_file.as_str();
        let bad = |why: String| Failure::new(format!("the signing key {path} cannot be used: {why}"));
        let bytes = files::read_regular(Path::new(path)).map_err(|failure| failure.within("the signing key"))?;
        // The crate behind RSA leaks a private key through the time that it takes (RUSTSEC-2023-0071).
        let rsa = || bad("drover does not sign with RSA".into()).hint("make an Ed25519 key for drover");
        match signing.format {
            SignatureFormat::Ssh => {
                let key = PrivateKey::from_openssh(&bytes).map_err(|error| {
                    bad(error.to_string()).hint("make one with: ssh-keygen -t ed25519 -N '' -f FILE")
                })?;
                match key.algorithm() {
                    _ if key.is_encrypted() => Err(bad("it has a passphrase".into())),
                    Algorithm::Rsa { .. } => Err(rsa()),
                    _ => Ok(Self::Ssh(Box::new(key))),
                }
            }
            SignatureFormat::Openpgp => {
                let text = str::from_utf8(&bytes).unwrap_or_default();
                let read = match text.trim_start().starts_with("-----BEGIN") {
                    true => SignedSecretKey::from_string(text).map(|(key, _)| key),
                    false => SignedSecretKey::from_bytes(&bytes[..]),
                };
                let key = read.map_err(|error| {
                    bad(error.to_string()).hint("write the file with `gpg --armor --export-secret-keys NAME`")
                })?;
                let uses_rsa = |algorithm| matches!(algorithm, PublicKeyAlgorithm::RSA | PublicKeyAlgorithm::RSASign);
                match signing_subkey(&key).map_or(key.algorithm(), |subkey| subkey.key.algorithm()) {
                    algorithm if uses_rsa(algorithm) => Err(rsa()),
                    _ => Ok(Self::OpenPgp(Box::new(key))),
                }
            }
        }
    }

    /// The signature of a commit.
    pub fn sign(&self, content: &str, time: Timestamp) -> Result<String, Failure> {
        let cannot = |error: &dyn std::fmt::Display| Failure::new(format!("a commit cannot be signed: {error}"));
        match self {
            Self::Ssh(key) => key
                .sign(NAMESPACE, HashAlg::Sha512, content.as_bytes())
                .and_then(|signature| signature.to_pem(LineEnding::LF))
                .map_err(|error| cannot(&error)),
            Self::OpenPgp(key) => match signing_subkey(key) {
                Some(subkey) => sign_by(&subkey.key, content, time),
                None => sign_by(&key.primary_key, content, time),
            }
            .map_err(|error| cannot(&error)),
        }
    }
}

/// The newest subkey that is there for signing; where there is none, the key itself signs.
fn signing_subkey(key: &SignedSecretKey) -> Option<&pgp::composed::SignedSecretSubKey> {
    let may_sign = |subkey: &&pgp::composed::SignedSecretSubKey| {
        subkey.signatures.iter().any(|binding| binding.key_flags().sign())
    };
    key.secret_subkeys.iter().filter(may_sign).max_by_key(|subkey| subkey.key.created_at())
}

fn sign_by(key: &impl PgpSigningKey, content: &str, time: Timestamp) -> Result<String, pgp::errors::Error> {
    let mut config = SignatureConfig::v4(SignatureType::Binary, key.algorithm(), key.hash_alg());
    let at = pgp::types::Timestamp::from_secs(u32::try_from(time.as_second()).unwrap_or(u32::MAX));
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(at))?,
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    // gpg looks keys up by this older name of theirs.
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    let signature = config.sign(key, &Password::empty(), content.as_bytes())?;
    DetachedSignature::new(signature).to_armored_string(ArmorOptions::default())
}
