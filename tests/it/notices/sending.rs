//! Messages on their way: signatures, retries, queues. Time is tokio's own and stands still while something happens.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drover::adapters::notify::Sender;
use drover::daemon::notices::{Counts, Notices};
use drover::error::Failure;
use drover::model::fleet::{Notification, NotificationForm};
use drover::model::{Notice, NoticeKind, Severity};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use tokio::time::Instant;

use super::receiver::{Answer, Message, OK, Receiver, notification};

fn notice(subject: &str) -> Notice {
    Notice {
        kind: NoticeKind::NodeAbsent,
        cluster: Some("prod".parse().expect("a name")),
        subject: subject.to_owned(),
        title: format!("{subject} left"),
        lines: Vec::new(),
        severity: Severity::Warning,
        at: "2026-11-24T03:04:05Z".parse().expect("a time"),
        resolved: false,
    }
}

async fn send(to: Notification) -> Result<(), Failure> {
    Sender::new().send(&Arc::new(to), json!({"title": "x"})).await
}

/// Waits, in real time, until something is so.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(10))).await.expect("it sleeps");
    }
    panic!("this never came to be: {what}");
}

fn with_secret(mut notification: Notification, folder: &Path, secret: &str) -> Notification {
    let file = folder.join("secret");
    fs::write(&file, secret).expect("written");
    notification.secret_file = Some(file.to_str().expect("UTF-8").parse().expect("a path"));
    notification
}

fn subjects(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.json()["subject"].as_str().expect("a subject").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_generic_message_is_signed_and_rotated_files_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Receiver::start(|_| OK), Receiver::start(|_| OK));
    let to = with_secret(old.notification(folder.path(), NotificationForm::Generic), folder.path(), "first\n");
    send(to.clone()).await.expect("sent");
    fs::write(to.url_file.as_str(), &new.url).expect("written");
    fs::write(folder.path().join("secret"), " second \n").expect("written");
    send(to).await.expect("sent");
    for (receiver, key) in [(old, "first"), (new, "second")] {
        let got = receiver.got();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].target, "/hook?key=TOP-SECRET");
        let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("a key").chain_update(&got[0].body);
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(got[0].headers["x-drover-signature-256"], format!("sha256={hex}"));
        assert_eq!(got[0].headers["content-type"], "application/json; charset=utf-8");
    }
}

#[tokio::test(start_paused = true)]
async fn a_feishu_message_is_signed_in_its_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|_| OK);
    let to = receiver.notification(folder.path(), NotificationForm::Feishu);
    send(to.clone()).await.expect("sent");
    send(with_secret(to, folder.path(), "key")).await.expect("sent");
    let (plain, signed) = (receiver.got()[0].json(), receiver.got()[1].json());
    assert!(plain.get("sign").is_none());
    assert!(signed["timestamp"].as_str().expect("text").parse::<i64>().expect("seconds") > 1_700_000_000);
    assert_eq!(signed["sign"].as_str().expect("text").len(), 44);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_is_tried_again_for_about_two_minutes() {
    let folder = tempfile::tempdir().expect("a folder");
    for trouble in [Answer::Status(503, "", ""), Answer::Status(429, "", ""), Answer::Hangup] {
        let again = trouble.clone();
        let back = Receiver::start(move |before| if before < 3 { again.clone() } else { OK });
        send(back.notification(folder.path(), NotificationForm::Slack)).await.expect("sent at last");
        assert_eq!(back.got().len(), 4);

        let gone = Receiver::start(move |_| trouble.clone());
        let began = Instant::now();
        let failure = send(gone.notification(folder.path(), NotificationForm::Slack)).await.expect_err("gone");
        assert_eq!(gone.got().len(), 5, "{failure}");
        assert!((60..240).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        assert!(!failure.to_string().contains("SECRET"), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_not_asked_before_the_time_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|before| match before {
        0 => Answer::Status(429, "retry-after: 100\r\n", ""),
        _ => OK,
    });
    let began = Instant::now();
    send(receiver.notification(folder.path(), NotificationForm::Slack)).await.expect("sent");
    assert!((100..110).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_help_is_not_tried_again() {
    use NotificationForm::{Feishu, Generic, Slack, Wecom};
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        (Slack, Answer::Status(404, "", "no_service"), "answered 404"),
        (Generic, Answer::Status(302, "location: http://127.0.0.1:1/\r\n", ""), "answered 302"),
        (Wecom, Answer::Status(200, "", r#"{"errcode": 93000, "errmsg": "invalid webhook url TOP-SECRET"}"#), "93000"),
        (Wecom, Answer::Status(200, "", "<html>TOP-SECRET"), "none of a robot"),
        (Wecom, Answer::Status(200, "", "{}"), "none of a robot"),
        (Feishu, Answer::Status(200, "", r#"{"code": 19021, "msg": "sign match fail"}"#), "19021"),
    ];
    for (form, answer, expected) in cases {
        let receiver = Receiver::start(move |_| answer.clone());
        let failure = send(receiver.notification(folder.path(), form)).await.expect_err("refused");
        assert_eq!(receiver.got().len(), 1);
        assert!(failure.to_string().contains(expected) && failure.advice().is_some(), "{failure:?}");
        assert!(failure.to_string().contains("127.0.0.1"), "{failure}");
        assert!(!format!("{failure:?}").contains("SECRET"), "{failure:?}");
    }
    let receiver = Receiver::start(|before| match before {
        0 => Answer::Status(200, "", r#"{"errcode": 45009, "errmsg": "api freq out of limit"}"#),
        _ => OK,
    });
    send(receiver.notification(folder.path(), Wecom)).await.expect("a robot that is told too much takes it later");
    let old = Receiver::start(|_| Answer::Status(200, "", r#"{"StatusCode": 0, "StatusMessage": "success"}"#));
    send(old.notification(folder.path(), Feishu)).await.expect("the answer of earlier times");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_speaks_no_tls_is_not_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|_| OK);
    let to = receiver.notification(folder.path(), NotificationForm::Generic);
    fs::write(to.url_file.as_str(), receiver.url.replace("http:", "https:")).expect("written");
    let failure = send(to).await.expect_err("no TLS");
    assert!(failure.to_string().starts_with("the generic webhook at 127.0.0.1 cannot be reached: "), "{failure}");
    assert!(receiver.got().is_empty() && !failure.to_string().contains("SECRET"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_file_without_an_address_says_so_and_keeps_its_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    let to = notification(&file, NotificationForm::Slack);
    assert!(send(to.clone()).await.expect_err("missing").to_string().contains("cannot read"));
    let contents = [
        "",
        "\n",
        "ftp://TOP-SECRET/",
        "TOP-SECRET",
        "http://",
        "https:///TOP-SECRET",
        "http://a/SECRET\nhttp://b/",
        "\u{0}",
    ];
    for content in contents {
        fs::write(&file, content).expect("written");
        let failure = send(to.clone()).await.expect_err("no address");
        assert!(failure.to_string().contains("url") && !format!("{failure:?}").contains("SECRET"), "{failure:?}");
    }
    fs::write(&file, "http://127.0.0.1:1/").expect("written");
    let failure = send(with_secret(to, folder.path(), "\n")).await.expect_err("an empty key");
    assert!(failure.to_string().contains("secret is empty"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn people_are_told_once_in_order_and_as_they_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (all, some) = (Receiver::start(|_| OK), Receiver::start(|_| OK));
    let to_all = all.notification(folder.path(), NotificationForm::Generic);
    let to_some = Notification {
        kinds: vec![NoticeKind::Fighting],
        ..some.notification(folder.path(), NotificationForm::Generic)
    };
    let notices = Notices::new();
    notices.tell(notice("nobody-hears"));
    notices.update_targets(vec![to_all.clone(), to_some]);
    for subject in ["a", "b", "a", "c", "b"] {
        notices.tell(notice(subject));
    }
    notices.tell(Notice { kind: NoticeKind::Fighting, ..notice("d") });
    notices.update_targets(vec![to_all]);
    notices.tell(Notice { kind: NoticeKind::Fighting, ..notice("e") });
    notices.tell(Notice { resolved: true, ..notice("a") });
    notices.tell(notice("nobody-hears"));
    notices.shut_down().await;
    assert_eq!(subjects(&all.got()), ["a", "b", "c", "d", "e", "a", "nobody-hears"]);
    assert_eq!(subjects(&some.got()), ["d"], "what it was told before it went is sent");
    assert_eq!(notices.counts()[&NotificationForm::Generic], Counts { sent: 8, failed: 0, dropped: 0 });
}

#[tokio::test]
async fn a_dead_receiver_delays_no_other_and_loses_the_oldest() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dead, alive) = (Receiver::start(|_| Answer::Silence), Receiver::start(|_| OK));
    let notices = Notices::new();
    notices.update_targets(vec![
        dead.notification(folder.path(), NotificationForm::Slack),
        alive.notification(folder.path(), NotificationForm::Generic),
    ]);
    notices.tell(notice("first"));
    eventually("the dead receiver has the first", || dead.got().len() == 1).await;
    for n in 0..300 {
        notices.tell(notice(&n.to_string()));
        if n % 100 == 0 {
            eventually("the other hears", || alive.got().len() == n + 2).await;
        }
    }
    eventually("the other hears all", || alive.got().len() == 301).await;
    assert_eq!(notices.counts()[&NotificationForm::Slack], Counts { sent: 0, failed: 0, dropped: 44 });

    let began = Instant::now();
    notices.shut_down().await;
    assert!((5..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(notices.counts()[&NotificationForm::Slack].dropped, 301);
    assert_eq!(notices.counts()[&NotificationForm::Generic], Counts { sent: 301, failed: 0, dropped: 0 });
    notices.tell(notice("after the end"));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_what_is_on_its_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|_| OK);
    let notices = Notices::new();
    notices.update_targets(vec![receiver.notification(folder.path(), NotificationForm::Wecom)]);
    for n in 0..20 {
        notices.tell(notice(&n.to_string()));
    }
    notices.shut_down().await;
    assert_eq!(receiver.got().len(), 20);
    assert_eq!(notices.counts()[&NotificationForm::Wecom].sent, 20);
}
