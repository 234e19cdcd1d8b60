//! Servers that do not answer: every run ends within the time it was given.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use super::servers::{Full, Https, Served, Ssh, drover, free_port};
use super::support::fails;

const PATIENCE: [&str; 2] = ["--git-timeout", "2"];

/// Runs a plan of an address, which must end with a word about silence after 2 to 10 seconds.
#[track_caller]
fn gives_up(home: &std::path::Path, environment: &[(&str, &str)], url: &str, arguments: &[&str]) {
    let begun = Instant::now();
    let ran = drover(home, environment, &[&["plan", "--repo", url], &PATIENCE[..], arguments].concat());
    let taken = begun.elapsed();
    fails(ran, &["cannot fetch ", "the server was silent for 2 s", "--git-timeout"]);
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&taken), "it took {taken:?}");
}

#[test]
fn a_port_that_takes_the_connection_and_says_nothing() {
    // The system completes connections up to the backlog; nobody ever accepts them.
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let home = Served::elsewhere();
    gives_up(home.path(), &[], &format!("https://ann:s3cret@127.0.0.1:{port}/x.git"), &[]);
    gives_up(home.path(), &[], &format!("ssh://ann@127.0.0.1:{port}/x.git"), &[]);
}

#[test]
fn a_port_that_does_not_take_the_connection() {
    let (full, home) = (Full::start(), Served::elsewhere());
    gives_up(home.path(), &[], &format!("https://127.0.0.1:{}/x.git", full.port), &[]);
    gives_up(home.path(), &[], &format!("ssh://ann@127.0.0.1:{}/x.git", full.port), &[]);
}

#[test]
fn an_https_server_that_falls_silent() {
    let served = Served::new();
    let (server, home) = (Https::start(&served), Served::elsewhere());
    let certificate = server.certificate();
    for behaviour in ["silent", "slow"] {
        gives_up(home.path(), &[("SSL_CERT_FILE", &certificate)], &server.url(behaviour, "fleet.git"), &[]);
    }
}

#[test]
fn an_ssh_server_that_falls_silent() {
    let (served, server) = (Served::new(), Ssh::start());
    let home = server.home("host");
    let url = server.url(&served.folder().join("fleet.git"));
    gives_up(home.path(), &[], &url, &["--git-key", &server.key("stuck")]);
}

#[test]
fn a_port_that_nobody_listens_on() {
    let (home, port) = (Served::elsewhere(), free_port());
    for (url, shown) in [
        (format!("https://ann:s3cret@127.0.0.1:{port}/x.git"), format!("https://ann:***@127.0.0.1:{port}/x.git")),
        (format!("ssh://ann@127.0.0.1:{port}/x.git"), format!("ssh://ann@127.0.0.1:{port}/x.git")),
        (format!("http://127.0.0.1:{port}/x.git"), format!("http://127.0.0.1:{port}/x.git")),
        (format!("git://127.0.0.1:{port}/x.git"), format!("git://127.0.0.1:{port}/x.git")),
    ] {
        let ran = drover(home.path(), &[], &["plan", "--repo", &url]);
        fails(ran, &[&format!("cannot fetch {shown}: "), "onnection refused", "can be reached from here"]);
    }
    let ran = drover(home.path(), &[], &["plan", "--repo", "https://ann:s3cret@nowhere.invalid/x.git"]);
    fails(ran, &["cannot fetch https://ann:***@nowhere.invalid/x.git: ", "nowhere.invalid"]);
}

#[test]
fn an_address_that_is_none() {
    let home = Served::elsewhere();
    for url in ["ftp://ann:s3cret@127.0.0.1/x.git", "https://", "https://ann:s3cret@/x.git", "ssh://", "nowhere:x.git"]
    {
        let ran = drover(home.path(), &[], &["plan", "--repo", url, "--git-timeout", "2"]);
        fails(ran, &["cannot fetch "]);
    }
}
