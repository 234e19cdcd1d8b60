//! git's own server on a port of ours, which can be away or hang.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Connections are closed at once.
    Away,
    /// Connections are taken, and nothing is ever said.
    Silent,
}

/// Serves the repositories below a folder to everybody, who may push as well, for as long as the test process lives.
pub(crate) struct GitDaemon {
    port: u16,
    mood: Arc<Mutex<Mood>>,
}

impl GitDaemon {
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let mood = Arc::new(Mutex::new(Mood::Well));
        let (moods, folder) = (mood.clone(), folder.to_path_buf());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, folder) = (stream.expect("a connection"), folder.clone());
                let mood = *moods.lock().expect("nobody panics with it");
                thread::spawn(move || serve(stream, &folder, mood));
            }
        });
        Self { port, mood }
    }

    pub(crate) fn url(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.port)
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().expect("nobody panics with it") = mood;
    }
}

fn serve(mut stream: TcpStream, folder: &PathBuf, mood: Mood) -> io::Result<()> {
    match mood {
        Mood::Away => Ok(()),
        Mood::Silent => stream.read_to_end(&mut Vec::new()).map(drop),
        Mood::Well => {
            let output = OwnedFd::from(stream.try_clone()?);
            let mut command = Command::new("git");
            command
                .args(["daemon", "--inetd", "--export-all", "--enable=receive-pack"])
                .arg(format!("--base-path={}", folder.display()))
                .arg(folder);
            command.stdin(Stdio::from(OwnedFd::from(stream))).stdout(output).stderr(Stdio::null());
            command.status().map(drop)
        }
    }
}
