//! A stand-in for what the APIs of GitHub and Gitea have in common: the pull requests of the repository `open/fleet`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The pull requests of a server, and the requests that it got.
#[derive(Default)]
pub(crate) struct Pulls {
    pub(crate) open: Vec<Value>,
    pub(crate) requests: Vec<String>,
}

impl Pulls {
    /// Serves as much of both APIs as their documents say of pull requests, for as long as the process lives.
    pub(crate) fn serve(token: &'static str) -> (String, Arc<Mutex<Self>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let pulls = Arc::new(Mutex::new(Self::default()));
        let all = pulls.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection"), token, &mut all.lock().expect("nobody panics with it"));
            }
        });
        (url, pulls)
    }
}

fn serve(mut stream: TcpStream, token: &str, pulls: &mut Pulls) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(request) = lines.first().cloned() else { return };
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
        })
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    pulls.requests.push(format!("{method} {}", path.split('?').next().unwrap_or_default()));
    let known = header("authorization") == Some(format!("token {token}"));
    let (status, answer) = match (method, path.split('?').next().unwrap_or_default()) {
        _ if !known => (401, json!({ "message": "Bad credentials" })),
        ("GET", "/repos/open/fleet/pulls") => {
            let first = path.contains("&page=1");
            (200, if first { Value::Array(pulls.open.clone()) } else { json!([]) })
        }
        ("POST", "/repos/open/fleet/pulls") => {
            let number = pulls.open.len() + 1;
            let pull = json!({
                "number": number, "html_url": format!("https://git.example.org/pulls/{number}"),
                "title": body["title"], "body": body["body"],
                "head": {"ref": body["head"]}, "base": {"ref": body["base"]},
            });
            pulls.open.push(pull.clone());
            (201, pull)
        }
        ("PATCH", path) => {
            let number: usize = path.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number");
            pulls.open[number - 1]["title"] = body["title"].clone();
            (200, pulls.open[number - 1].clone())
        }
        _ => (404, json!({ "message": "Not Found" })),
    };
    let answer = answer.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
}
