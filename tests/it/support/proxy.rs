//! A proxy in front of an API server that answers some requests otherwise than the server would.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::{Client, ControlPlane, Role};

/// What becomes of a request instead of an answer by the server.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The proxy answers with this status; the server does not see the request.
    Status(u16),
    /// The same, asking to wait this many seconds.
    RetryAfter(u16, u32),
    /// This status with this message, as a 403 from an admission webhook.
    Refused(u16, &'static str),
    /// The server does what is asked, and the connection is closed before its answer.
    LostAnswer,
    /// The server does what is asked, and its answer comes this much later.
    Late(Duration),
    /// No answer ever comes.
    Silence,
    /// The connection is closed at once.
    Cut,
    /// An answer that is none.
    Says(&'static str),
}

/// A request that passed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Without its query.
    pub(crate) path: String,
    pub(crate) is_watch: bool,
    /// 1 for the first request of this method and path, 2 for the second, and so on.
    pub(crate) time: usize,
    pub(crate) at: Instant,
}

type Faults = dyn Fn(&Asked) -> Option<Fault> + Send + Sync;

pub(crate) struct Proxy {
    shared: Arc<Shared>,
    kubeconfigs: Vec<(Role, String)>,
}

/// What the connections share.
struct Shared {
    server: Client,
    faults: Box<Faults>,
    asked: Mutex<Vec<Asked>>,
    open: Mutex<Vec<TcpStream>>,
    /// While it is set, nothing that the server tells on open watches goes through.
    held: AtomicBool,
}

impl Proxy {
    /// Serves on a port of its own for as long as the process lives.
    pub(crate) fn start(
        plane: &ControlPlane,
        faults: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, open, held) = (Mutex::default(), Mutex::default(), AtomicBool::default());
        let server = plane.client().expect("the API server runs");
        let shared = Arc::new(Shared { server, faults: Box::new(faults), asked, open, held });
        let kubeconfigs = Role::ALL.map(|role| (role, plane.kubeconfig_by_way_of(&url, role))).into();
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.expect("a connection"), serving.clone());
                let mut open = shared.open.lock().expect("nobody panics with it");
                // A client that is gone needs no cutting off.
                open.retain(|stream| stream.peer_addr().is_ok());
                open.push(stream.try_clone().expect("a handle"));
                drop(open);
                // A client that goes away ends its connection, not the proxy.
                thread::spawn(move || {
                    let _ = shared.serve(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { shared, kubeconfigs }
    }

    /// Cuts every open connection.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().expect("nobody panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Open watches hang, or go on.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.store(held, Ordering::Relaxed);
    }

    /// How many requests there were so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.asked.lock().expect("nobody panics with it").len()
    }

    /// The text of a kubeconfig that leads through the proxy.
    pub(crate) fn kubeconfig(&self, role: Role) -> String {
        self.kubeconfigs.iter().find(|(known, _)| *known == role).expect("every role has one").1.clone()
    }

    /// The requests of this method and path so far.
    pub(crate) fn asked(&self, method: &str, path: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().expect("nobody panics with it");
        asked.iter().filter(|asked| asked.method == method && asked.path == path).cloned().collect()
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            match (self.faults)(&self.note(&request)) {
                None if request.is_watch() => return self.stream(&request, stream),
                None => self.pass(&request, stream)?,
                Some(Fault::Status(status)) => respond(stream, status, None, &problem(status, "as the test wants it"))?,
                Some(Fault::RetryAfter(status, seconds)) => {
                    respond(
                        stream,
                        status,
                        Some(seconds),
                        &problem(status, "too many requests, please try again later"),
                    )?;
                }
                Some(Fault::Refused(status, message)) => respond(stream, status, None, &problem(status, message))?,
                Some(Fault::LostAnswer) => {
                    self.forward(&request);
                    return Ok(());
                }
                Some(Fault::Late(time)) => {
                    thread::sleep(time);
                    if request.is_watch() {
                        return self.stream(&request, stream);
                    }
                    self.pass(&request, stream)?;
                }
                Some(Fault::Cut) => return Ok(()),
                Some(Fault::Says(text)) => {
                    respond(stream, 200, None, text)?;
                }
                Some(Fault::Silence) => return reader.read_to_end(&mut Vec::new()).map(drop),
            }
        }
        Ok(())
    }

    fn pass(&self, request: &Request, stream: &TcpStream) -> io::Result<()> {
        let (status, body) = self.forward(request);
        respond(stream, status, None, &body)
    }

    fn note(&self, request: &Request) -> Asked {
        let mut all = self.asked.lock().expect("nobody panics with it");
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let before = all.iter().filter(|asked| asked.method == request.method && asked.path == path).count();
        let (method, is_watch) = (request.method.clone(), request.is_watch());
        let asked = Asked { method, path, is_watch, time: before + 1, at: Instant::now() };
        all.push(asked.clone());
        asked
    }

    /// Hands on what a watch tells, as it comes; the end of the connection is the end of the answer.
    fn stream(&self, request: &Request, mut stream: &TcpStream) -> io::Result<()> {
        let token = request.token();
        let (status, mut body) = self.server.open(token, &request.target).map_err(io::Error::other)?;
        write!(stream, "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")?;
        let mut buffer = [0; 16 << 10];
        loop {
            let length = body.read(&mut buffer)?;
            while self.held.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            if length == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..length])?;
        }
    }

    fn forward(&self, request: &Request) -> (u16, String) {
        let body: Option<Value> = serde_json::from_slice(&request.body).ok();
        let body = body.as_ref().map(|body| (request.header("content-type"), body));
        let reply =
            self.server.send(request.token(), &request.method, &request.target, body).expect("the API server answers");
        (reply.status, reply.body)
    }
}

/// The error of an API server.
fn problem(code: u16, message: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}).to_string()
}

struct Request {
    method: String,
    target: String,
    /// By lower-case name.
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    fn token(&self) -> &str {
        self.header("authorization").trim_start_matches("Bearer ")
    }

    fn is_watch(&self) -> bool {
        self.target.contains("watch=true")
    }

    /// None at the end of the connection.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { method, target, headers, body }))
    }
}

fn respond(mut stream: &TcpStream, status: u16, retry_after: Option<u32>, body: &str) -> io::Result<()> {
    let wait = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{wait}content-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes())
}
