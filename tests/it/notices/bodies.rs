//! The messages of each form.

use drover::model::fleet::NotificationForm;
use drover::model::{Notice, NoticeKind, Severity};
use drover::report::notice_body;
use serde_json::Value;

const FORMS: [NotificationForm; 4] =
    [NotificationForm::Generic, NotificationForm::Slack, NotificationForm::Wecom, NotificationForm::Feishu];

fn refused() -> Notice {
    Notice {
        kind: NoticeKind::PlanRefused,
        cluster: Some("prod".parse().expect("a name")),
        subject: "below-guarantee".to_owned(),
        title: "the guard below-guarantee refuses the plan".to_owned(),
        lines: vec!["ads would have 2 of 3 nodes".to_owned(), "gpu-017: org ads → web".to_owned()],
        severity: Severity::Warning,
        at: "2026-11-24T03:04:05.678Z".parse().expect("a time"),
        resolved: false,
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

#[test]
fn each_form_has_its_message() {
    for form in FORMS {
        insta::assert_snapshot!(format!("notice-{}", form.name()), pretty(&notice_body(form, &refused())));
    }
}

#[test]
fn what_is_over_looks_so() {
    let over = Notice { resolved: true, cluster: None, lines: Vec::new(), severity: Severity::Critical, ..refused() };
    let all: Vec<_> = FORMS.map(|form| pretty(&notice_body(form, &over))).into();
    insta::assert_snapshot!("notice-resolved", all.join("\n"));
}

#[test]
fn what_users_wrote_is_text() {
    let wicked =
        "<!channel> <@all> <at user_id=\"all\">x</at> <at id=all></at> @all *b* `c` [l](http://x) & \u{1b}[31m\u{202e}";
    let notice =
        Notice { title: wicked.to_owned(), lines: vec![wicked.to_owned(), format!("a\n# {wicked}")], ..refused() };
    let all: Vec<_> = FORMS[1..].iter().map(|form| pretty(&notice_body(*form, &notice))).collect();
    insta::assert_snapshot!("notice-wicked", all.join("\n"));

    let slack = pretty(&notice_body(NotificationForm::Slack, &notice));
    assert!(!slack.contains('<') && !slack.contains("\"plain_text\""), "{slack}");
    let wecom = notice_body(NotificationForm::Wecom, &notice)["markdown"]["content"].to_string();
    assert!(!wecom.contains("<@") && !wecom.contains("]("), "{wecom}");
    let feishu = pretty(&notice_body(NotificationForm::Feishu, &notice));
    assert!(!feishu.contains("lark_md") && !feishu.contains("\"markdown\""), "{feishu}");
}

/// The length of the longest text in a message, as `size` measures it.
fn longest(value: &Value, size: fn(&str) -> usize) -> usize {
    match value {
        Value::String(text) => size(text),
        Value::Array(items) => items.iter().map(|item| longest(item, size)).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(|item| longest(item, size)).max().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn messages_keep_within_the_limits() {
    for long in ["<&>".repeat(5_000), "\u{1f4a5}节点".repeat(5_000), "\"\\".repeat(5_000), "\n".repeat(500)] {
        for lines in [1, 9, 500] {
            let lines = vec![long.clone(); lines];
            let notice = Notice { title: long.clone(), lines, ..refused() };
            let slack = notice_body(NotificationForm::Slack, &notice);
            assert!(longest(&slack, |text| text.chars().count()) <= 3_000);
            let wecom = notice_body(NotificationForm::Wecom, &notice);
            assert!(longest(&wecom, str::len) <= 4_096);
            assert!(notice_body(NotificationForm::Feishu, &notice).to_string().len() <= 20 << 10);
        }
    }
    let notice = Notice { lines: (0..500).map(|n| format!("gpu-{n:03}: org ads → web")).collect(), ..refused() };
    let text = notice_body(NotificationForm::Wecom, &notice)["markdown"]["content"].to_string();
    assert!(text.contains("> gpu-000:") && text.contains("more lines"), "{text}");
}

#[test]
fn the_generic_message_fits_its_schema() {
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/notice.schema.json"));
    let schema: Value = serde_json::from_str(&schema.expect("a schema")).expect("JSON");
    let body = notice_body(NotificationForm::Generic, &refused());
    jsonschema::validate(&schema, &body).expect("it fits");
    assert_eq!(serde_json::from_value::<Notice>(body).expect("it can be read again"), refused());
}
