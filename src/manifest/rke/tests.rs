use proptest::prelude::*;

use super::*;

const NEW: &str = "/data/k8s:/data/k8s:rslave";

fn to(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[expect(clippy::panic_in_result_fn, reason = "what it returns is what the file says, what it asserts is the law")]
fn set(text: &str, list: &[&str]) -> Result<String, RkeError> {
    let edited = set_binds(&"cluster.yml".into(), text, &to(list))?;
    assert_eq!(read(&"cluster.yml".into(), &edited).expect("a cluster.yml").binds, to(list), "{edited}");
    Ok(edited)
}

#[track_caller]
fn check(text: &str, list: &[&str], expected: &str) {
    assert_eq!(set(text, list).expect("an edit"), expected);
}

#[test]
fn a_list_of_lines_gets_one_more() {
    let text = "nodes: [] # none\nservices:\n  kubelet:\n    extra_args: {max-pods: 250}\n    extra_binds:\n    # the disk\n    - '/a:/a'   # first\n\n    - \"/b:/b\" # last\n\n  etcd:\n    x: 1\n";
    check(text, &["/a:/a", "/b:/b", NEW], &text.replace("# last\n", &format!("# last\n    - \"{NEW}\"\n")));
    let crlf = text.replace('\n', "\r\n");
    check(&crlf, &["/a:/a", "/b:/b", NEW], &crlf.replace("# last\r\n", &format!("# last\r\n    - \"{NEW}\"\r\n")));
    check(text, &["/a:/a:ro", "/b:/b"], &text.replace("'/a:/a'", "'/a:/a:ro'"));
    check(text, &["/b:/b"], &text.replace("    - '/a:/a'   # first\n", ""));
    check(
        text,
        &[],
        "nodes: [] # none\nservices:\n  kubelet:\n    extra_args: {max-pods: 250}\n    extra_binds: []\n    # the disk\n\n\n  etcd:\n    x: 1\n",
    );
    check(
        "nodes: []\nservices: {kubelet: {extra_binds: [/a:/a]}}",
        &["/a:/a", "/b:/b:ro,z"],
        "nodes: []\nservices: {kubelet: {extra_binds: [/a:/a, \"/b:/b:ro,z\"]}}",
    );
    check(
        "nodes: []\nservices:\n  kubelet:\n    extra_binds:\n      - /a:/a",
        &["/a:/a", "/b:/b:ro,z"],
        "nodes: []\nservices:\n  kubelet:\n    extra_binds:\n      - /a:/a\n      - /b:/b:ro,z",
    );
}

#[test]
fn what_is_missing_is_made() {
    let lines = format!("  kubelet:\n    extra_binds:\n      - {NEW}\n");
    check("nodes: []\n", &[NEW], &format!("nodes: []\nservices:\n{lines}"));
    check(
        "nodes: []\nservices:\n  # the store\n  etcd: {}\n",
        &[NEW],
        &format!("nodes: []\nservices:\n  # the store\n{lines}  etcd: {{}}\n"),
    );
    check("nodes: []\nservices: # all\nx: 1\n", &[NEW], &format!("nodes: []\nservices: # all\n{lines}x: 1\n"));
    check(
        "nodes: []\nservices:\n  kubelet:\n  etcd: {}\n",
        &[NEW],
        &format!("nodes: []\nservices:\n{lines}  etcd: {{}}\n"),
    );
    check(
        "nodes: []\nservices:\n  kubelet:\n    fail_swap_on: false\n",
        &[NEW],
        &format!("nodes: []\nservices:\n  kubelet:\n    extra_binds:\n      - {NEW}\n    fail_swap_on: false\n"),
    );
    check(
        "nodes: []\nservices:\n  kubelet: {fail_swap_on: false}\n",
        &[NEW],
        &format!("nodes: []\nservices:\n  kubelet: {{extra_binds: [{NEW}], fail_swap_on: false}}\n"),
    );
    check(
        "nodes: []\nservices:\n  kubelet:\n    extra_binds: ~\n",
        &[NEW],
        &format!("nodes: []\nservices:\n  kubelet:\n    extra_binds: [{NEW}]\n"),
    );
    check(
        "nodes: []\nservices: {}\n",
        &[NEW],
        &format!("nodes: []\nservices: {{kubelet: {{extra_binds: [{NEW}]}}}}\n"),
    );
    let json = "{\n  \"nodes\": [],\n  \"services\": {\"kubelet\": {}}\n}\n";
    check(json, &[NEW], &json.replace("{}", &format!("{{extra_binds: [{NEW}]}}")));
}

#[test]
fn what_depends_on_the_list_is_never_changed_along_with_it() {
    for text in [
        "nodes: []\nx: &b [/a:/a]\nservices: {kubelet: {extra_binds: *b}}\n",
        "nodes: []\nservices: {kubelet: {extra_binds: &b [/a:/a]}}\nx: *b\n",
        "nodes: []\nservices:\n  kubelet:\n    extra_binds: &b\n    - /a:/a\nx: *b\n",
        "nodes: []\nk: &k {extra_binds: [/a:/a]}\nservices: {kubelet: *k}\n",
        "nodes: []\nservices: {kubelet: {extra_binds: [/a:/a # c\n  , /b:/b]}}\n",
    ] {
        let before = text.to_owned();
        match set(text, &[NEW]) {
            Err(RkeError::Tied { .. }) => {}
            other => panic!("{before}: {other:?}"),
        }
    }
}

#[test]
fn only_a_cluster_yml_is_read_and_nothing_of_it_is_quoted() {
    let name: Arc<str> = "cluster.yml".into();
    for text in [
        "",
        "a: 1",
        "root:x:0:0:secret",
        "nodes: secret\n",
        "nodes: [\nsecret",
        "nodes: []\nservices: {kubelet: {extra_binds: secret}}\n",
        "nodes: []\n---\nnodes: []\n",
    ] {
        let error = read(&name, text).expect_err(text).to_string();
        assert!(error.contains("cluster.yml") && !error.contains("secret"), "{error}");
    }
    let config = read(
        &name,
        "nodes: []\nupgrade_strategy: {max_unavailable_worker: 20%}\nservices: {kubelet: {extraBinds: [/a:/a]}}\n",
    );
    let config = config.expect("a cluster.yml");
    assert_eq!((config.binds.len(), config.max_unavailable_worker.as_deref()), (0, Some("20%")));
    assert!(config.notes[0].contains("extra_binds"), "{config:?}");
}

fn bind() -> impl Strategy<Value = String> {
    ("/[a-z]{1,3}( [a-z#']{1,2})?", prop_oneof![Just(""), Just(":ro"), Just(":rslave,z")])
        .prop_map(|(path, options)| format!("{path}:{path}{options}"))
}

/// A cluster.yml in some style, with these binds.
fn styled(binds: &[String], style: u8, quote: u8, crlf: bool, tail: bool) -> String {
    let quote = [' ', '\'', '"'][quote as usize % 3];
    let flow: Vec<String> = binds.iter().map(|bind| scalar(bind, quote, true)).collect();
    let block = |indentation: &str| -> String {
        binds
            .iter()
            .enumerate()
            .map(|(index, bind)| format!("{indentation}- {} # bind {index}\n", scalar(bind, quote, false)))
            .collect()
    };
    let list = match style % 5 {
        _ if binds.is_empty() => " []\n".to_owned(),
        0 => format!("\n{}", block("    ")),
        1 => format!(" # all of them\n\n      # one\n{}", block("      ")),
        2 => format!(" [{}]\n", flow.join(", ")),
        3 => format!(" [\n      {}\n    ]\n", flow.join(",\n      ")),
        _ => format!(" [ {} ] # end\n", flow.join(" , ")),
    };
    let after = if tail {
        "    fail_swap_on: false # keep\n  etcd: {snapshot: true}\nprivate_registries: [{password: 'p#w'}]\n"
    } else {
        ""
    };
    let text = format!(
        "# our cluster\nnodes:\n- {{address: 10.0.0.1, role: [worker]}}\nservices:\n  kubelet:\n    cluster_domain: x # y\n    extra_binds:{list}{after}"
    );
    if crlf { text.replace('\n', "\r\n") } else { text }
}

/// The lines that hold no bind; of the line with the list its key.
fn others(text: &str) -> Vec<String> {
    let key = "    extra_binds:";
    let lines = text.lines().map(|line| if line.starts_with(key) { key } else { line });
    lines.filter(|line| !line.contains(":/") && !matches!(line.trim(), "]" | "")).map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn only_the_list_changes_whatever_the_style(
        (binds, new) in (proptest::collection::vec(bind(), 0..5), proptest::collection::vec(bind(), 0..3)),
        keep in any::<u8>(), options in any::<u8>(), style in any::<u8>(), quote in any::<u8>(), crlf in any::<bool>(), tail in any::<bool>(),
    ) {
        let mut seen = std::collections::BTreeSet::new();
        let unique = |bind: &String| BindParts::of(bind).destination.to_owned();
        let binds: Vec<String> = binds.into_iter().filter(|bind| seen.insert(unique(bind))).collect();
        let new: Vec<String> = new.into_iter().filter(|bind| seen.insert(unique(bind))).collect();
        let text = styled(&binds, style, quote, crlf, tail);
        let name: Arc<str> = "cluster.yml".into();
        let kept = binds.iter().enumerate().filter(|(index, _)| keep >> index & 1 == 1).map(|(index, bind)| match options >> index & 1 {
            1 => format!("{}:{}:rshared", BindParts::of(bind).source, BindParts::of(bind).destination),
            _ => bind.clone(),
        });
        let wanted: Vec<String> = kept.chain(new).collect();
        match set_binds(&name, &text, &wanted) {
            Ok(edited) => {
                prop_assert_eq!(&read(&name, &edited).expect("a cluster.yml").binds, &wanted);
                prop_assert_eq!(set_binds(&name, &edited, &wanted).expect("no edit"), edited.clone(), "twice is once");
                // Every line that is no bind is still there, in its order.
                let (before, after) = (others(&text), others(&edited));
                prop_assert_eq!(before, after);
                prop_assert_eq!(edited.matches("\r\n").count() == edited.matches('\n').count(), crlf);
            }
            Err(error) => {
                let is_refusal = matches!(error, RkeError::Tied { .. });
                prop_assert!(is_refusal && style % 5 > 1, "{}", error);
            }
        }
    }
}
