//! Builds state repositories in temporary folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::{self, Ran};

/// A folder with a state in `state/`, which may be a git repository.
pub(crate) struct State {
    folder: tempfile::TempDir,
}

impl State {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The folder around `state/`.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path below the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file below the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self
    }

    /// Reads a file below the folder.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// Replaces text in a file, which must hold it.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) -> &Self {
        let text = self.read(name);
        assert!(text.contains(from), "{name} does not hold {from:?}:\n{text}");
        self.write(name, text.replace(from, to))
    }

    /// Writes a Cluster with this connection (YAML flow text).
    pub(crate) fn cluster(&self, name: &str, connection: &str) -> &Self {
        self.write(
            &format!("state/clusters/{name}.yaml"),
            format!("apiVersion: drover.dev/v1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  connection: {connection}\n"),
        )
    }

    /// Writes a Group.
    pub(crate) fn group(&self, name: &str) -> &Self {
        self.write(
            &format!("state/groups/{name}.yaml"),
            format!("apiVersion: drover.dev/v1\nkind: Group\nmetadata: {{name: {name}}}\n"),
        )
    }

    /// Writes a Node with this spec (YAML flow text).
    pub(crate) fn node(&self, cluster: &str, name: &str, spec: &str) -> &Self {
        self.write(
            &format!("state/nodes/{cluster}/{name}.yaml"),
            format!(
                "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: {name}, cluster: {cluster}}}\nspec: {spec}\n"
            ),
        )
    }

    /// Runs git in the folder.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.root())
            .env("HOME", self.root())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"])
            // Git would tidy up in the background after many commits, and lock what the next one needs.
            .args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"])
            .args(arguments)
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Commits everything, making the repository first where there is none; gives the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        if !self.path(".git").exists() {
            self.git(&["init", "--quiet"]);
            self.write(".gitignore", ".cache/\n");
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs drover in the folder.
    pub(crate) fn drover(&self, arguments: &[&str]) -> Ran {
        run::drover(self.root(), arguments)
    }
}
