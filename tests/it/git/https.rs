//! A real https server: git's own http-backend behind TLS and a token.

use super::servers::{Https, Served, drover};
use super::support::{Plan, fails};

const JSON: [&str; 3] = ["plan", "--format", "json"];

#[test]
fn a_token_opens_a_repository() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let url = server.url("token", "fleet.git");
    let commit = served.git(&["rev-parse", "HEAD"]);

    let plan = Plan::read(server.drover(home.path(), Https::TOKEN, &[&JSON[..], &["--repo", &url]].concat()));
    assert_eq!((plan.commit(), plan.is_dirty()), (Some(commit.as_str()), false));
    assert_eq!(plan.to("n1", "gpu-type"), Some("A100"));
    assert_eq!(plan.0["state"]["source"], *url);
    assert_eq!(plan.digest(), Plan::of(&served.work, &[]).digest());
    assert_eq!(plan.change("n1", "gpu").expect("a change")["source"]["commit"]["author"], "Ann");

    let environment = [("SSL_CERT_FILE", server.certificate()), ("OTHER", Https::TOKEN.to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let named = [&JSON[..], &["--repo", &url, "--git-token-env", "OTHER"]].concat();
    assert_eq!(Plan::read(drover(home.path(), &environment, &named)).commit(), Some(commit.as_str()));

    let with_password = format!("https://ann:{}@{}/token/fleet.git", Https::TOKEN, server.host());
    let plan = Plan::read(server.drover(home.path(), "", &[&JSON[..], &["--repo", &with_password]].concat()));
    assert_eq!(plan.commit(), Some(commit.as_str()));
    assert_eq!(plan.0["state"]["source"], format!("https://ann:***@{}/token/fleet.git", server.host()));
}

#[test]
fn a_repository_that_asks_for_nothing_needs_nothing() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let url = server.url("open", "fleet.git");
    let ran = server.drover(home.path(), "", &["validate", "--repo", &url]).expect(0);
    assert!(ran.out.contains("valid: 3 files"), "{}", ran.out);
    server.drover(home.path(), Https::TOKEN, &["validate", "--repo", &url]).expect(0);
    assert!(server.requests().iter().all(|request| request.ends_with(" -")), "the token is only shown to who asks");
}

#[test]
fn a_token_that_is_refused_is_an_error_and_not_a_loop() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let url = server.url("token", "fleet.git");
    let with_password = format!("https://ann:wrong-s3cret@{}/token/fleet.git", server.host());
    let only_a_password = format!("https://wrong-s3cret@{}/token/fleet.git", server.host());
    for (url, shown, token, says) in [
        (&url, &url, "", "the server wants other credentials; tried git's credential helpers"),
        (&url, &url, "wrong-s3cret", "the server wants other credentials; tried the token"),
        (&with_password, &url.replace("//", "//ann:***@"), "", "tried the password of the address"),
        (&only_a_password, &url.replace("//", "//***@"), "", "the server wants other credentials"),
    ] {
        let before = server.requests().len();
        let ran = server.drover(home.path(), token, &["plan", "--repo", url]);
        fails(ran, &[&format!("cannot fetch {shown}: "), says, "hint: for https set DROVER_GIT_TOKEN"]);
        let requests = server.requests().len() - before;
        assert!(requests <= 4, "{requests} requests for one refusal");
    }
}

#[test]
fn a_certificate_that_nothing_vouches_for_is_refused() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let other = Https::start(&served);
    let url = server.url("token", "fleet.git");
    for trusted in [None, Some(other.certificate())] {
        let mut environment = vec![("DROVER_GIT_TOKEN", Https::TOKEN)];
        environment.extend(trusted.as_deref().map(|file| ("SSL_CERT_FILE", file)));
        let ran = drover(home.path(), &environment, &["plan", "--repo", &url]);
        fails(ran, &[&format!("cannot fetch {url}: "), "certificate", "SSL_CERT_FILE"]);
    }
    assert_eq!(server.requests(), [""; 0], "nothing was sent to a server that cannot prove who it is");
}

#[test]
fn a_repository_that_is_not_there_is_said_so() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let url = format!("https://ann:{}@{}/token/nope.git", Https::TOKEN, server.host());
    let ran = server.drover(home.path(), "", &["plan", "--repo", &url]);
    fails(
        ran,
        &["cannot fetch https://ann:***@127.0.0.1:", "/token/nope.git: ", "404", "check the path of the repository"],
    );
    served.work.git(&["init", "--quiet", "--bare", served.folder().join("empty.git").to_str().expect("UTF-8")]);
    let ran = server.drover(home.path(), "", &["plan", "--repo", &server.url("open", "empty.git")]);
    fails(ran, &["there is no revision", "the repository has no commit yet"]);
    let ran = server.drover(home.path(), "", &["plan", "--repo", &server.url("open", "fleet.git"), "--rev", "nope"]);
    fails(ran, &["there is no revision \"nope\""]);
}

#[test]
fn a_redirect_is_followed_but_takes_no_token_elsewhere() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let here = format!("moved/{}/token", server.host());
    server.drover(home.path(), Https::TOKEN, &["validate", "--repo", &server.url(&here, "fleet.git")]).expect(0);

    // `localhost` is another host than 127.0.0.1, although the same server answers.
    let before = server.requests().len();
    let elsewhere = format!("moved/{}/token", server.host().replace("127.0.0.1", "localhost"));
    let ran = server.drover(home.path(), Https::TOKEN, &["validate", "--repo", &server.url(&elsewhere, "fleet.git")]);
    fails(ran, &["the server sends on to localhost:", "which gets no credentials"]);
    let requests = &server.requests()[before..];
    assert!(requests.iter().all(|request| request.ends_with(" -")), "{requests:?}");

    let open = elsewhere.replace("/token", "/open");
    server.drover(home.path(), Https::TOKEN, &["validate", "--repo", &server.url(&open, "fleet.git")]).expect(0);
}
