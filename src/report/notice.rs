//! Notices as the messages that webhooks take. What users wrote is text there: never markup, never a mention.

use serde_json::{Value, json};

use super::style::{clean, count};
use crate::model::fleet::NotificationForm;
use crate::model::{Notice, Severity};

/// Characters of a title or line; what is longer is cut. Even escaped, one line always fits into a message.
const LINE: usize = 300;
/// Characters that Slack takes in one section.
const SLACK_SECTION: usize = 3_000;
/// Bytes that WeCom takes as the content of a message.
const WECOM_CONTENT: usize = 4_096;
/// Bytes of lines in a card: Feishu takes 20 KiB of JSON, in which quotes count twice.
const FEISHU_LINES: usize = 9_000;

/// The JSON body that tells a notice in this form; Feishu's is not signed yet.
pub fn notice_body(form: NotificationForm, notice: &Notice) -> Value {
    match form {
        NotificationForm::Generic => json!(notice),
        NotificationForm::Slack => slack(notice),
        NotificationForm::Wecom => wecom(notice),
        NotificationForm::Feishu => feishu(notice),
    }
}

fn slack(notice: &Notice) -> Value {
    // Without `verbatim`, Slack would make links of what looks like a channel or a user.
    let text = |text: String| json!({"type": "mrkdwn", "verbatim": true, "text": text});
    let title = slack_text(&title(notice));
    let lines = fit(lines(notice).map(|line| format!("• {}\n", slack_text(&line))), SLACK_SECTION, |text| {
        text.chars().count()
    });
    let mut blocks = vec![json!({"type": "section", "text": text(format!("*{title}*"))})];
    if !lines.is_empty() {
        blocks.push(json!({"type": "section", "text": text(lines)}));
    }
    blocks.push(json!({"type": "context", "elements": [text(slack_text(&footer(notice)))]}));
    json!({"text": title, "blocks": blocks})
}

/// Text in which Slack finds no link, no mention and no entity. It has no escapes for what only changes the look.
fn slack_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn wecom(notice: &Notice) -> Value {
    let colour = match (notice.resolved, notice.severity) {
        (true, _) | (_, Severity::Info) => "info",
        (_, Severity::Warning | Severity::Critical) => "warning",
    };
    let title = format!("<font color=\"{colour}\">**{}**</font>\n", wecom_text(&title(notice)));
    let footer = format!("<font color=\"comment\">{}</font>", wecom_text(&footer(notice)));
    let room = WECOM_CONTENT - title.len() - footer.len();
    let lines = fit(lines(notice).map(|line| format!("> {}\n", wecom_text(&line))), room, str::len);
    json!({"msgtype": "markdown", "markdown": {"content": title + &lines + &footer}})
}

/// Text in which WeCom finds no markup and no mention. It documents no escapes, so that what would be markup is shown as
/// its full-width twin.
fn wecom_text(text: &str) -> String {
    const WIDER: u32 = '＊' as u32 - '*' as u32;
    let twin = |c: char| match c {
        '<' | '>' | '[' | ']' | '*' | '`' | '#' => char::from_u32(c as u32 + WIDER).unwrap_or(c),
        _ => c,
    };
    text.chars().map(twin).collect()
}

fn feishu(notice: &Notice) -> Value {
    // Nothing in a plain text is markup, `<at>` neither.
    let text = |text: &str| json!({"tag": "plain_text", "content": text});
    let colour = match (notice.resolved, notice.severity) {
        (true, _) => "green",
        (_, Severity::Info) => "blue",
        (_, Severity::Warning) => "orange",
        (_, Severity::Critical) => "red",
    };
    let lines = fit(lines(notice).map(|line| line + "\n"), FEISHU_LINES, str::len);
    let mut elements = Vec::new();
    if !lines.is_empty() {
        elements.push(json!({"tag": "div", "text": text(&lines)}));
    }
    elements.push(json!({"tag": "note", "elements": [text(&footer(notice))]}));
    json!({
        "msg_type": "interactive",
        "card": {"header": {"template": colour, "title": text(&title(notice))}, "elements": elements}
    })
}

fn title(notice: &Notice) -> String {
    let mark = match (notice.resolved, notice.severity) {
        (true, _) => "✅ resolved: ",
        (_, Severity::Info) => "",
        (_, Severity::Warning) => "⚠️ ",
        (_, Severity::Critical) => "🛑 ",
    };
    let cluster = notice.cluster.as_ref().map(|cluster| format!("{cluster}: ")).unwrap_or_default();
    format!("{mark}{cluster}{}", short(&notice.title))
}

fn lines(notice: &Notice) -> impl Iterator<Item = String> {
    notice.lines.iter().flat_map(|line| line.lines()).map(short)
}

fn footer(notice: &Notice) -> String {
    let time = notice.at.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("drover · {} · {time}", notice.kind.name())
}

fn short(text: &str) -> String {
    let cut = text.char_indices().nth(LINE).map(|(end, _)| format!("{}…", &text[..end]));
    clean(cut.as_deref().unwrap_or(text))
}

/// As many whole lines as fit into a limit that `size` measures; the others are counted.
fn fit(lines: impl Iterator<Item = String>, limit: usize, size: fn(&str) -> usize) -> String {
    const MORE: usize = 40;
    let (mut text, mut used, mut left_out) = (String::new(), MORE, 0);
    for line in lines {
        used += size(&line);
        if left_out > 0 || used > limit {
            left_out += 1;
        } else {
            text.push_str(&line);
        }
    }
    if left_out > 0 {
        text.push_str(&format!("… and {}\n", count(left_out, "more line")));
    }
    text
}
