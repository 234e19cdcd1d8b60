//! Commits signed with OpenPGP keys: what a key and its subkeys may, and when.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pgp::composed::{
    ArmorOptions, DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, RevocationCode, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, KeyDetails, Password, SigningKey, Timestamp};
use rand::rngs::OsRng;
use tempfile::TempDir;

use super::follow::sync;
use super::servers::tool;
use super::signatures::{BORN, Signed};

/// A day.
const DAY: u32 = 86_400;

/// An OpenPGP key of Ann's, and what its public part is made to say.
struct Pgp {
    secret: SignedSecretKey,
    public: SignedPublicKey,
}

impl Pgp {
    fn new(may_sign: bool) -> Self {
        Self::of(KeyType::Ed25519Legacy, may_sign)
    }

    fn of(kind: KeyType, may_sign: bool) -> Self {
        let mut subkey = SubkeyParamsBuilder::default();
        subkey.key_type(KeyType::Ed25519Legacy).created_at(Timestamp::from_secs(BORN));
        let subkeys = [true, false].map(|may| subkey.can_sign(may).build().expect("a subkey")).to_vec();
        let mut key = SecretKeyParamsBuilder::default();
        key.key_type(kind).can_certify(true).can_sign(may_sign).subkeys(subkeys);
        key.primary_user_id("Ann <ann@example.org>".into()).created_at(Timestamp::from_secs(BORN));
        let secret = key.build().expect("a key").generate(OsRng).expect("a key");
        Self { public: secret.to_public_key(), secret }
    }

    /// Adds a signature that the key makes over itself.
    fn says(mut self, typ: SignatureType, at: u32, what: SubpacketData) -> Self {
        let key = &self.secret.primary_key;
        let said = config(key, typ, HashAlgorithm::Sha256, at, Some(what));
        let said = said.sign_key(key, &Password::empty(), &self.public.primary_key).expect("a signature");
        match typ {
            SignatureType::KeyRevocation => self.public.details.revocation_signatures.push(said),
            _ => self.public.details.direct_signatures.push(said),
        }
        self
    }

    fn revoked(self, at: u32, why: RevocationCode) -> Self {
        self.says(SignatureType::KeyRevocation, at, SubpacketData::RevocationReason(why, "".into()))
    }

    fn lasts(self, seconds: u32) -> Self {
        self.says(SignatureType::Key, BORN, SubpacketData::KeyExpirationTime(Duration::from_secs(seconds)))
    }

    /// Binds the first subkey anew: to sign or not, and with its own word for it or without.
    fn rebound(mut self, sign: bool, binds_back: bool) -> Self {
        let key = &self.secret.primary_key;
        let subkey = &mut self.public.public_subkeys[0];
        let back = subkey.signatures[0].embedded_signature().cloned().expect("a signature");
        let mut config = config(key, SignatureType::SubkeyBinding, HashAlgorithm::Sha256, BORN, Some(flags(sign)));
        let back =
            binds_back.then(|| Subpacket::regular(SubpacketData::EmbeddedSignature(back.into())).expect("a part"));
        config.hashed_subpackets.extend(back);
        let bound = config.sign_subkey_binding(key, &self.public.primary_key, &Password::empty(), &subkey.key);
        subkey.signatures = vec![bound.expect("a signature")];
        self
    }

    /// Revokes the subkey that may sign.
    fn revoked_subkey(mut self) -> Self {
        let key = &self.secret.primary_key;
        let subkey = &mut self.public.public_subkeys[0];
        let why = SubpacketData::RevocationReason(RevocationCode::KeyCompromised, "".into());
        let config = config(key, SignatureType::SubkeyRevocation, HashAlgorithm::Sha256, BORN + 9 * DAY, Some(why));
        let said = config.sign_subkey_binding(key, &self.public.primary_key, &Password::empty(), &subkey.key);
        subkey.signatures.push(said.expect("a signature"));
        self
    }
}

fn config(
    key: &impl SigningKey,
    typ: SignatureType,
    digest: HashAlgorithm,
    at: u32,
    more: Option<SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.algorithm(), digest);
    let time = SubpacketData::SignatureCreationTime(Timestamp::from_secs(at));
    let parts = [time, SubpacketData::IssuerFingerprint(key.fingerprint())].into_iter().chain(more);
    config.hashed_subpackets = parts.map(|part| Subpacket::regular(part).expect("a part")).collect();
    config
}

fn pgp_signed(key: &impl SigningKey, digest: HashAlgorithm, at: u32) -> impl Fn(&str) -> String {
    move |content| {
        let config = config(key, SignatureType::Binary, digest, at, None);
        let signature: Signature = config.sign(key, &Password::empty(), content.as_bytes()).expect("a signature");
        DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).expect("text")
    }
}

fn flags(sign: bool) -> SubpacketData {
    let mut flags = KeyFlags::default();
    flags.set_sign(sign);
    SubpacketData::KeyFlags(flags)
}

fn armored(key: &SignedPublicKey) -> String {
    key.to_armored_string(ArmorOptions::default()).expect("text")
}

#[test]
fn openpgp_keys_may_sign_while_they_are_valid() {
    use RevocationCode::{KeyCompromised, KeyRetired, NoReason};
    let dated = "2023-11-24T22:13:20Z";
    for (what, key, says) in [
        ("as it was made", Pgp::new(true), None),
        ("valid until later", Pgp::new(true).lasts(11 * DAY), None),
        ("without an end", Pgp::new(true).lasts(0), None),
        (
            "expired",
            Pgp::new(true).lasts(9 * DAY),
            Some(format!("was no longer valid on {dated}: it had expired on 2023-11-23T22:13:20Z")),
        ),
        ("for certificates only", Pgp::new(false), Some("may not sign".into())),
        (
            "for certificates only, as it says later",
            Pgp::new(true).says(SignatureType::Key, BORN, flags(false)),
            Some("may not sign".into()),
        ),
        ("retired later", Pgp::new(true).revoked(BORN + 11 * DAY, KeyRetired), None),
        (
            "retired before",
            Pgp::new(true).revoked(BORN + 9 * DAY, KeyRetired),
            Some("is revoked since 2023-11-23T22:13:20Z".into()),
        ),
        (
            "stolen later",
            Pgp::new(true).revoked(BORN + 11 * DAY, KeyCompromised),
            Some("is revoked since 2023-11-25T22:13:20Z".into()),
        ),
        (
            "revoked later without a word",
            Pgp::new(true).revoked(BORN + 11 * DAY, NoReason),
            Some("is revoked since 2023-11-25T22:13:20Z".into()),
        ),
    ] {
        let signed = Signed::new();
        let other = Pgp::new(true).public;
        signed.allow("openpgp", armored(&other) + &armored(&key.public));
        signed.commit(BORN, pgp_signed(&key.secret.primary_key, HashAlgorithm::Sha256, BORN + 10 * DAY));
        let whose = format!("the OpenPGP key {:X} of Ann <ann@example.org>", key.public.fingerprint());
        let said = signed.verdict();
        match says {
            None => assert_eq!(said, whose, "{what}"),
            Some(says) => {
                assert!(said.ends_with(&format!("is refused: {whose}, which signed it, {says}")), "{what}: {said}")
            }
        }
        // An old copy of the key beside it brings nothing back, and binary keys are as good.
        let old = key.secret.to_public_key();
        let binary: Vec<u8> =
            [&old, &key.public, &other].iter().flat_map(|key| key.to_bytes().expect("bytes")).collect();
        signed.allow("openpgp", binary);
        assert_eq!(signed.verdict(), said, "{what}");
    }
}

#[test]
fn openpgp_subkeys_may_sign_where_the_key_bound_them_to() {
    let at = BORN + 10 * DAY;
    let verdict = |key: &Pgp, subkey: usize| {
        let signed = Signed::new();
        signed.allow("openpgp", armored(&key.public));
        signed.commit(BORN, pgp_signed(&key.secret.secret_subkeys[subkey].key, HashAlgorithm::Sha512, at));
        signed.verdict()
    };
    let key = Pgp::new(false);
    let whose = format!("the OpenPGP key {:X} of Ann <ann@example.org>", key.public.public_subkeys[0].fingerprint());
    assert_eq!(verdict(&key, 0), whose);
    let said = verdict(&key, 1);
    assert!(said.ends_with("which signed it, may not sign"), "{said}");
    let said = verdict(&Pgp::new(false).lasts(9 * DAY), 0);
    assert!(said.contains("which signed it, was no longer valid on"), "{said}");
    let said = verdict(&Pgp::new(false).revoked(BORN, RevocationCode::KeyCompromised), 0);
    assert!(said.contains("which signed it, is revoked since"), "{said}");
    let said = verdict(&Pgp::new(false).revoked_subkey(), 0);
    assert!(said.contains("which signed it, is revoked since 2023-11-23"), "{said}");
    let rebound = |sign, binds_back| verdict(&Pgp::new(false).rebound(sign, binds_back), 0);
    assert!(rebound(true, true).starts_with("the OpenPGP key "));
    for (sign, binds_back) in [(true, false), (false, true)] {
        let said = rebound(sign, binds_back);
        assert!(said.ends_with("which signed it, may not sign"), "{said}");
    }
    // Somebody else's subkey under Ann's key.
    let (mut ann, eve) = (Pgp::new(false), Pgp::new(false));
    ann.public.public_subkeys = eve.public.public_subkeys.clone();
    ann.secret.secret_subkeys = eve.secret.secret_subkeys.clone();
    let said = verdict(&ann, 0);
    assert!(said.ends_with("which signed it, is not bound to the key that it came with"), "{said}");
}

#[test]
fn what_others_say_of_an_openpgp_key_does_not_count() {
    let verdict = |key: &Pgp| {
        let signed = Signed::new();
        signed.allow("openpgp", armored(&key.public));
        signed.commit(BORN, pgp_signed(&key.secret.primary_key, HashAlgorithm::Sha512, BORN + 10 * DAY));
        signed.verdict()
    };
    let mut ann = Pgp::new(true);
    ann.public.details.direct_signatures = Pgp::new(true).lasts(DAY).public.details.direct_signatures;
    let revoked = Pgp::new(true).revoked(BORN, RevocationCode::KeyCompromised);
    ann.public.details.revocation_signatures = revoked.public.details.revocation_signatures;
    assert!(verdict(&ann).starts_with("the OpenPGP key "));
    // Nor is a key good for anything that says nothing itself.
    for users in [Vec::new(), revoked.public.details.users] {
        ann.public.details.users = users;
        let said = verdict(&ann);
        assert!(said.contains("which signed it, has no signature of its own"), "{said}");
    }
}

#[test]
fn openpgp_signatures_that_prove_nothing_are_refused() {
    let (ann, eve) = (Pgp::new(true), Pgp::new(true));
    let signed = Signed::new();
    signed.allow("openpgp", armored(&ann.public));
    let key = &ann.secret.primary_key;
    signed.commit(BORN, |_| pgp_signed(key, HashAlgorithm::Sha256, BORN)("something else"));
    let said = signed.verdict();
    assert!(
        said.contains("it is not what the OpenPGP key ") && said.ends_with("signed: it was changed afterwards"),
        "{said}"
    );
    let old = Pgp::of(KeyType::Rsa(2048), true);
    signed.allow("openpgp", armored(&ann.public) + &armored(&old.public));
    signed.commit(BORN, pgp_signed(&old.secret.primary_key, HashAlgorithm::Sha1, BORN));
    let said = signed.verdict();
    assert!(said.ends_with("used a digest that can be forged"), "{said}");
    signed.commit(BORN, pgp_signed(&old.secret.primary_key, HashAlgorithm::Sha256, BORN));
    assert!(signed.verdict().starts_with("the OpenPGP key"));
    signed.commit(BORN, pgp_signed(key, HashAlgorithm::Sha256, BORN - 1));
    assert!(signed.verdict().contains("was not yet valid on 2023-11-14T22:13:19Z: it is from 2023-11-14T22:13:20Z"));
    signed.commit(BORN, |content| {
        let ends = SubpacketData::SignatureExpirationTime(Duration::from_secs(DAY));
        let config = config(key, SignatureType::Binary, HashAlgorithm::Sha256, BORN, Some(ends));
        let signature = config.sign(key, &Password::empty(), content.as_bytes()).expect("a signature");
        DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).expect("text")
    });
    assert!(signed.verdict().contains("made a signature that expires"));
    signed.commit(BORN, pgp_signed(&eve.secret.primary_key, HashAlgorithm::Sha256, BORN));
    let said = signed.verdict();
    let id = eve.public.fingerprint();
    assert!(
        said.ends_with(&format!("it is signed by the OpenPGP key {id:X}, which is not an allowed signer")),
        "{said}"
    );
    signed.commit(BORN, pgp_signed(key, HashAlgorithm::Sha256, BORN));
    assert!(signed.verdict().starts_with("the OpenPGP key"));
    for (keys, says) in [
        ("no keys".to_owned(), "cannot be read as OpenPGP public keys"),
        (String::new(), "holds no OpenPGP public key"),
        (ann.secret.to_armored_string(ArmorOptions::default()).expect("text"), "OpenPGP public key"),
        (armored(&ann.public).replace("xjME", "####"), "OpenPGP public key"),
    ] {
        signed.allow("openpgp", &keys);
        let error = sync(&mut signed.follower()).expect_err("no keys");
        assert!(error.to_string().contains(says) && error.advice().is_some(), "{error}");
    }
}

#[test]
fn git_itself_signs_with_openpgp_keys() {
    if Command::new("gpg").arg("--version").output().is_err() {
        eprintln!("there is no gpg here: skipped");
        return;
    }
    let signed = Signed::new();
    let home = TempDir::new().expect("a temporary folder");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
    let folder = home.path().display().to_string();
    let gpg = |arguments: &[&str]| {
        tool("gpg", &[&["--homedir", &folder, "--batch", "--quiet", "--passphrase", ""], arguments].concat())
    };
    let program = home.path().join("program");
    fs::write(&program, format!("#!/bin/sh\nexec gpg --homedir {folder} --batch \"$@\"\n")).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("it is ours");
    let program = format!("gpg.program={}", program.display());
    for (algorithm, subkey) in
        [("ed25519", ""), ("rsa2048", ""), ("nistp384", ""), ("ed25519", "ed25519"), ("ed25519", "rsa2048")]
    {
        let user = format!("Ann of {algorithm} and {subkey} <ann@example.org>");
        let usage = if subkey.is_empty() { "sign" } else { "cert" };
        gpg(&["--quick-generate-key", &user, algorithm, usage, "never"]);
        let listed = gpg(&["--list-keys", "--with-colons", &user]);
        let id = listed
            .lines()
            .find_map(|line| line.strip_prefix("fpr:::::::::"))
            .expect("a fingerprint")
            .trim_end_matches(':');
        if !subkey.is_empty() {
            gpg(&["--quick-add-key", id, subkey, "sign", "1y"]);
        }
        signed.allow("openpgp", gpg(&["--armor", "--export", id]));
        signed.state.write("README", &user).git(&["add", "--all"]);
        let key = format!("user.signingKey={id}");
        signed.state.git(&["-c", &program, "-c", &key, "commit", "--quiet", "-S", "--message", algorithm]);
        let verdict = signed.verdict();
        assert!(verdict.starts_with("the OpenPGP key ") && verdict.ends_with(&format!(" of {user}")), "{verdict}");
        assert_eq!(verdict.contains(id), subkey.is_empty(), "{verdict}");

        // The certificate that gpg keeps ready revokes it.
        let ready = home.path().join(format!("openpgp-revocs.d/{id}.rev"));
        let certificate = fs::read_to_string(&ready).expect("a certificate").replace(":-----BEGIN", "-----BEGIN");
        fs::write(&ready, certificate).expect("a file");
        gpg(&["--import", ready.to_str().expect("UTF-8")]);
        signed.allow("openpgp", gpg(&["--armor", "--export", id]));
        let verdict = signed.verdict();
        assert!(verdict.contains("which signed it, is revoked since "), "{verdict}");
    }
    tool("gpgconf", &["--homedir", &folder, "--kill", "all"]);
}
