//! Real Kubernetes API servers for tests: each with its own etcd, ports, TLS certificate, tokens and folder.

mod access;
mod audit;
mod http;
mod kubelet;
mod objects;
mod process;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use access::Role;
pub(crate) use audit::Write;
pub(crate) use http::{Client, JSON, MERGE_PATCH, Reply};
pub(crate) use kubelet::Kubelet;
pub(crate) use objects::{NodeSpec, PodSpec};
pub(crate) use process::eventually;
use process::{Server, Slot};

/// Generous: CI starts several at once on two cores, which other work may share.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Every token holds this, so that a run can be searched for all of them.
pub(crate) const TOKEN_MARK: &str = "-token-of-";

/// A cluster's API server and etcd. Fields are dropped in order: the servers end before their folder goes.
pub(crate) struct ControlPlane {
    name: String,
    audited: bool,
    api_server: Mutex<Option<Server>>,
    etcd: Mutex<Option<Server>>,
    slot: Slot,
}

impl ControlPlane {
    /// The name is the kubeconfigs' cluster and context.
    pub(crate) fn start_named(name: &str) -> Self {
        Self::start(name, false)
    }

    /// One that keeps account of what is written to nodes and Leases.
    pub(crate) fn start_audited(name: &str) -> Self {
        Self::start(name, true)
    }

    fn start(name: &str, audited: bool) -> Self {
        let slot = Slot::claim();
        let etcd = start_etcd(&slot);
        let etcd = Mutex::new(Some(etcd));
        let plane = Self { name: name.into(), audited, api_server: Mutex::new(None), etcd, slot };
        plane.write_credentials();
        plane.start_api_server();
        // The server makes it in the background, and pods and rights need it.
        eventually("the namespace default", START_LIMIT, || {
            let reply = plane.request(Role::Admin, "GET", "/api/v1/namespaces/default", None);
            if reply.status == 200 { Ok(()) } else { Err(reply.body) }
        });
        plane.grant_rights();
        plane
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.slot.api_port)
    }

    /// A secret that must show up nowhere.
    pub(crate) fn token(&self, role: Role) -> String {
        role.token(&self.name)
    }

    /// Verifies the server's certificate; users are named ROLE@CLUSTER, so that kubeconfigs of several clusters merge.
    pub(crate) fn kubeconfig(&self, role: Role) -> PathBuf {
        self.path(&format!("{}.kubeconfig", role.name()))
    }

    /// A kubeconfig for another way to the server, without TLS.
    pub(crate) fn kubeconfig_by_way_of(&self, url: &str, role: Role) -> String {
        role.kubeconfig(&self.name, url, &self.ca())
    }

    /// Makes a service account of drover's namespace anew, so that tokens of an earlier one count no more, and returns a
    /// token.
    pub(crate) fn service_account(&self, name: &str) -> String {
        let path = "/api/v1/namespaces/drover/serviceaccounts";
        self.request(Role::Admin, "DELETE", &format!("{path}/{name}"), None);
        let account = json!({ "metadata": { "name": name } });
        self.request(Role::Admin, "POST", path, Some((JSON, &account))).accepted(path);
        let path = format!("{path}/{name}/token");
        let wanted = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let made = self.request(Role::Admin, "POST", &path, Some((JSON, &wanted))).accepted(&path).json();
        made["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// The kubectl that belongs to the API server.
    pub(crate) fn kubectl_path(&self) -> PathBuf {
        binaries().join("kubectl")
    }

    /// What kubectl printed, as admin.
    pub(crate) fn kubectl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let mut command = Command::new(binaries().join("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig(Role::Admin))
            .arg("--cache-dir")
            .arg(self.path("kubectl-cache"));
        command.args(args).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Kills the API server, so that its connections end at once.
    pub(crate) fn stop_api_server(&self) {
        assert!(self.api_server().take().is_some(), "cluster {}: the API server is stopped already", self.name);
    }

    /// Starts it on the same port, over the same data, and waits until it is ready.
    pub(crate) fn start_api_server(&self) {
        let mut server = self.api_server();
        assert!(server.is_none(), "cluster {}: the API server runs already", self.name);
        let started = server.insert(self.spawn_api_server());
        eventually(&format!("cluster {} is ready", self.name), START_LIMIT, || {
            // No waiting mends a server that has ended.
            started.check_alive().unwrap_or_else(|e| panic!("cluster {}: the API server {e}", self.name));
            match self.client()?.send(&self.token(Role::Admin), "GET", "/readyz", None) {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(reply.body),
                Err(e) => Err(format!("{e}; the API server's log ends:\n{}", started.log_tail())),
            }
        });
    }

    /// The server hangs: it accepts connections and never answers.
    pub(crate) fn pause_api_server(&self) {
        self.signal_api_server("STOP");
    }

    pub(crate) fn resume_api_server(&self) {
        self.signal_api_server("CONT");
    }

    /// The store of the API server hangs: nothing can be written, or read anew.
    pub(crate) fn pause_etcd(&self) {
        self.etcd().as_ref().expect("etcd runs").signal("STOP");
    }

    pub(crate) fn resume_etcd(&self) {
        self.etcd().as_ref().expect("etcd runs").signal("CONT");
    }

    pub(crate) fn stop_etcd(&self) {
        assert!(self.etcd().take().is_some(), "cluster {}: etcd is stopped already", self.name);
    }

    /// Starts it again, over the same data.
    pub(crate) fn start_etcd(&self) {
        assert!(self.etcd().replace(start_etcd(&self.slot)).is_none(), "cluster {}: etcd runs already", self.name);
    }

    /// Keeps a copy of the data. Both servers are away meanwhile.
    pub(crate) fn back_up(&self) {
        self.while_stopped(|| copy_folder(&self.path("etcd"), &self.path("backup")));
    }

    /// Brings the copy back: the cluster is as it was then, and its history goes on from there.
    pub(crate) fn restore(&self) {
        self.while_stopped(|| {
            fs::remove_dir_all(self.path("etcd")).expect("etcd is stopped");
            copy_folder(&self.path("backup"), &self.path("etcd"));
        });
    }

    fn while_stopped(&self, work: impl FnOnce()) {
        self.stop_api_server();
        self.stop_etcd();
        work();
        self.start_etcd();
        self.start_api_server();
    }

    /// Gives a role another token, which counts once the API server was started anew.
    pub(crate) fn rotate_token(&self, role: Role, token: &str) {
        let path = self.path("tokens.csv");
        let tokens = fs::read_to_string(&path).expect("the tokens were written");
        write(&path, &tokens.replace(&self.token(role), token));
    }

    /// A certificate of the role for clients, and its key, good for so many seconds from now.
    pub(crate) fn client_certificate(&self, role: Role, seconds: i64) -> (PathBuf, PathBuf) {
        let mark = format!("{}-{seconds}", role.name());
        let (certificate, key) = (self.path(&format!("{mark}.crt")), self.path(&format!("{mark}.key")));
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let until = until.strftime("%Y%m%d%H%M%SZ").to_string();
        let subject = format!("/CN={}", role.name());
        let (ca, ca_key) = (self.path("clients.crt"), self.path("clients.key"));
        let mut request = openssl(&["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        let asked = self.path(&format!("{mark}.csr"));
        run(request.args(["-subj", &subject, "-keyout"]).arg(&key).arg("-out").arg(&asked));
        // Only this command of openssl knows an end to the second.
        let (folder, database) = (self.path(&format!("{mark}-ca")), self.path(&format!("{mark}-ca/index")));
        fs::create_dir_all(&folder).expect("a folder");
        write(&database, "");
        write(
            &folder.join("config"),
            &format!(
                "[ca]\ndefault_ca=d\n[d]\ndatabase={}\nnew_certs_dir={}\ndefault_md=sha256\npolicy=p\nrand_serial=yes\nx509_extensions=e\n[e]\nextendedKeyUsage=clientAuth\n[p]\ncommonName=supplied\n",
                database.display(),
                folder.display()
            ),
        );
        let mut sign = openssl(&["ca", "-batch", "-notext", "-enddate", &until, "-config"]);
        sign.arg(folder.join("config")).arg("-cert").arg(ca).arg("-keyfile").arg(ca_key);
        run(sign.arg("-in").arg(&asked).arg("-out").arg(&certificate));
        (certificate, key)
    }

    /// Any request, with the content type of its body.
    pub(crate) fn request(&self, role: Role, method: &str, path: &str, body: Option<(&str, &Value)>) -> Reply {
        let reply = self.client().and_then(|client| client.send(&self.token(role), method, path, body));
        reply.unwrap_or_else(|e| panic!("cluster {}: {method} {path}: {e}", self.name))
    }

    /// The object or list at an API path, as admin.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.request(Role::Admin, "GET", path, None).accepted(path).json()
    }

    /// All nodes as the server sends them, neither paged nor parsed: what a benchmark compares with.
    pub(crate) fn raw_list(&self) -> String {
        self.request(Role::Admin, "GET", "/api/v1/nodes", None).accepted("list nodes").body
    }

    /// Registers nodes as kubelets do; 1,213 of them in about a second.
    pub(crate) fn create_nodes(&self, nodes: impl IntoIterator<Item = NodeSpec>) {
        let nodes: Vec<_> = nodes.into_iter().collect();
        self.in_parallel(&nodes, |client, node| {
            self.create(client, "/api/v1/nodes?fieldManager=kubelet", &node.object(), &node.name);
        });
    }

    pub(crate) fn create_pod(&self, pod: PodSpec) {
        self.create_pods([pod]);
    }

    /// Creates missing namespaces too.
    pub(crate) fn create_pods(&self, pods: impl IntoIterator<Item = PodSpec>) {
        let pods: Vec<_> = pods.into_iter().collect();
        for namespace in pods.iter().map(|pod| &pod.namespace).collect::<BTreeSet<_>>() {
            let body = json!({ "metadata": { "name": namespace } });
            let reply = self.request(Role::Admin, "POST", "/api/v1/namespaces", Some((JSON, &body)));
            assert!([201, 409].contains(&reply.status), "create namespace {namespace}: {}", reply.body);
        }
        self.in_parallel(&pods, |client, pod| {
            let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
            self.create(client, &path, &pod.object(), &pod.name);
            // The server ignores the status of a pod that is being created, though not a node's.
            let path = format!("{path}/{}/status?fieldManager=kubelet", pod.name);
            let reply = client.send(&self.token(Role::Admin), "PATCH", &path, Some((MERGE_PATCH, &pod.status())));
            reply.unwrap_or_else(|e| panic!("PATCH {path}: {e}")).accepted(&pod.name);
        });
    }

    fn create(&self, client: &Client, path: &str, object: &Value, name: &str) {
        let send = || {
            let reply = client.send(&self.token(Role::Admin), "POST", path, Some((JSON, object)));
            reply.unwrap_or_else(|e| panic!("cluster {}: create {name}: {e}", self.name))
        };
        let mut reply = send();
        // A busy etcd lets a request time out, carried out or not.
        for _ in 0..4 {
            if reply.status < 500 {
                break;
            }
            thread::sleep(Duration::from_secs(1));
            reply = send();
            if reply.status == 409 {
                return;
            }
        }
        reply.accepted(name);
    }

    fn in_parallel<T: Sync>(&self, items: &[T], work: impl Fn(&Client, &T) + Sync) {
        let client = &self.client().unwrap_or_else(|e| panic!("cluster {}: {e}", self.name));
        let work = &work;
        thread::scope(|scope| {
            for part in items.chunks(items.len().div_ceil(8).max(1)) {
                scope.spawn(move || part.iter().for_each(|item| work(client, item)));
            }
        });
    }

    fn grant_rights(&self) {
        let client = self.client().unwrap_or_else(|e| panic!("cluster {}: {e}", self.name));
        for role in Role::ALL {
            for (path, object) in role.rbac() {
                self.create(&client, &path, &object, role.name());
            }
        }
    }

    /// A new one for each piece of work: connections kept across a restart of the server would be dead.
    pub(crate) fn client(&self) -> Result<Client, String> {
        Client::new(self.url(), &self.ca())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.slot.dir.join(name)
    }

    /// The server's own certificate with that of the CA which the server made for it.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("tls/apiserver.crt")
    }

    fn api_server(&self) -> MutexGuard<'_, Option<Server>> {
        // A start that failed has said why; later calls may still stop the server.
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn etcd(&self) -> MutexGuard<'_, Option<Server>> {
        self.etcd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal_api_server(&self, signal: &str) {
        match &*self.api_server() {
            Some(server) => server.signal(signal),
            None => panic!("cluster {}: the API server is stopped", self.name),
        }
    }

    fn spawn_api_server(&self) -> Server {
        let path = |name: &str| self.path(name).display().to_string();
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.slot.etcd_port),
            format!("--secure-port={}", self.slot.api_port),
            "--bind-address=127.0.0.1".into(),
            format!("--cert-dir={}", path("tls")),
            format!("--service-account-key-file={}", path("service-account.key")),
            format!("--service-account-signing-key-file={}", path("service-account.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--client-ca-file={}", path("clients.crt")),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            // The second would taint every new node as not ready, and no controller is here to take that off again.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".into(),
        ];
        if self.audited {
            write(&self.path(audit::POLICY_FILE), audit::POLICY);
            args.push(format!("--audit-policy-file={}", path(audit::POLICY_FILE)));
            args.push(format!("--audit-log-path={}", path(audit::LOG_FILE)));
        }
        Server::spawn(&binaries().join("kube-apiserver"), &args, self.path("apiserver.log"))
    }

    fn write_credentials(&self) {
        // An elliptic curve key takes no time to make, an RSA key does.
        let key = self.path("service-account.key");
        run(openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&key));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let (ca, ca_key) = (self.path("clients.crt"), self.path("clients.key"));
        let mut authority = openssl(&["req", "-x509", "-subj", "/CN=clients", "-days", "2"]);
        run(authority.args(curve).arg("-keyout").arg(ca_key).arg("-out").arg(ca));

        let mut tokens = String::new();
        for role in Role::ALL {
            tokens += &role.token_line(&self.name);
            write(&self.kubeconfig(role), &role.kubeconfig(&self.name, &self.url(), &self.ca()));
        }
        write(&self.path("tokens.csv"), &tokens);
    }
}

fn start_etcd(slot: &Slot) -> Server {
    let client = format!("http://127.0.0.1:{}", slot.etcd_port);
    // Port 0: a single member hears from no peer, and nobody needs to know the port.
    let peer = "http://127.0.0.1:0";
    let args = [
        format!("--data-dir={}", slot.dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(),
        // A single member still holds an election; by default it waits a second for it.
        "--heartbeat-interval=10".into(),
        "--election-timeout=50".into(),
    ];
    let mut etcd = Server::spawn(&binaries().join("etcd"), &args, slot.dir.join("etcd.log"));
    let health = format!("{client}/health");
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    eventually("etcd is healthy", START_LIMIT, || {
        etcd.check_alive().unwrap_or_else(|e| panic!("etcd {e}"));
        agent.get(&health).call().map(drop).map_err(|e| format!("{e}; its log ends:\n{}", etcd.log_tail()))
    });
    etcd
}

/// The folder that tests/control-plane/build.sh prints. It builds what is missing, which can take minutes, and says so.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane/build.sh");
        let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.unwrap_or_else(|e| panic!("run {script}: {e}"));
        assert!(output.status.success(), "{script} ended with {}", output.status);
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn copy_folder(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}
