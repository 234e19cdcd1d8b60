//! A real sshd: keys, the agent, and the check of the server's own key.

use std::fs;

use super::servers::{Agent, Served, Ssh, drover};
use super::support::{Plan, fails};

#[test]
fn a_key_file_or_the_agent_opens_a_repository() {
    let (served, server) = (Served::new(), Ssh::start());
    let (url, commit) = (server.url(&served.folder().join("fleet.git")), served.git(&["rev-parse", "HEAD"]));
    let (good, stranger) = (server.key("good"), server.key("stranger"));
    // The agent offers the stranger's key first, and then one that no file can give: it has a passphrase.
    let agent = Agent::start(&[&stranger, &server.key("locked")]);
    let socket = agent.socket();
    for (environment, arguments) in [
        (vec![], vec!["--git-key", &good]),
        (vec![("DROVER_GIT_KEY", good.as_str())], vec![]),
        (vec![("SSH_AUTH_SOCK", socket.as_str())], vec![]),
        (vec![("SSH_AUTH_SOCK", socket.as_str())], vec!["--git-key", &stranger]),
    ] {
        let home = server.home("host");
        let arguments = [&["plan", "--format", "json", "--repo", &url], &arguments[..]].concat();
        let plan = Plan::read(drover(home.path(), &environment, &arguments));
        assert_eq!((plan.commit(), plan.is_dirty()), (Some(commit.as_str()), false), "{arguments:?}");
        assert_eq!((plan.to("n1", "gpu-type"), &plan.0["state"]["source"]), (Some("A100"), &url.as_str().into()));
    }
}

#[test]
fn a_key_that_is_refused_is_an_error_and_not_a_loop() {
    let (served, server) = (Served::new(), Ssh::start());
    let (url, home) = (server.url(&served.folder().join("fleet.git")), server.home("host"));
    let (stranger, locked) = (server.key("stranger"), server.key("locked"));
    let agent = Agent::start(&[&stranger]);
    let socket = agent.socket();
    let refused = "the server wants other credentials; tried ";
    for (environment, key, says) in [
        (vec![], None, vec![refused, "the ssh agent", "DROVER_GIT_KEY"]),
        (vec![("SSH_AUTH_SOCK", "/nowhere")], None, vec![refused, "the ssh agent"]),
        (vec![("SSH_AUTH_SOCK", socket.as_str())], None, vec![refused, "the ssh agent"]),
        (vec![], Some(stranger.as_str()), vec![refused, "the key file, the ssh agent"]),
        (vec![], Some(locked.as_str()), vec!["private key", "without a passphrase"]),
        (vec![], Some("/nowhere"), vec!["private key file"]),
        (vec![], Some("/etc/hostname"), vec!["private key"]),
    ] {
        let key: Vec<&str> = key.iter().flat_map(|key| ["--git-key", key]).collect();
        let ran = drover(home.path(), &environment, &[&["plan", "--repo", &url], &key[..]].concat());
        fails(ran, &[&[format!("cannot fetch {url}: ").as_str()], &says[..]].concat());
    }
    // Nobody is named in the address: the server is asked as `git`, whom it does not know.
    let nobody = url.replace(&format!("{}@", server.user()), "");
    let ran = drover(home.path(), &[], &["plan", "--repo", &nobody, "--git-key", &server.key("good")]);
    fails(ran, &[&format!("cannot fetch {nobody}: "), refused]);
}

#[test]
fn a_server_whose_key_is_not_known_is_refused() {
    let (served, server) = (Served::new(), Ssh::start());
    let url = server.url(&served.folder().join("fleet.git"));
    let key = server.key("good");
    let (changed, unknown) = (server.home("stranger"), Served::elsewhere());
    for home in [changed, unknown] {
        let ran = drover(home.path(), &[], &["plan", "--repo", &url, "--git-key", &key]);
        fails(ran, &[&format!("cannot fetch {url}: "), "hostkey", "~/.ssh/known_hosts"]);
        let known = fs::read_to_string(home.path().join(".ssh/known_hosts")).unwrap_or_default();
        assert!(
            !known.contains(&fs::read_to_string(server.key("host.pub")).expect("a key")),
            "no key is learnt silently"
        );
    }
}

#[test]
fn a_repository_that_is_not_there_is_said_so() {
    let (served, server) = (Served::new(), Ssh::start());
    let (home, key) = (server.home("host"), server.key("good"));
    let missing = served.folder().join("nope.git");
    let user = server.user();
    let with_password = server.url(&missing).replace(&format!("{user}@"), &format!("{user}:a-s3cret@"));
    for (url, shown) in [
        (server.url(&missing), server.url(&missing)),
        (with_password, server.url(&missing).replace(&format!("{user}@"), &format!("{user}:***@"))),
    ] {
        let ran = drover(home.path(), &[], &["plan", "--repo", &url, "--git-key", &key]);
        fails(ran, &[&format!("cannot fetch {shown}: "), "does not appear to be a git repository", "check the path"]);
    }
}
