//! A machine's group is changed in the text of its file, in whatever style people wrote it, and nothing else is.

use std::sync::Arc;

use proptest::prelude::*;

use drover::manifest::decode::Manifest;
use drover::manifest::edit::{EditError, set_group};
use drover::manifest::parse;
use drover::model::{GroupName, NodeManifest};

const HEAD: &str = "apiVersion: drover.dev/v1\nkind: Node\nmetadata: {name: n, cluster: c}\n";

fn moved(text: &str, to: &str) -> Result<String, EditError> {
    let (cluster, node) = ("c".parse().expect("a name"), "n".parse().expect("a name"));
    set_group(&Arc::from("nodes.yaml"), text, (&cluster, &node), &to.parse().expect("a name"))
}

/// The manifest of node `n` in a text that validates.
fn node(text: &str) -> Arc<NodeManifest> {
    let parsed = parse(&"nodes.yaml".into(), text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:#?}\n{text}", parsed.problems);
    let nodes = parsed.documents.into_iter().filter_map(|document| match document.manifest {
        Manifest::Node(node) if node.metadata.name == "n" => Some(node),
        _ => None,
    });
    nodes.last().expect("the node")
}

#[test]
fn every_style_keeps_what_stands_around_the_value() {
    for (before, after) in [
        ("spec:\n  group: ads\n", "spec:\n  group: web\n"),
        (
            "spec:\n  group: ads  # why\t# and a tab\n  shareable: true",
            "spec:\n  group: web  # why\t# and a tab\n  shareable: true",
        ),
        ("spec:\n  group:   \"ads\"   # why\n", "spec:\n  group:   \"web\"   # why\n"),
        ("spec:\n  'group' : 'ads'\n", "spec:\n  'group' : 'web'\n"),
        ("spec: {group: ads, shareable: true} # why\n", "spec: {group: web, shareable: true} # why\n"),
        (
            "spec: {\n  group: ads, # why\n  shareable: true,\n}\n",
            "spec: {\n  group: web, # why\n  shareable: true,\n}\n",
        ),
        ("spec: {\"group\":\"ads\",\"shareable\":true}", "spec: {\"group\":\"web\",\"shareable\":true}"),
        (
            "spec:\n  group: |- # why\n    ads\n\n  shareable: true\n",
            "spec:\n  group: |- # why\n    web\n\n  shareable: true\n",
        ),
        ("spec:\n  group: >4-\n      ads\n", "spec:\n  group: >4-\n      web\n"),
        ("spec:\n  group: >-\n    ads", "spec:\n  group: >-\n    web"),
        ("spec:\n  group:\n    # why\n    ads # so\n", "spec:\n  group:\n    # why\n    web # so\n"),
        ("spec:\n  group: !!str ads\n", "spec:\n  group: !!str web\n"),
        ("spec:\n  group: \"a\\x64s\" # why\n", "spec:\n  group: \"web\" # why\n"),
        ("spec:\n  ? group\n  : ads # why\n", "spec:\n  ? group\n  : web # why\n"),
        ("spec: &s\n  group: &g ads\n", "spec: &s\n  group: &g web\n"),
        (
            "spec: !!map\n  shareable: true\n  group: ads\n...\n# behind\n",
            "spec: !!map\n  shareable: true\n  group: web\n...\n# behind\n",
        ),
        ("spec:\n  labels: {a: &v ads}\n  group: *v\n", "spec:\n  labels: {a: &v ads}\n  group: web\n"),
        // No group yet: null in any spelling, a line of its own, or a whole spec.
        ("spec:\n  group: # none\n  shareable: true\n", "spec:\n  group: web # none\n  shareable: true\n"),
        ("spec:\n  shareable: true\n  group:", "spec:\n  shareable: true\n  group: web"),
        ("spec:\n  group: ~ # none\n", "spec:\n  group: web # none\n"),
        ("spec: {group, shareable: true}\n", "spec: {group: web, shareable: true}\n"),
        ("spec: {\"group\": null}\n", "spec: {\"group\": \"web\"}\n"),
        (
            "spec: # c\n\n  # of the key below\n  shareable: true\n",
            "spec: # c\n  group: web\n\n  # of the key below\n  shareable: true\n",
        ),
        ("spec:\r\n    shareable: true\r\n", "spec:\r\n    group: web\r\n    shareable: true\r\n"),
        ("spec:\n  \"shareable\": true", "spec:\n  \"group\": \"web\"\n  \"shareable\": true"),
        ("spec: {shareable: true}", "spec: {group: web, shareable: true}"),
        ("spec: {\n  # why\n  shareable: true\n}\n", "spec: {\n  # why\n  group: web,\n  shareable: true\n}\n"),
        ("spec: {\"shareable\":true}\n", "spec: {\"group\": \"web\", \"shareable\":true}\n"),
        ("spec: {} # nothing\n", "spec: {group: web} # nothing\n"),
        ("# end\n", "spec: {group: web}\n# end\n"),
        ("", "spec: {group: web}\n"),
        ("...\n---\n# empty\n", "spec: {group: web}\n...\n---\n# empty\n"),
        // What a merge key brings is overruled by a value of its own.
        (
            "spec:\n  <<: {group: ads}\n  shareable: true\n",
            "spec:\n  group: web\n  <<: {group: ads}\n  shareable: true\n",
        ),
    ] {
        for begin in ["", "\u{feff}", "# é\n---\n"] {
            let text = |spec: &str| format!("{begin}{HEAD}{spec}");
            let edited = moved(&text(before), "web").unwrap_or_else(|error| panic!("{error}:\n{before}"));
            assert_eq!(edited, text(after), "{before}");
            let mut expected = NodeManifest::clone(&node(&text(before)));
            expected.spec.group = Some("web".parse().expect("a name"));
            assert_eq!(*node(&edited), expected, "{edited}");
        }
    }
}

#[test]
fn names_that_other_readers_take_for_numbers_or_switches_are_quoted() {
    for (to, written) in
        [("true", "\"true\""), ("on", "\"on\""), ("1e3", "\"1e3\""), ("2026-11-24", "\"2026-11-24\""), ("a1", "a1")]
    {
        assert_eq!(
            moved(&format!("{HEAD}spec: {{group: ads}}\n"), to).expect("an edit"),
            format!("{HEAD}spec: {{group: {written}}}\n")
        );
        assert_eq!(
            moved(&format!("{HEAD}spec:\n  group: |-\n    ads\n"), to).expect("an edit"),
            format!("{HEAD}spec:\n  group: |-\n    {to}\n")
        );
    }
}

#[test]
fn one_document_of_many_is_edited() {
    let other = |name: &str| HEAD.replace("name: n", &format!("name: {name}")) + "spec: {group: ads}\n";
    let elsewhere = HEAD.replace("cluster: c", "cluster: d") + "spec: {group: ads}\n";
    let text =
        |group: &str| format!("{}---\n{elsewhere}---\n{HEAD}spec: {{group: {group}}}\n---\n{}", other("m"), other("o"));
    assert_eq!(moved(&text("ads"), "web").expect("an edit"), text("web"));
}

#[test]
fn a_document_in_json_stays_json() {
    let text = "{\n  \"apiVersion\": \"drover.dev/v1\", \"kind\": \"Node\",\n  \"metadata\": {\"name\": \"n\", \"cluster\": \"c\"}\n}\n";
    let edited = moved(text, "web").expect("an edit");
    let json: serde_json::Value = serde_json::from_str(&edited).expect("JSON");
    assert_eq!(json["spec"]["group"], "web");
    let again = moved(&edited, "ads").expect("an edit");
    assert_eq!(again, edited.replace("\"web\"", "\"ads\""));
}

#[test]
fn what_cannot_be_changed_by_itself_is_refused() {
    for (text, says) in [
        (format!("{HEAD}spec:\n  group: &g ads\n  labels: {{a: *g}}\n"), "other values depend on it"),
        (format!("{HEAD}spec:\n  labels: {{a: b}}\n  devices: &d {{}}\n  <<: *d\n  grup: x\n"), "does not validate"),
        (HEAD.replace("name: n", "name: m"), "no document of node n in cluster c"),
        ("{".to_owned(), "does not validate"),
    ] {
        let error = moved(&text, "web").expect_err(&text).to_string();
        assert!(error.starts_with("nodes.yaml") && error.contains(says), "{error}");
    }
}

/// A value in some style, with whether a comment may follow on its line.
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "ads",
            "\"ads\"",
            "'ads'",
            "!!str ads",
            "&a ads",
            "~",
            "",
            "|-\n    ads",
            ">-\n    ads\n",
            "\n    # c\n    ads",
            "\"a\\x64s\"",
        ][..],
    )
    .prop_map(str::to_owned)
}

/// A spec in block style: entries in any order, with comments and blank lines between them.
fn spec() -> impl Strategy<Value = String> {
    let entries = prop::sample::subsequence(
        vec![
            "shareable: true",
            "devices: {cpu: true}",
            "workloads: [train]",
            "labels:\n    rack: 'r1'",
            "\"platform\": []",
        ],
        0..5,
    );
    let between = prop::collection::vec(
        prop::sample::select(&["", "\n", "  # about it\n", "# far left\n\n", "  #\ttab\n"][..]),
        6,
    );
    let comment = prop::sample::select(&["", " # why", "\t# tab"][..]);
    (entries.prop_shuffle(), prop::option::of(value()), any::<prop::sample::Index>(), between, comment).prop_map(
        |(entries, value, place, between, comment)| {
            let mut lines: Vec<String> = entries.into_iter().map(|entry| format!("  {entry}{comment}")).collect();
            if let Some(value) = value {
                let comment = if value.contains(['|', '>']) { "" } else { comment };
                lines.insert(place.index(lines.len() + 1), format!("  group: {value}{comment}"));
            }
            let body: String = lines.iter().zip(&between).map(|(line, between)| format!("{between}{line}\n")).collect();
            if lines.is_empty() { "spec: {}\n".to_owned() } else { format!("spec:{comment}\n{body}") }
        },
    )
}

proptest! {
    #[test]
    fn only_the_intended_bytes_change(
        spec in spec(),
        before in prop::sample::select(&["", "# head\n", "\u{feff}", "---\n"][..]),
        after in prop::sample::select(&["", "# tail\n", "...\n", "---\napiVersion: drover.dev/v1\nkind: Group\nmetadata: {name: web}\n"][..]),
        windows in any::<bool>(),
        cut in any::<bool>(),
        to in "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?",
    ) {
        let mut text = format!("{before}{HEAD}{spec}{after}");
        if cut {
            text.truncate(text.trim_end().len());
        }
        if windows {
            text = text.replace('\n', "\r\n");
        }
        let old = node(&text);
        let edited = moved(&text, &to).map_err(|error| TestCaseError::fail(format!("{error}:\n{text}")))?;
        let mut expected = NodeManifest::clone(&old);
        expected.spec.group = Some(to.parse::<GroupName>().expect("a name"));
        prop_assert_eq!(&*node(&edited), &expected, "{}", &edited);
        // What differs is in one place, and is no more than the value, or a new entry.
        let same = text.bytes().zip(edited.bytes()).take_while(|(a, b)| a == b).count();
        let rest = text.len().min(edited.len()) - same;
        let tail = text.bytes().rev().zip(edited.bytes().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let (gone, new) = (&text.as_bytes()[same..text.len() - tail], &edited.as_bytes()[same..edited.len() - tail]);
        prop_assert!(gone.len() <= "\"a\\x64s\"".len(), "{:?} is gone", String::from_utf8_lossy(gone));
        prop_assert!(new.len() <= to.len() + "\r\n  group: \"\"\r\n".len(), "{:?} is new", String::from_utf8_lossy(new));
        // A move and a move back give the same meaning.
        if let Some(group) = &old.spec.group {
            prop_assert_eq!(&node(&moved(&edited, group.as_str()).expect("an edit")), &old);
        }
    }

    #[test]
    fn no_text_makes_it_change_anything_else(text in "(apiVersion: drover.dev/v1\nkind: Node\nmetadata: \\{name: n, cluster: c\\}\nspec:)?[ a-z:{}\\[\\],#&*!|>'\"\n-]{0,60}") {
        // Whatever the text is, the edit is refused, or right.
        if let Ok(edited) = moved(&text, "web") {
            let node = node(&edited);
            prop_assert_eq!(node.spec.group.as_ref().map(GroupName::as_str), Some("web"));
        }
    }
}
