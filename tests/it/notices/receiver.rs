//! A receiver of webhooks that answers as a test wants, and remembers what it was sent.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use drover::model::Severity;
use drover::model::fleet::{Notification, NotificationForm};

/// What a receiver answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status, further header lines, and a body.
    Status(u16, &'static str, &'static str),
    /// The connection is closed instead.
    Hangup,
    /// No answer comes for longer than the end of the daemon waits.
    Silence,
}

pub(crate) const OK: Answer = Answer::Status(200, "", r#"{"errcode": 0, "code": 0, "msg": "ok"}"#);

/// A message that came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    /// Serves for as long as the process lives; `answer` is told how many messages came before.
    pub(crate) fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/hook?key=TOP-SECRET", listener.local_addr().expect("an address"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (got.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, all, answer) = (stream.expect("a connection"), all.clone(), answer.clone());
                thread::spawn(move || serve(&stream, &all, answer.as_ref()));
            }
        });
        Self { url, got }
    }

    pub(crate) fn got(&self) -> Vec<Message> {
        self.got.lock().expect("nobody panics with it").clone()
    }

    /// A notification that leads here, its address in a file of this folder.
    pub(crate) fn notification(&self, folder: &Path, form: NotificationForm) -> Notification {
        let file = folder.join(self.url.split(['/', ':']).nth(4).expect("a port"));
        std::fs::write(&file, format!("{}\n", self.url)).expect("written");
        notification(&file, form)
    }
}

/// A notification whose address is in this file.
pub(crate) fn notification(file: &Path, form: NotificationForm) -> Notification {
    Notification {
        form,
        url_file: file.to_str().expect("UTF-8").parse().expect("a path"),
        secret_file: None,
        kinds: Vec::new(),
        clusters: Vec::new(),
        min_severity: Severity::Info,
    }
}

fn serve(mut stream: &TcpStream, all: &Mutex<Vec<Message>>, answer: &dyn Fn(usize) -> Answer) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let Some(first) = lines.next() else { return };
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().expect("a length"))];
        reader.read_exact(&mut body).expect("a body");
        let target = first.split(' ').nth(1).expect("a target").to_owned();
        let message = Message { target, headers, body: String::from_utf8(body).expect("UTF-8") };
        let before = {
            let mut all = all.lock().expect("nobody panics with it");
            all.push(message);
            all.len() - 1
        };
        match answer(before) {
            Answer::Status(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} -\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(head.as_bytes()).expect("written");
            }
            Answer::Hangup => return,
            Answer::Silence => {
                stream.set_read_timeout(Some(Duration::from_secs(7))).expect("a socket");
                return drop(reader.read_to_end(&mut Vec::new()));
            }
        }
    }
}
