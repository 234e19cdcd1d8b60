//! Signed commits: which SSH keys may sign, when, and what is said of those that may not.

use std::fs;
use std::path::Path;

use drover::adapters::git::{Credentials, SignerFiles};
use drover::engine::{FollowOptions, Follower, RefusalReason};
use git2::{Repository, Signature as Person, Time};
use rand::rngs::OsRng;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey};
use tempfile::TempDir;

use super::follow::{commit, source, sync};
use super::servers::{Ssh, tool};
use super::support::fleet;
use crate::support::state::State;

/// When the keys of these tests were made: 2023-11-14T22:13:20Z.
pub(super) const BORN: u32 = 1_700_000_000;

/// A repository whose commits are signed, and the files of allowed signers beside it.
pub(super) struct Signed {
    pub(super) state: State,
    files: TempDir,
}

impl Signed {
    pub(super) fn new() -> Self {
        let state = fleet();
        state.git(&["init", "--quiet"]);
        Self { state, files: TempDir::new().expect("a temporary folder") }
    }

    /// Commits what is there, at a time, with what `sign` makes of the commit.
    pub(super) fn commit(&self, at: u32, sign: impl Fn(&str) -> String) -> String {
        self.state.git(&["add", "--all"]);
        let repository = Repository::open(self.state.root()).expect("a repository");
        let tree = self.state.git(&["write-tree"]).parse().expect("an id");
        let tree = repository.find_tree(tree).expect("a tree");
        let parent = repository.head().ok().map(|head| head.peel_to_commit().expect("a commit"));
        let ann = Person::new("Ann", "ann@example.org", &Time::new(at.into(), 0)).expect("a person");
        let parents: Vec<_> = parent.iter().collect();
        let content = repository.commit_create_buffer(&ann, &ann, "signed", &tree, &parents).expect("a commit");
        let content = content.as_str().expect("UTF-8");
        let id = repository.commit_signed(content, &sign(content), None).expect("a signed commit").to_string();
        self.state.git(&["update-ref", "refs/heads/main", &id]);
        id
    }

    fn signers(&self) -> SignerFiles {
        let file = |name: &str| Some(self.files.path().join(name)).filter(|path| path.exists());
        SignerFiles { ssh: file("ssh"), openpgp: file("openpgp") }
    }

    pub(super) fn allow(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.files.path().join(file), content).expect("a file");
    }

    pub(super) fn follower(&self) -> Follower {
        let source =
            source(self.state.root().to_str().expect("UTF-8"), Path::new("/nonexistent"), Credentials::default());
        Follower::new(source, FollowOptions { signers: Some(self.signers()), ..FollowOptions::default() })
    }

    /// Who signed the head, or why it is refused.
    #[track_caller]
    pub(super) fn verdict(&self) -> String {
        let mut follower = self.follower();
        let synced = sync(&mut follower).expect("it can look");
        match synced.refused.first() {
            Some(refused) => refused.to_string(),
            None => follower.in_force().expect("a state").signer.clone().expect("a signer"),
        }
    }
}

fn ssh(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::random(&mut OsRng, algorithm).expect("a key")
}

fn line(principal: &str, options: &str, key: &PrivateKey) -> String {
    format!("{principal} {options} {}\n", key.public_key().to_openssh().expect("a line"))
}

fn signed_by(key: &PrivateKey) -> impl Fn(&str) -> String {
    |content| {
        let signature = key.sign("git", HashAlg::Sha512, content.as_bytes()).expect("a signature");
        signature.to_pem(LineEnding::LF).expect("text")
    }
}

#[test]
fn ssh_keys_that_are_listed_may_sign_while_they_are_valid() {
    let (ann, bob) = (ssh(Algorithm::Ed25519), ssh(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }));
    let signed = Signed::new();
    signed.commit(BORN, signed_by(&ann));
    let id = ann.fingerprint(HashAlg::Sha256).to_string();
    let whose = format!("the SSH key {id} of ann@example.org");
    for (options, says) in [
        ("", None),
        ("namespaces=\"git\"", None),
        ("valid-after=\"20231114Z\",valid-before=\"20231115Z\"", None),
        (
            "valid-before=\"202311142213Z\"",
            Some("was no longer valid on 2023-11-14T22:13:20Z: it had expired on 2023-11-14T22:13:00Z"),
        ),
        (
            "valid-after=\"20231115Z\"",
            Some("was not yet valid on 2023-11-14T22:13:20Z: it is from 2023-11-15T00:00:00Z"),
        ),
        ("namespaces=\"file,email\"", Some("may sign for file,email, not for git")),
    ] {
        signed.allow("ssh", line("bob@example.org", "", &bob) + &line("ann@example.org", options, &ann));
        match says {
            None => assert_eq!(signed.verdict(), whose, "{options}"),
            Some(says) => {
                let said = signed.verdict();
                assert!(said.ends_with(&format!("is refused: {whose}, which signed it, {says}")), "{options}: {said}");
                // Another line of the same key may say otherwise.
                signed.allow("ssh", line("ann@example.org", options, &ann) + &line("ops", "", &ann));
                assert_eq!(signed.verdict(), format!("the SSH key {id} of ops"));
            }
        }
    }
    signed.allow("ssh", line("bob@example.org", "", &bob));
    let said = signed.verdict();
    assert!(
        said.ends_with(&format!("is refused: it is signed by the SSH key {id}, which is not an allowed signer")),
        "{said}"
    );
    signed.commit(BORN, signed_by(&bob));
    assert!(signed.verdict().ends_with(" of bob@example.org"));
}

#[test]
fn a_signature_of_something_else_proves_nothing() {
    let ann = ssh(Algorithm::Ed25519);
    let signed = Signed::new();
    signed.allow("ssh", line("ann@example.org", "", &ann));
    signed.commit(BORN, signed_by(&ann));
    let other = signed.commit(BORN + 1, |_| signed_by(&ann)("something else"));
    let said = signed.verdict();
    assert!(said.contains(&other[..10]) && said.contains("it is not what the SSH key SHA256:"), "{said}");
    assert!(said.ends_with(" of ann@example.org signed: it was changed afterwards"), "{said}");
    for (namespace, says) in [("file", "is not one for git, but for \"file\""), ("git2", "but for \"git2\"")] {
        signed.commit(BORN + 2, |content| {
            let signature = ann.sign(namespace, HashAlg::Sha256, content.as_bytes()).expect("a signature");
            signature.to_pem(LineEnding::LF).expect("text")
        });
        let said = signed.verdict();
        assert!(said.contains(says), "{said}");
    }
    for (signature, says) in [
        (
            "-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----",
            "of a kind that is not supported: X.509",
        ),
        ("something", "of a kind that is not supported; sign with"),
        ("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----", "its SSH signature cannot be read"),
        ("-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----", "OpenPGP signature"),
    ] {
        signed.commit(BORN + 3, |_| signature.to_owned());
        let said = signed.verdict();
        assert!(said.contains(says), "{signature}: {said}");
    }
}

#[test]
fn a_commit_that_was_tampered_with_is_refused() {
    let ann = ssh(Algorithm::Ed25519);
    let signed = Signed::new();
    signed.allow("ssh", line("ann@example.org", "", &ann));
    let first = signed.commit(BORN, signed_by(&ann));
    signed.state.node("prod", "n1", "{devices: {gpu: T4}}");
    let genuine = signed.commit(BORN + 1, signed_by(&ann));
    assert!(signed.verdict().starts_with("the SSH key"));
    // The same signature over another author, another tree, another parent.
    let content = signed.state.git(&["cat-file", "commit", &genuine]) + "\n";
    let tree = |id: &str| signed.state.git(&["rev-parse", &format!("{id}^{{tree}}")]);
    for (from, to) in [("Ann", "Eve"), (&tree(&genuine), &tree(&first)), (&format!("parent {first}\n"), "")] {
        assert!(content.contains(from), "{content}");
        signed.state.write("forged", content.replacen(from, to, 1));
        let forged = signed.state.git(&["hash-object", "-t", "commit", "-w", "forged"]);
        signed.state.git(&["update-ref", "refs/heads/main", &forged]);
        let said = signed.verdict();
        assert!(said.contains("signed: it was changed afterwards"), "{to}: {said}");
    }
}

#[test]
fn an_unsigned_head_is_passed_over_and_its_author_named() {
    let ann = ssh(Algorithm::Ed25519);
    let signed = Signed::new();
    signed.allow("ssh", line("ann@example.org", "", &ann));
    let first = signed.commit(BORN, signed_by(&ann));
    let mut follower = signed.follower();
    sync(&mut follower).expect("it can look");
    signed.state.node("prod", "n1", "{devices: {gpu: T4}}").git(&["add", "--all"]);
    signed.state.git(&["commit", "--quiet", "--author", "Eve <eve@example.org>", "--message", "mine now"]);
    let synced = sync(&mut follower).expect("it can look");
    assert_eq!((commit(&follower), &synced.refused[0].reason), (first, &RefusalReason::Unsigned));
    let said = synced.refused[0].to_string();
    assert!(said.contains("by Eve on 20") && said.ends_with("(\"mine now\") is refused: it is not signed"), "{said}");
    let json = serde_json::to_value(&synced.refused[0]).expect("JSON");
    assert_eq!((&json["reason"]["kind"], &json["commit"]["author"]), (&"unsigned".into(), &"Eve".into()));
    // Who signs on top of it vouches for all that it holds.
    let vouched = signed.commit(BORN + 2, signed_by(&ann));
    assert!(sync(&mut follower).expect("it can look").changed);
    assert_eq!(commit(&follower), vouched);
}

#[test]
fn signers_are_read_anew_when_their_file_changes() {
    let (ann, bob) = (ssh(Algorithm::Ed25519), ssh(Algorithm::Ed25519));
    let signed = Signed::new();
    let both = line("ann@example.org", "", &ann) + &line("bob@example.org", "", &bob);
    signed.allow("ssh", line("ann@example.org", "", &ann));
    let by_ann = signed.commit(BORN, signed_by(&ann));
    let by_bob = signed.commit(BORN + 1, signed_by(&bob));
    let mut follower = signed.follower();
    let mut comes_to = |expected: &str, refused: usize| {
        let synced = sync(&mut follower).expect("it can look");
        assert_eq!((commit(&follower).as_str(), synced.refused.len()), (expected, refused));
    };
    comes_to(&by_ann, 1);
    signed.allow("ssh", &both);
    comes_to(&by_bob, 0);
    // Whoever begins now would not take Bob's commit; no more does who had it in force.
    signed.allow("ssh", line("ann@example.org", "", &ann));
    comes_to(&by_ann, 1);
    signed.allow("ssh", &both);
    comes_to(&by_bob, 0);
    signed.allow("ssh", "ann\n");
    let error = sync(&mut follower).expect_err("a broken line").to_string();
    assert!(error.contains("/ssh:1: the key of ann cannot be read"), "{error}");
    fs::remove_file(signed.files.path().join("ssh")).expect("a file");
    let error = sync(&mut follower).expect_err("no file").to_string();
    assert!(error.contains("the allowed signers: cannot read "), "{error}");
    assert_eq!(commit(&follower), by_bob, "what is in force stays");
}

#[test]
fn a_working_directory_carries_no_signatures() {
    let state = fleet();
    let options = FollowOptions { signers: Some(SignerFiles::default()), ..FollowOptions::default() };
    let mut follower = Follower::new(drover::engine::StateSource::Folder(state.path("state")), options);
    let error = sync(&mut follower).expect_err("nothing can be checked");
    assert!(error.to_string().contains("carry no signatures"), "{error}");
    assert!(follower.in_force().is_none());
}

#[test]
fn git_itself_signs_with_ssh_keys() {
    drop(Ssh::start()); // sees to it that ssh-keygen is there
    let signed = Signed::new();
    let path = |name: &str| signed.files.path().join(name).display().to_string();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072")] {
        let name = path(&format!("{kind}{bits}"));
        tool("ssh-keygen", &["-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f", &name]);
        let public = fs::read_to_string(format!("{name}.pub")).expect("a public key");
        signed.allow("ssh", format!("ann@example.org namespaces=\"git\" {public}"));
        let key = format!("user.signingKey={name}.pub");
        signed.state.write("README", &name).git(&["add", "--all"]);
        signed.state.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "--quiet", "-S", "--message", kind]);
        let verdict = signed.verdict();
        assert!(verdict.ends_with(" of ann@example.org") && verdict.starts_with("the SSH key"), "{kind}: {verdict}");
        // ssh-keygen's own verdict, through git.
        let allowed = format!("gpg.ssh.allowedSignersFile={}", path("ssh"));
        signed.state.git(&["-c", &allowed, "verify-commit", "HEAD"]);
    }
}
