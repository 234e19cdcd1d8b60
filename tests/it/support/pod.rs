//! drover as in a pod of a cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::control_plane::ControlPlane;
use super::run;

/// Where Kubernetes mounts the files of a service account.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Writes the files of a service account.
pub(crate) fn write_account(plane: &ControlPlane, account: &Path, token: &str) {
    let ca = fs::read_to_string(plane.ca()).expect("a certificate");
    fs::create_dir_all(account).expect("a folder");
    for (name, text) in [("token", token), ("ca.crt", &ca), ("namespace", "drover")] {
        fs::write(account.join(name), text).expect("a file");
    }
}

/// What Kubernetes tells every pod of where its API server is.
pub(crate) fn environment(plane: &ControlPlane) -> [(&'static str, String); 2] {
    let url = plane.url();
    let (host, port) = url.trim_start_matches("https://").rsplit_once(':').expect("a port");
    [("KUBERNETES_SERVICE_HOST", host.to_owned()), ("KUBERNETES_SERVICE_PORT", port.to_owned())]
}

/// drover as in a pod: the files of a service account are where Kubernetes mounts them, and the environment tells where the
/// API server is. None where this machine lets nobody mount.
pub(crate) fn in_a_pod(plane: &ControlPlane, folder: &Path, account: &Path) -> Option<Command> {
    // What is mounted in a namespace of its own is seen by nobody else.
    let pod = |user: &[&str]| {
        let mount = format!(
            "mount -t tmpfs tmpfs /var/run && mkdir -p {MOUNTED} && mount --bind '{}' {MOUNTED} && exec \"$@\"",
            account.display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount"]).args(user).args(["sh", "-c", &mount, "sh"]);
        unshare
    };
    let may = |user: &[&str]| pod(user).arg("true").output().is_ok_and(|ran| ran.status.success());
    let as_root = ["--user", "--map-root-user"];
    let user: &[&str] = if may(&[]) { &[] } else { &as_root };
    if !may(user) {
        eprintln!("nobody may mount here: what drover does inside a cluster is not tried");
        return None;
    }
    let mut drover = run::command(folder);
    drover.envs(environment(plane));
    Some(run::within(pod(user), &drover))
}
