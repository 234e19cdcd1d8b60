//! OpenPGP signatures. rpgp checks the cryptography; which key may sign at which time is decided here.

use std::path::Path;

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, RevocationCode, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, KeyVersion, Tag, VerifyingKey};

use super::{Distrust, shown};
use crate::error::Failure;

const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Reads keys: armored ones, one block after the other, or binary ones.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<SignedPublicKey>, Failure> {
    let broken = |error: &pgp::errors::Error| {
        Failure::new(format!("{} cannot be read as OpenPGP public keys: {error}", path.display()))
            .hint("write the file with `gpg --armor --export NAME...`")
    };
    let text = str::from_utf8(bytes).unwrap_or_default();
    let blocks: Vec<usize> = text.match_indices(ARMOR).map(|(begin, _)| begin).collect();
    let mut read = Vec::new();
    if blocks.is_empty() {
        let keys = SignedPublicKey::from_bytes_many(bytes).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.extend(keys.map_err(|error| broken(&error))?);
    }
    for (index, begin) in blocks.iter().enumerate() {
        let end = blocks.get(index + 1).copied().unwrap_or(text.len());
        let keys = SignedPublicKey::from_string_many(&text[*begin..end])
            .and_then(|(keys, _)| keys.collect::<Result<Vec<_>, _>>());
        read.extend(keys.map_err(|error| broken(&error))?);
    }
    read.retain(|key| key.version() >= KeyVersion::V4);
    match read.is_empty() {
        true => Err(Failure::new(format!("{} holds no OpenPGP public key", path.display()))
            .hint("write the file with `gpg --armor --export NAME...`")),
        false => Ok(merged(read)),
    }
}

/// Each key once: an old copy of a key must not bring back what a newer one revokes.
fn merged(keys: Vec<SignedPublicKey>) -> Vec<SignedPublicKey> {
    let mut merged: Vec<SignedPublicKey> = Vec::new();
    for key in keys {
        match merged.iter_mut().find(|known| known.fingerprint() == key.fingerprint()) {
            Some(known) => {
                known.details.revocation_signatures.extend(key.details.revocation_signatures);
                known.details.direct_signatures.extend(key.details.direct_signatures);
                known.details.users.extend(key.details.users);
                known.public_subkeys.extend(key.public_subkeys);
            }
            None => merged.push(key),
        }
    }
    merged
}

/// Who signed some data, if it is one of these.
pub(super) fn signer(allowed: &[SignedPublicKey], armored: &str, data: &[u8]) -> Result<String, Distrust> {
    let read = DetachedSignature::from_string_many(armored).and_then(|(all, _)| all.collect::<Result<Vec<_>, _>>());
    let signature = match read.as_deref() {
        Ok([one]) => &one.signature,
        Ok(_) => return Err(Distrust::bad("it has not exactly one OpenPGP signature")),
        Err(error) => return Err(Distrust::bad(format!("its OpenPGP signature cannot be read: {error}"))),
    };
    let Some(at) = signature.created().map(|time| time.as_secs()) else {
        return Err(Distrust::bad("its OpenPGP signature does not say when it was made"));
    };
    for key in allowed {
        if is_by(signature, &key.primary_key) {
            return Signing { key, part: &key.primary_key, at }.check(signature, data, primary_objection(key));
        }
        if let Some(subkey) = key.public_subkeys.iter().find(|subkey| is_by(signature, &subkey.key)) {
            let objection = subkey_objection(key, &subkey.key, at);
            return Signing { key, part: &subkey.key, at }.check(signature, data, objection);
        }
    }
    let fingerprints = signature.issuer_fingerprint().into_iter().map(|id| format!("{id:X}"));
    let named =
        fingerprints.chain(signature.issuer_key_id().into_iter().map(|id| format!("{id}").to_uppercase())).next();
    Err(Distrust::Foreign {
        signer: named.map_or("an OpenPGP key that it does not name".into(), |id| format!("the OpenPGP key {id}")),
    })
}

fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().contains(&&key.fingerprint())
        || signature.issuer_key_id().contains(&&key.legacy_key_id())
}

/// A part of a key that made a signature at a time.
struct Signing<'k, P> {
    key: &'k SignedPublicKey,
    part: &'k P,
    at: u32,
}

impl<P: VerifyingKey> Signing<'_, P> {
    /// Who signed, unless the signature proves nothing or there is an objection to the part of the key.
    fn check(&self, signature: &Signature, data: &[u8], objection: Option<String>) -> Result<String, Distrust> {
        let signer = self.shown();
        let refused = |why: &str| Err(Distrust::bad(format!("{signer}, which signed it, {why}")));
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return refused("made a signature over something else than data");
        }
        if is_weak(signature) || signature.hash_alg() == Some(HashAlgorithm::Sha1) {
            return refused("used a digest that can be forged");
        }
        if signature.verify(self.part, data).is_err() {
            return Err(Distrust::bad(format!("it is not what {signer} signed: it was changed afterwards")));
        }
        if signature.signature_expiration_time().is_some_and(|time| time.as_secs() > 0) {
            return refused("made a signature that expires; drover takes lasting ones only");
        }
        let from = self.part.created_at().max(self.key.created_at()).as_secs();
        if self.at < from {
            return refused(&format!("was not yet valid on {}: it is from {}", date(self.at), date(from)));
        }
        // What holds for the whole key holds for its subkeys too.
        match standing(self.key, self.at).or(objection) {
            Some(objection) => refused(&objection),
            None => Ok(signer),
        }
    }

    fn shown(&self) -> String {
        let user = self.key.details.users.first().map(|user| String::from_utf8_lossy(user.id.id()).into_owned());
        let user = user.map(|user| format!(" of {}", user.replace(char::is_control, "\u{fffd}")));
        format!("the OpenPGP key {:X}{}", self.part.fingerprint(), user.unwrap_or_default())
    }
}

/// Why a primary key may not have signed itself.
fn primary_objection(key: &SignedPublicKey) -> Option<String> {
    let says_no = |own: &Signature| has_flags(own) && !own.key_flags().sign();
    self_signatures(key).into_iter().any(says_no).then(|| "may not sign".to_owned())
}

/// Why a subkey may not have signed: the key must have bound it for signing, and it must have bound itself in turn.
fn subkey_objection(key: &SignedPublicKey, part: &PublicSubkey, at: u32) -> Option<String> {
    let copies = key.public_subkeys.iter().filter(|subkey| subkey.key.fingerprint() == part.fingerprint());
    let made = copies.flat_map(|subkey| &subkey.signatures);
    let genuine = made.filter(|made| made.verify_subkey_binding(&key.primary_key, part).is_ok());
    let (revocations, bindings): (Vec<_>, Vec<_>) =
        genuine.partition(|made| made.typ() == Some(SignatureType::SubkeyRevocation));
    let Some(binding) = newest(bindings.into_iter()) else {
        return Some("is not bound to the key that it came with".into());
    };
    let binds_back = |back: &Signature| back.verify_primary_key_binding(part, &key.primary_key).is_ok();
    if !binding.key_flags().sign() || !binding.embedded_signature().is_some_and(binds_back) {
        return Some("may not sign".into());
    }
    revoked(revocations.into_iter(), at).or_else(|| expired(part, binding, at))
}

/// Why a key was not to be used at a time.
fn standing(key: &SignedPublicKey, at: u32) -> Option<String> {
    let own = self_signatures(key);
    if own.is_empty() {
        return Some("has no signature of its own that says what it is for".into());
    }
    let revocations = key.details.revocation_signatures.iter().filter(|made| made.verify_key(&key.primary_key).is_ok());
    revoked(revocations, at).or_else(|| own.into_iter().find_map(|own| expired(&key.primary_key, own, at)))
}

/// What a key says about itself: the newest signature over it alone, and the newest over it and one of its users.
fn self_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary: &PublicKey = &key.primary_key;
    let direct = key.details.direct_signatures.iter().filter(|own| own.typ() == Some(SignatureType::Key));
    let direct = newest(direct.filter(|own| own.verify_key(primary).is_ok()));
    let of_users = key.details.users.iter().filter_map(|user| {
        let genuine =
            user.signatures.iter().filter(|own| own.verify_certification(primary, Tag::UserId, &user.id).is_ok());
        // A user who is revoked says nothing any more.
        newest(genuine).filter(|own| own.typ() != Some(SignatureType::CertRevocation))
    });
    direct.into_iter().chain(newest(of_users)).collect()
}

fn newest<'s>(signatures: impl Iterator<Item = &'s Signature>) -> Option<&'s Signature> {
    signatures.filter(|made| !is_weak(made)).max_by_key(|made| made.created())
}

fn is_weak(signature: &Signature) -> bool {
    matches!(signature.hash_alg(), None | Some(HashAlgorithm::Md5 | HashAlgorithm::Ripemd160))
}

fn has_flags(signature: &Signature) -> bool {
    let mut parts = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    parts.any(|part| matches!(part.data, SubpacketData::KeyFlags(_)))
}

fn revoked<'s>(mut revocations: impl Iterator<Item = &'s Signature>, at: u32) -> Option<String> {
    let found = revocations.find(|made| {
        // What a key signed before it was retired stays good. After any other reason nothing does: who has a stolen key
        // can choose the date that it signs with.
        let retired = [RevocationCode::KeyRetired, RevocationCode::KeySuperseded];
        let softly = made.revocation_reason_code().is_some_and(|code| retired.contains(code));
        !softly || made.created().is_none_or(|time| time.as_secs() <= at)
    })?;
    Some(found.created().map_or("is revoked".into(), |time| format!("is revoked since {}", date(time.as_secs()))))
}

fn expired(key: &impl KeyDetails, by: &Signature, at: u32) -> Option<String> {
    let lasts = by.key_expiration_time().map(|time| time.as_secs()).filter(|lasts| *lasts > 0)?;
    let end = key.created_at().as_secs().saturating_add(lasts);
    (at >= end).then(|| format!("was no longer valid on {}: it had expired on {}", date(at), date(end)))
}

fn date(seconds: u32) -> String {
    shown(i64::from(seconds))
}
