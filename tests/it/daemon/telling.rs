//! What the daemon tells: notifications, logs, numbers, its page and its checks.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Followed, carries, tamper};
use crate::notices::receiver::{OK, Receiver};
use crate::schemas::{errors, validator};
use crate::support::control_plane::{ControlPlane, NodeSpec, PodSpec};
use crate::support::daemon::{Daemon, soon};
use crate::support::run::drover;

/// A Fleet whose notices of these types go to receivers.
fn notify(followed: &Followed, receivers: &[(&str, &Receiver)]) {
    let mut fleet =
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {name: fleet}\nspec:\n  notifications:\n".to_owned();
    for (form, receiver) in receivers {
        followed.state.write(&format!("{form}.url"), format!("{}\n", receiver.url));
        let file = followed.state.path(&format!("{form}.url"));
        fleet += &format!("    - {{type: {form}, urlFile: {}}}\n", file.display());
    }
    followed.state.write(".git/info/exclude", "*.url\n").write("state/fleet.yaml", fleet).commit("notifications");
}

/// Waits until a generic receiver was told of something.
fn told(receiver: &Receiver, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    soon(&format!("told: {what}"), || receiver.got().iter().any(|message| is_it(&message.json())));
    receiver.got().iter().map(|message| message.json()).find(|notice| is_it(notice)).expect("it came")
}

fn of(kind: &'static str, resolved: bool) -> impl Fn(&Value) -> bool {
    move |notice| notice["kind"] == kind && notice["resolved"] == resolved
}

#[test]
fn receivers_are_told_what_happens_and_when_it_is_over() {
    let plane = ControlPlane::start_named("told");
    plane.create_nodes(["tell-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    let (generic, slack) = (Receiver::start(|_| OK), Receiver::start(|_| OK));
    followed.state.node("prod", "tell-1", "{group: ads}").commit("ads");
    notify(&followed, &[("generic", &generic), ("slack", &slack)]);
    // Whoever asks for all that a library logs gets no address of it.
    let log = "debug,ureq=trace,ureq_proto=trace";
    let daemon = followed.run(&["--log-format", "json", "--log", log, "--fight-times", "2"]);

    let applied = told(&generic, "changes applied", of("changes-applied", false));
    assert_eq!((&applied["cluster"], &applied["lines"]), (&json!("prod"), &json!(["tell-1: +org=ads"])));
    told(&generic, "the revision", of("revision-applied", false));

    followed.state.node("prod", "tell-1", "{group: nobody-has-it}").commit("typing error");
    let refused = told(&generic, "the revision is refused", of("revision-refused", false));
    assert!(refused["lines"].to_string().contains("nobody-has-it"), "{refused}");
    followed.state.node("prod", "tell-1", "{group: ads}").commit("mended");
    told(&generic, "a good one is in force", of("revision-refused", true));

    plane.create_pod(PodSpec::on_node("training", "tell-1").selecting("org", "ads"));
    followed.state.node("prod", "tell-1", "{group: rec}").commit("rec");
    let refused = told(&generic, "the plan is refused", of("plan-refused", false));
    assert!(refused["lines"].to_string().contains("default/training on tell-1"), "{refused}");
    // That the pod ends is enough: nothing else need happen.
    plane.kubectl(["delete", "pod", "training", "--grace-period=0", "--force"]);
    carries(&plane, "tell-1", "org", Some("rec"));
    told(&generic, "nothing is refused", of("plan-refused", true));

    for _ in 0..3 {
        tamper(&plane, "tell-1", "org", &json!("ads"));
        soon("healed or given up", || {
            daemon.metric("drover_fights{cluster=\"prod\"}") == Some(1.0)
                || super::support::label(&plane, "tell-1", "org").as_deref() == Some("rec")
        });
    }
    let fight = told(&generic, "a fight", of("fighting", false));
    assert!(fight["title"].as_str().is_some_and(|title| title.contains("kubectl-label")), "{fight}");

    plane.stop_api_server();
    told(&generic, "unreachable", of("cluster-unreachable", false));
    plane.start_api_server();
    told(&generic, "reachable again", of("cluster-unreachable", true));

    let schema = validator("notice");
    for message in generic.got() {
        assert_eq!(errors(&schema, &message.json()), [] as [String; 0]);
    }
    soon("Slack is told as well", || slack.got().len() >= generic.got().len());
    assert!(slack.got().iter().all(|message| message.json()["text"].is_string()), "{:?}", slack.got());
    let sent = daemon.metric("drover_notifications_total{form=\"generic\",result=\"sent\"}");
    assert!(sent.is_some_and(|sent| sent >= 9.0), "{sent:?}");
    the_log_is_json(&daemon.stop().expect(0).err);
}

/// Every line is an object, and what was written to a node names its cluster, node and revision.
fn the_log_is_json(log: &str) {
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let labelled = lines.iter().find(|line| line["message"].as_str().is_some_and(|said| said.starts_with("labelled")));
    let labelled = labelled.unwrap_or_else(|| panic!("nothing was labelled: {log}"));
    assert_eq!((&labelled["cluster"], &labelled["node"]), (&json!("prod"), &json!("tell-1")), "{labelled}");
    assert_eq!(labelled["revision"].as_str().map(str::len), Some(10), "{labelled}");
    assert!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()), "{log}");
    assert!(!log.contains("TOP-SECRET"), "addresses of receivers are secrets");
}

#[test]
fn numbers_status_and_checks_can_be_read_by_machines() {
    let plane = ControlPlane::start_named("numbers");
    plane.create_nodes(["count-1", "count-2"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "count-1", "{group: ads}").node("prod", "count-9", "{group: ads}");
    followed.state.commit("two, of which one is absent");
    let daemon = followed.run(&[]);
    carries(&plane, "count-1", "org", Some("ads"));
    daemon.comes_to("nothing drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 0);
    daemon.is_ready();

    let (_, text) = daemon.get("/metrics");
    let families = open_metrics(&text);
    for (of, names) in NUMBERS {
        for name in *names {
            assert!(families.contains(&format!("drover_{name}")), "{of}: no drover_{name} in {families:?}");
        }
    }
    for hidden in ["count-1", "kubectl", "ads"] {
        assert!(!text.contains(hidden), "{hidden} is no label for numbers:\n{text}");
    }
    assert_eq!(errors(&validator("daemon"), &daemon.status()), [] as [String; 0]);

    let (code, checks) = daemon.get("/readyz");
    assert_eq!(code, 200);
    let names: Vec<&str> = checks.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(names, ["[+] sync", "[+] cluster prod"], "{checks}");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let url = daemon.url();
    let text = drover(folder, ["status", "--daemon", &url, "--detailed-exitcode"]).expect(0).out;
    // Its first two lines hold what is never the same twice.
    let (head, clusters) = text.split_once("\n\n").expect("a head, then the clusters");
    assert!(head.starts_with("drover 0.1.0 on ") && head.contains(": ready, up "), "{head}");
    assert!(head.contains(&format!("state in force: {} @ ", followed.state.root().display())), "{head}");
    insta::assert_snapshot!("daemon-status", clusters);
    let told = drover(folder, ["status", "--daemon", &url, "--format", "json"]).expect(0).json();
    assert_eq!(errors(&validator("daemon"), &told), [] as [String; 0]);

    // Drift that a guard holds back is a difference.
    let suspend = "spec:\n  suspend: {until: 2099-01-01, owner: ann, reason: audit}\n";
    followed.state.edit("state/clusters/prod.yaml", "spec:\n", suspend).commit("suspended");
    let head = followed.state.git(&["rev-parse", "HEAD"]);
    daemon.comes_to("suspended", |status| status["sync"]["inForce"]["commit"] == head.as_str());
    tamper(&plane, "count-1", "org", &json!("rec"));
    daemon.comes_to("it drifts", |status| status["clusters"]["prod"]["nodes"]["drifting"] == 1);
    drover(folder, ["status", "--daemon", &url, "--detailed-exitcode"]).expect(2);
    drover(folder, ["status", "--daemon", &url]).expect(0);
    let (_, page) = daemon.get("/");
    assert!(page.contains("Held back by <code>suspended</code>"), "{page}");
    well_formed(&page);
    daemon.stop().expect(0);
    let gone = drover(folder, ["status", "--daemon", &url]).expect(1);
    assert!(gone.err.contains(url.trim_start_matches("http://")), "{}", gone.err);
}

/// What dashboards and alerts are built on.
const NUMBERS: &[(&str, &[&str])] = &[
    ("drift", &["nodes", "differing_labels", "nodes_failing", "fights"]),
    ("changes", &["label_changes", "events_failed", "notifications"]),
    ("refusals", &["held_back", "revisions_refused"]),
    ("sync", &["sync_age_seconds", "syncs", "state"]),
    ("watches", &["watch_age_seconds", "watch_events", "watch_failures", "cluster_followed", "cluster_held", "ready"]),
    ("durations", &["apply_seconds", "plan_seconds", "sync_seconds"]),
];

/// Reads the text as a scraper does, and insists on what OpenMetrics asks for. Returns what is told.
fn open_metrics(text: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.iter().filter(|line| **line == "# EOF").count(), 1);
    assert_eq!(lines.last(), Some(&"# EOF"));
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = ("", "");
    for line in &lines[..lines.len() - 1] {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                assert!(!help.is_empty() && name.starts_with("drover_"), "{line}");
                (family, kind) = (name, "");
            }
            ["#", "TYPE", name, of] => {
                assert!(name == family && ["counter", "gauge", "histogram", "info"].contains(&of), "{line}");
                kind = of;
            }
            ["#", "UNIT", name, unit] => assert!(name == family && name.ends_with(unit), "{line}"),
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                assert!(value.parse::<f64>().is_ok() || ["+Inf", "NaN"].contains(&value), "{line}");
                let name = sample.split('{').next().expect("a name");
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is no part of {family}"));
                let allowed: &[&str] = match kind {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "info" => &["_info"],
                    _ => &[""],
                };
                assert!(allowed.contains(&suffix), "{line} is no sample of a {kind}");
                assert!(samples.insert(sample), "{sample} comes twice");
            }
        }
    }
    families
}

/// Every element that opens closes, in order.
fn well_formed(page: &str) {
    const VOID: [&str; 4] = ["meta", "br", "link", "!doctype"];
    let mut open: Vec<String> = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("an open tag: {tag}"));
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| !c.is_whitespace()).collect();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "{page}");
        } else if !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn the_page_takes_no_name_for_markup() {
    let hostile = "<script>alert('x')</script>\"&";
    let status = json!({
        "identity": hostile, "version": hostile, "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:00:00Z",
        "sync": { "failure": hostile, "refused": [{ "summary": hostile, "reason": hostile, "problems": [hostile, hostile] }],
            "inForce": { "source": hostile, "commit": hostile, "dirty": false, "digest": hostile } },
        "clusters": { hostile: {
            "mode": "enforce", "tenure": { "role": "standby", "holder": hostile }, "failures": { hostile: hostile },
            "nodes": { "managed": 1, "drifting": 1, "absent": 0, "unmanaged": 0 }, "differingLabels": 1,
            "drifting": [hostile], "failing": { hostile: hostile },
            "refusals": [{ "guard": "suspended", "message": hostile }],
            "fights": [{ "node": hostile, "key": hostile, "manager": hostile, "times": 3, "until": "2026-01-01T00:00:00Z" }],
        } },
        "checks": [{ "name": hostile, "ok": false, "detail": hostile }],
    });
    let status = serde_json::from_value(status).expect("a status");
    let page = drover::report::daemon_html(&status).expect("a page");
    assert!(!page.contains("<script>") && page.matches("&#60;script&#62;").count() >= 14, "{page}");
    well_formed(&page);
}

/// What the daemon holds in memory, in kB.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn slow_and_silent_clients_keep_nobody_else_waiting() {
    let plane = ControlPlane::start_named("slow");
    plane.create_nodes(["slow-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "slow-1", "{group: ads}").commit("ads");
    let daemon = followed.run(&[]);
    daemon.is_ready();
    let address = daemon.url().trim_start_matches("http://").to_owned();
    let before = memory(&daemon);
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            // Some say nothing at all, some never end their head.
            stream.write_all(if number % 2 == 0 { b"GET / HTTP/1.1\r\nX: " } else { b"" }).expect("written");
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(daemon.get("/readyz").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(memory(&daemon) < before + 30_000, "from {before} kB to {} kB", memory(&daemon));
    for stream in &mut slow[..2] {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server ends the connection");
    }
    // Whoever connects and says nothing does not keep the daemon from ending either.
    let _silent = TcpStream::connect(&address).expect("a connection");
    let begun = Instant::now();
    daemon.stop().expect(0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
