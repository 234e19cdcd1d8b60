//! The webhook of git servers, asked over real connections.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use drover::web::hooks::{Hooks, router};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use tempfile::TempDir;
use tokio::sync::Notify;

const SECRET: &str = "s3cret";
const NOW: i64 = 1_800_000_000;

struct Server {
    address: SocketAddr,
    push: Arc<Notify>,
    folder: TempDir,
}

type Headers<'h> = &'h [(&'h str, &'h str)];

impl Server {
    /// Serves for as long as the process lives, with these secrets if any.
    fn start(secrets: Option<&str>) -> Self {
        let (folder, push) = (tempfile::tempdir().expect("a folder"), Arc::new(Notify::new()));
        let file = secrets.map(|secrets| {
            fs::write(folder.path().join("secrets"), secrets).expect("written");
            folder.path().join("secrets")
        });
        let now = || Timestamp::from_second(NOW).expect("a time");
        let hooks = Hooks::new(file, now, push.clone()).patience(Duration::from_millis(500));
        let (send, receive) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                send.send(listener.local_addr().expect("an address")).expect("heard");
                axum::serve(listener, router(Arc::new(hooks))).await.expect("it serves");
            });
        });
        Self { address: receive.recv().expect("an address"), push, folder }
    }

    fn secrets(&self, secrets: &str) {
        fs::write(self.folder.path().join("secrets"), secrets).expect("written");
    }

    fn url(&self) -> String {
        format!("http://{}/hooks/git", self.address)
    }

    fn post(&self, headers: Headers<'_>, body: &str) -> u16 {
        let mut request = agent().post(self.url());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).expect("an answer").status().as_u16()
    }

    /// The status of the answer to these bytes.
    fn raw(&self, bytes: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        stream.write_all(bytes).expect("sent");
        status(&mut stream)
    }

    /// Whether a sync was asked for since the last time.
    fn pushed(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(1), self.push.notified()).await.is_ok() })
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into()
}

fn status(stream: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    std::str::from_utf8(&head[9..]).expect("text").parse().expect("a status")
}

fn mac(key: &[u8], message: impl AsRef<[u8]>) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(message).finalize().into_bytes().to_vec()
}

fn hex(key: &str, body: &str) -> String {
    HEXLOWER.encode(&mac(key.as_bytes(), body))
}

fn sha256(key: &str, body: &str) -> String {
    format!("sha256={}", hex(key, body))
}

#[test]
fn every_server_is_believed_in_its_own_way() {
    let server = Server::start(Some(SECRET));
    let body = r#"{"ref": "refs/heads/main"}"#;
    let (github, gitea) = (sha256(SECRET, body), hex(SECRET, body));
    let bearer = format!("Bearer {SECRET}");
    let genuine: [(&str, Headers<'_>); 6] = [
        ("github", &[("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "1"), ("X-Hub-Signature-256", &github)]),
        (
            "gitea",
            &[
                ("X-GitHub-Event", "push"),
                ("X-Gitea-Event", "push"),
                ("X-Gitea-Delivery", "2"),
                ("X-Gitea-Signature", &gitea),
                ("X-Hub-Signature-256", &github),
            ],
        ),
        ("forgejo", &[("X-Forgejo-Event", "push"), ("X-Forgejo-Delivery", "3"), ("X-Forgejo-Signature", &gitea)]),
        ("gitlab", &[("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Event-UUID", "4"), ("X-Gitlab-Token", SECRET)]),
        ("bearer", &[("Authorization", &bearer)]),
        ("script", &[("X-Drover-Signature-256", &github), ("X-Drover-Delivery", "5")]),
    ];
    for (name, headers) in genuine {
        assert_eq!(server.post(headers, body), 202, "{name}");
        assert!(server.pushed(), "{name}");
        // The same with another body, or another token, is forged.
        let (body, headers): (_, Vec<_>) = match name {
            "gitlab" | "bearer" => (
                body,
                headers.iter().map(|(n, v)| (*n, if v.contains(SECRET) { "Bearer S3cret" } else { *v })).collect(),
            ),
            _ => ("{}", headers.to_vec()),
        };
        assert_eq!(server.post(&headers, body), 401, "{name}");
        assert!(!server.pushed(), "{name}");
    }
}

#[test]
fn the_example_of_githubs_documentation_is_genuine() {
    let server = Server::start(Some("It's a Secret to Everybody"));
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(server.post(&[("X-Hub-Signature-256", signature)], "Hello, World!"), 202);
}

#[test]
fn gitlab_signs_as_standard_webhooks_do() {
    let key = b"0123456789abcdef";
    let written = format!("whsec_{}", BASE64.encode(key));
    let server = Server::start(Some(&written));
    let signed = |id: &str, time: i64, key: &[u8]| BASE64.encode(&mac(key, format!("{id}.{time}.{{}}")));
    let post = |id: &str, time: i64, signature: &str| {
        let time = time.to_string();
        let headers = [
            ("X-Gitlab-Event", "Push Hook"),
            ("webhook-id", id),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature),
        ];
        server.post(&headers, "{}")
    };
    let good = signed("a", NOW, key);
    assert_eq!(post("a", NOW, &format!("v2,x v1,AAAA v1,{good}")), 202, "one of several is right");
    assert_eq!(post("a", NOW, &format!("v1,{good}")), 409);
    assert_eq!(post("b", NOW, &format!("v1,{good}")), 401, "the id is signed");
    assert_eq!(post("c", NOW - 301, &format!("v1,{}", signed("c", NOW - 301, key))), 401, "too old");
    assert_eq!(post("c", NOW + 299, &format!("v1,{}", signed("c", NOW + 299, key))), 202);
    assert_eq!(post("d", NOW, &format!("v1,{}", signed("d", NOW, b"other"))), 401);
    assert_eq!(post("d", NOW, ""), 401);
    assert_eq!(server.post(&[("webhook-signature", &format!("v1,{good}"))], "{}"), 401, "without id and time");
}

#[test]
fn what_proves_nothing_is_refused() {
    let server = Server::start(Some(SECRET));
    let good = sha256(SECRET, "{}");
    let sha1 = "sha1=2e3d6b3a7f7c2b0f7f0e2b3ce4a5b6c7d8e9f001";
    let cases: [(u16, Headers<'_>); 11] = [
        (401, &[]),
        (401, &[("X-GitHub-Event", "push"), ("X-Hub-Signature", sha1)]),
        (401, &[("X-Hub-Signature-256", "sha256=")]),
        (401, &[("X-Hub-Signature-256", &good[..20 + 7])]),
        (400, &[("X-Hub-Signature-256", "sha256=zz")]),
        (400, &[("X-Hub-Signature-256", &good), ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "")]),
        (400, &[("X-Hub-Signature-256", &good), ("X-Hub-Signature-256", &good)]),
        (401, &[("Authorization", "Bearer")]),
        (401, &[("Authorization", "Basic czNjcmV0")]),
        (401, &[("X-Gitlab-Token", "")]),
        (401, &[("X-Gitea-Signature", &hex("other", "{}")), ("X-Gitlab-Token", SECRET)]),
    ];
    for (expected, headers) in cases {
        assert_eq!(server.post(headers, "{}"), expected, "{headers:?}");
    }
    let garbage =
        b"POST /hooks/git HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: sha256=\xff\xfe\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(server.raw(garbage), 400);
    assert_eq!(server.raw(b"POST /hooks/git HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"), 400);
    assert_eq!(server.raw(b"\x16\x03\x01\x00\x00 no HTTP at all\r\n\r\n"), 400);
    assert!(!server.pushed());
    assert_eq!(server.post(&[("X-Hub-Signature-256", &good.to_uppercase().replace("SHA", "sha"))], "{}"), 202);
}

#[test]
fn only_pushes_lead_to_a_sync() {
    let server = Server::start(Some(SECRET));
    let signature = sha256(SECRET, "{}");
    for (event, status, pushes) in [("ping", 200, false), ("issues", 200, false), ("push", 202, true)] {
        assert_eq!(server.post(&[("X-GitHub-Event", event), ("X-Hub-Signature-256", &signature)], "{}"), status);
        assert_eq!(server.pushed(), pushes, "{event}");
    }
    for _ in 0..5 {
        server.post(&[("X-Hub-Signature-256", &signature)], "{}");
    }
    assert!(server.pushed());
    assert!(!server.pushed(), "five pushes are one");
    assert_eq!(agent().get(server.url()).call().expect("an answer").status(), 405);
    assert_eq!(agent().put(server.url()).send("{}").expect("an answer").status(), 405);
    assert_eq!(agent().post(server.url() + "/").send("{}").expect("an answer").status(), 404);
}

#[test]
fn a_delivery_is_accepted_once() {
    let server = Server::start(Some(SECRET));
    let (good, bad) = (sha256(SECRET, "{}"), sha256("other", "{}"));
    let post = |id: &str, signature: &str| {
        let headers = [("X-GitHub-Event", "push"), ("X-GitHub-Delivery", id), ("X-Hub-Signature-256", signature)];
        server.post(&headers, "{}")
    };
    assert_eq!(post("a", &bad), 401);
    assert_eq!(post("a", &good), 202, "a forger cannot use up an id");
    assert_eq!(post("a", &good), 409);
    assert_eq!(post("b", &good), 202);
    assert_eq!(post(&"c".repeat(201), &good), 400);

    let statuses = thread::scope(|scope| {
        let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| post("race", &good))).collect();
        let mut statuses = BTreeMap::<u16, usize>::new();
        for racer in racers {
            *statuses.entry(racer.join().expect("a status")).or_default() += 1;
        }
        statuses
    });
    assert_eq!(statuses, BTreeMap::from([(202, 1), (409, 7)]));
}

#[test]
fn both_secrets_count_while_one_replaces_the_other() {
    let server = Server::start(Some("old\n"));
    let post = |key| server.post(&[("X-Hub-Signature-256", &sha256(key, "{}"))], "{}");
    let token = |key| server.post(&[("X-Gitlab-Token", key)], "{}");
    assert_eq!((post("old"), post("new"), token("old"), token("new")), (202, 401, 202, 401));
    server.secrets(" old \r\n\nnew\n");
    assert_eq!((post("old"), post("new"), token("old"), token("new")), (202, 202, 202, 202));
    assert_eq!((post(""), post("old\nnew"), post(" old "), token("old\u{a0}new")), (401, 401, 401, 400));
    server.secrets("new");
    assert_eq!((post("old"), post("new")), (401, 202));
    // Nobody is believed while there is no secret to tell by.
    for secrets in ["", "\n \n"] {
        server.secrets(secrets);
        assert_eq!((post("new"), post("")), (503, 503));
    }
    fs::remove_file(server.folder.path().join("secrets")).expect("removed");
    assert_eq!(post("new"), 503);
}

#[test]
fn without_a_secret_everything_is_believed() {
    let server = Server::start(None);
    assert_eq!(server.post(&[], "anything"), 202);
    assert!(server.pushed());
    assert_eq!(server.post(&[("X-GitHub-Event", "ping"), ("X-Hub-Signature-256", "sha256=zz")], ""), 200);
    assert!(!server.pushed());
}

#[test]
fn bodies_may_come_in_pieces() {
    let server = Server::start(Some(SECRET));
    let signature = sha256(SECRET, "{\"ref\":1}");
    let head = format!("POST /hooks/git HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: {signature}\r\n");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    assert_eq!(server.raw(format!("{chunked}4\r\n{{\"re\r\n5\r\nf\":1}}\r\n0\r\n\r\n").as_bytes()), 202);
    assert_eq!(server.raw(format!("{chunked}4\r\n{{\"re\r\n5\r\nf\":2}}\r\n0\r\n\r\n").as_bytes()), 401);
    assert_eq!(server.raw(format!("{chunked}zz\r\n").as_bytes()), 400, "a broken chunk");
}

#[test]
fn long_bodies_are_cut_short_and_slow_ones_too() {
    let server = Server::start(Some(SECRET));
    let largest = "x".repeat(25 << 20);
    assert_eq!(server.post(&[("X-Hub-Signature-256", &sha256(SECRET, &largest))], &largest), 202);

    let head = |rest: &str| {
        let signature = sha256(SECRET, "{}");
        format!("POST /hooks/git HTTP/1.1\r\nhost: x\r\nx-hub-signature-256: {signature}\r\n{rest}\r\n\r\n")
    };
    let announced = head(&format!("content-length: {}", (25 << 20) + 1));
    assert_eq!(server.raw(announced.as_bytes()), 413, "before any of it is sent");

    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.write_all(head("transfer-encoding: chunked").as_bytes()).expect("sent");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    // The server stops to listen where the limit is.
    let sent = (0..200).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!((24..60).contains(&sent), "{sent} MiB");

    let mut slow = TcpStream::connect(server.address).expect("a connection");
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    slow.write_all((head("content-length: 2") + "{").as_bytes()).expect("sent");
    assert_eq!(status(&mut slow), 408);
    assert_eq!(server.post(&[("X-Hub-Signature-256", &sha256(SECRET, "{}"))], "{}"), 202, "others are served");
}
