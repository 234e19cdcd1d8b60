//! Healing with manners: fights are left alone, windows and suspensions are kept, and each ends by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::{Followed, carries, label, tamper};
use crate::support::control_plane::{ControlPlane, MERGE_PATCH, NodeSpec, Role, eventually};
use crate::support::daemon::Daemon;

/// Longer than a minute, the grain of a schedule.
const MINUTES: Duration = Duration::from_secs(150);

/// A moment this many seconds from now, as a document writes it.
fn in_seconds(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Adds to the spec of the cluster.
fn spec(followed: &Followed, line: &str, message: &str) {
    followed.state.edit("state/clusters/prod.yaml", "spec:\n", &format!("spec:\n  {line}\n")).commit(message);
}

fn held_back_by(daemon: &Daemon, guard: &str) -> Value {
    let status = daemon.comes_to(&format!("held back by {guard}"), |status| refusal(status, guard).is_some());
    refusal(&status, guard).expect("it was there").clone()
}

fn refusal<'s>(status: &'s Value, guard: &str) -> Option<&'s Value> {
    status["clusters"]["prod"]["refusals"].as_array()?.iter().find(|refusal| refusal["guard"] == guard)
}

/// Sets the label back whenever drover has mended it, as another controller would, until drover gives up.
fn fight(plane: &ControlPlane, daemon: &Daemon, manager: &str) -> usize {
    let mut times = 0;
    loop {
        let path = format!("/api/v1/nodes/fight-1?fieldManager={manager}");
        let body = json!({ "metadata": { "labels": { "org": "rec" } } });
        plane.request(Role::Admin, "PATCH", &path, Some((MERGE_PATCH, &body))).accepted(&path);
        times += 1;
        let healed = eventually("healed or given up", MINUTES, || {
            let fights = daemon.status()["clusters"]["prod"]["fights"].as_array().map_or(0, Vec::len);
            match (label(plane, "fight-1", "org").as_deref(), fights) {
                (Some("ads"), _) => Ok(true),
                (_, 1) => Ok(false),
                _ => Err("neither".to_owned()),
            }
        });
        if !healed {
            return times;
        }
    }
}

#[test]
fn a_label_that_is_fought_over_is_left_alone_and_tried_again() {
    let plane = ControlPlane::start_named("fought");
    plane.create_nodes(["fight-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "fight-1", "{group: ads, labels: {rack: r1}}").commit("ads");
    let daemon = followed.run(&["--fight-times", "3", "--fight-rest", "15s"]);
    carries(&plane, "fight-1", "org", Some("ads"));

    let times = fight(&plane, &daemon, "label-sync");
    assert!((3..=4).contains(&times), "changed back {times} times");
    let fights = daemon.status()["clusters"]["prod"]["fights"].clone();
    let named =
        (&fights[0]["node"], &fights[0]["key"], &fights[0]["manager"], &fights[0]["wanted"], &fights[0]["found"]);
    assert_eq!(
        named,
        (&json!("fight-1"), &json!("org"), &json!("label-sync"), &json!("ads"), &json!("rec")),
        "{fights}"
    );
    assert_eq!(daemon.metric("drover_fights{cluster=\"prod\"}"), Some(1.0));
    let said = daemon.said();
    assert!(said.contains("label-sync changed org back 3 times (state asks for ads, found rec)"), "{said}");

    // Other labels of the node are healed all the same.
    tamper(&plane, "fight-1", "rack", &json!("r9"));
    carries(&plane, "fight-1", "rack", Some("r1"));
    assert_eq!(label(&plane, "fight-1", "org").as_deref(), Some("rec"), "drover rests");
    eventually("kubectl describe tells", MINUTES, || {
        let described = plane.kubectl(["describe", "node", "fight-1"]);
        if described.contains("Fighting") && described.contains("label-sync") { Ok(()) } else { Err(described) }
    });

    // After the rest it goes on by itself.
    carries(&plane, "fight-1", "org", Some("ads"));
    daemon.comes_to("nothing is fought over", |status| status["clusters"]["prod"]["fights"] == json!([]));
}

#[test]
fn a_fight_is_fought_where_the_state_says_so() {
    let plane = ControlPlane::start_named("lifted");
    plane.create_nodes(["fight-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "fight-1", "{group: ads}").commit("ads");
    let daemon = followed.run(&["--fight-times", "2", "--fight-rest", "1h"]);
    carries(&plane, "fight-1", "org", Some("ads"));
    fight(&plane, &daemon, "label-sync");

    spec(&followed, "allow: [{guard: fighting, until: 2099-01-01, owner: ann, reason: ours}]", "fight on");
    carries(&plane, "fight-1", "org", Some("ads"));
    for _ in 0..4 {
        tamper(&plane, "fight-1", "org", &json!("rec"));
        carries(&plane, "fight-1", "org", Some("ads"));
    }
    assert_eq!(daemon.status()["clusters"]["prod"]["fights"], json!([]));
}

#[test]
fn a_change_waits_for_its_window_and_is_made_when_it_opens() {
    let plane = ControlPlane::start_named("windows");
    plane.create_nodes(["window-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    // The next full minute that is not too near.
    let opens = Timestamp::now() + SignedDuration::from_secs(80);
    let opens = opens.to_zoned(jiff::tz::TimeZone::UTC);
    let schedule = format!("{} {} * * *", opens.minute(), opens.hour());
    let never = "{schedule: \"0 0 29 2 *\", duration: 1h}";
    let windows = format!("windows: [{never}, {{schedule: \"{schedule}\", duration: 1h}}]");
    followed.state.node("prod", "window-1", "{group: ads}");
    spec(&followed, &windows, "ads, within a window");

    // Whoever applies by hand is held back too, and may decide otherwise for this once.
    let plan = followed.state.drover(&["plan"]).expect(3);
    assert!(plan.out.contains("refused by outside-window: no maintenance window is open"), "{}", plan.out);
    followed.state.drover(&["apply", "--yes"]).expect(3);
    followed.state.drover(&["plan", "--allow", "outside-window"]).expect(0);

    let daemon = followed.run(&["--poll", "1h"]);
    let refusal = held_back_by(&daemon, "outside-window");
    let opening = opens.strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    assert!(refusal["message"].as_str().is_some_and(|message| message.contains(&opening)), "{refusal}");
    daemon.is_ready();
    assert_eq!(label(&plane, "window-1", "org"), None);
    assert!(Timestamp::now() < opening.parse::<Timestamp>().expect("a time"), "the machine is too slow for this test");

    // Nothing happens but that time passes.
    eventually("the window opens and the change is made", MINUTES, || {
        let live = label(&plane, "window-1", "org");
        if live.as_deref() == Some("ads") { Ok(()) } else { Err(format!("{live:?} at {}", Timestamp::now())) }
    });
    assert!(Timestamp::now() >= opening.parse::<Timestamp>().expect("a time"));
    daemon.comes_to("nothing is held back", |status| status["clusters"]["prod"]["refusals"] == json!([]));
}

#[test]
fn a_suspension_holds_and_ends_by_itself() {
    let plane = ControlPlane::start_named("suspended");
    plane.create_nodes(["hold-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "hold-1", "{group: ads}").commit("ads");
    let daemon = followed.run(&[]);
    carries(&plane, "hold-1", "org", Some("ads"));

    spec(&followed, "suspend: {until: 2099-01-01, owner: ops@example.org, reason: audit}", "suspended");
    daemon.comes_to("it follows", |status| {
        status["sync"]["inForce"]["commit"] == followed.state.git(&["rev-parse", "HEAD"])
    });
    tamper(&plane, "hold-1", "org", &json!("rec"));
    let refusal = held_back_by(&daemon, "suspended");
    let said = refusal["message"].as_str().expect("a message");
    assert_eq!(said, "the cluster is suspended by ops@example.org until 2099-01-01: audit");
    let plan = followed.state.drover(&["plan"]).expect(3);
    assert!(plan.out.contains(&format!("refused by suspended: {said}")), "{}", plan.out);

    // The whole fleet for a short while instead; it ends without an event.
    followed.state.edit(
        "state/clusters/prod.yaml",
        "  suspend: {until: 2099-01-01, owner: ops@example.org, reason: audit}\n",
        "",
    );
    let until = in_seconds(12);
    let fleet = format!(
        "apiVersion: drover.dev/v1\nkind: Fleet\nmetadata: {{name: fleet}}\nspec: {{suspend: {{until: {until}, owner: ann, reason: move}}}}\n"
    );
    followed.state.write("state/fleet.yaml", fleet).commit("the fleet is suspended");
    daemon.comes_to("the fleet is suspended", |status| {
        refusal_says(status, "suspended", &format!("the whole fleet is suspended by ann until {until}: move"))
    });
    carries(&plane, "hold-1", "org", Some("ads"));
    assert!(Timestamp::now() >= until.parse::<Timestamp>().expect("a time"), "it ended too early");
    let warned = followed.state.drover(&["validate"]).expect(0);
    assert!(warned.out.contains("suspend") && warned.out.contains("warning"), "{}\n{}", warned.out, warned.err);
}

fn refusal_says(status: &Value, guard: &str, text: &str) -> bool {
    refusal(status, guard).is_some_and(|refusal| refusal["message"] == text)
}

#[test]
fn an_allowance_that_ends_holds_back_from_then_on() {
    let plane = ControlPlane::start_named("allowance");
    plane.create_nodes(["allow-1"].map(NodeSpec::new));
    let followed = Followed::of(&plane);
    followed.state.node("prod", "allow-1", "{group: ads}");
    let until = in_seconds(25);
    let allow = format!("allow: [{{guard: outside-window, until: {until}, owner: ann, reason: now}}]");
    spec(
        &followed,
        &format!("windows: [{{schedule: \"0 0 29 2 *\", duration: 1h}}]\n  {allow}"),
        "closed, and allowed",
    );
    let daemon = followed.run(&["--poll", "1h"]);
    carries(&plane, "allow-1", "org", Some("ads"));
    tamper(&plane, "allow-1", "org", &json!("rec"));
    carries(&plane, "allow-1", "org", Some("ads"));
    assert!(Timestamp::now() < until.parse::<Timestamp>().expect("a time"), "the machine is too slow for this test");

    eventually("the allowance ends", MINUTES, || {
        let now = Timestamp::now();
        if now > until.parse::<Timestamp>().expect("a time") { Ok(()) } else { Err(now.to_string()) }
    });
    tamper(&plane, "allow-1", "org", &json!("rec"));
    let refusal = held_back_by(&daemon, "outside-window");
    assert_eq!(refusal.get("allowed"), None, "{refusal}");
    let message = refusal["message"].as_str().expect("a message");
    assert!(message.starts_with("no maintenance window is open; the next one opens at "), "{message}");
    assert!(message.ends_with("-02-29T00:00:00Z"), "{message}");
    assert_eq!(label(&plane, "allow-1", "org").as_deref(), Some("rec"));
}
