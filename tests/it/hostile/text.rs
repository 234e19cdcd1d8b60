//! Bytes: encodings, control characters, line ends.

use super::{LIMIT, MARK, NODE, Verdict, judge, with};
use crate::support::limit::drover_within;

#[test]
fn tabs_are_named_where_they_indent_and_allowed_where_they_do_not() {
    judge(&with(format!("{NODE}spec:\n\tgroup: ads\n"))).refused("yaml-syntax", "x.yaml", 5, "replace the tab");
    judge(&with(format!("{NODE}spec:\n  labels:\n  \track: r1\n"))).refused("yaml-syntax", "x.yaml", 6, "tab");
    judge(&with(format!("{NODE}spec:\t{{labels:\t{{rack:\tr1}}}}\t# a comment\n"))).accepted(1);
}

#[test]
fn a_byte_order_mark_and_line_ends_of_windows_are_no_problem() {
    judge(&with(format!("\u{feff}{NODE}"))).accepted(1);
    judge(&with(format!("{NODE}---\n{}", NODE.replace("n1", "n2")).replace('\n', "\r\n"))).accepted(2);
    judge(&with(NODE.replace('\n', "\r"))).accepted(1);
    let wrong = format!("\u{feff}{NODE}spec: {{grup: ads}}\n").replace('\n', "\r\n");
    judge(&with(wrong)).refused("unknown-field", "x.yaml", 4, "did you mean `group`?");
    judge(&with(format!("{NODE}spec: {{grup: ads}}\n").replace('\n', "\r"))).refused(
        "unknown-field",
        "x.yaml",
        4,
        "`group`",
    );
    let inside = judge(&with(format!("{NODE}---\n\u{feff}{}", NODE.replace("n1", "n2"))));
    assert!(inside.problems.len() <= 1, "{inside:#?}");
}

#[test]
fn encodings_other_than_utf_8_are_named() {
    let wide = |little: bool| -> Vec<u8> {
        let units = format!("\u{feff}{NODE}").encode_utf16().collect::<Vec<u16>>();
        units.iter().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    for text in [wide(true), wide(false)] {
        judge(&with(text)).refused("file-encoding", "x.yaml", 1, "the file is not UTF-8");
    }
    judge(&with([NODE.as_bytes(), b"# caf\xe9\n"].concat())).refused("file-encoding", "x.yaml", 4, "byte 0xe9");
    judge(&with(b"\xff\xff\xff\xff")).refused("file-encoding", "x.yaml", 1, "byte 0xff");
    judge(&with([NODE.as_bytes(), b"\xed\xa0\x80\n"].concat())).refused("file-encoding", "x.yaml", 4, "byte 0xed");
    judge(&with([NODE.as_bytes(), b"# cut short: \xe2\x82"].concat())).refused(
        "file-encoding",
        "x.yaml",
        4,
        "byte 0xe2",
    );
    let far = [vec![b'\n'; 100_000], vec![b'x'; 1 << 20], vec![0xff]].concat();
    judge(&with(far)).refused("file-encoding", "x.yaml", 100_001, "byte 0xff");
}

#[test]
fn characters_that_yaml_forbids_are_named() {
    for (text, line) in [
        (format!("{NODE}spec: {{group: a\0b}}\n"), 4),
        (format!("{NODE}spec: {{group: \"a\0b\"}}\n"), 4),
        (format!("{NODE}# a comment with \0 in it\nspec: [\n"), 4),
        ("\0".repeat(1_000), 1),
        (format!("{NODE}spec: {{group: a\u{1}b}}\n"), 4),
        (format!("{NODE}spec: {{group: \u{1b}[13;37mads}}\n"), 4),
        (format!("{NODE}spec: {{\u{1b}[13;37mgroup: ads}}\n"), 4),
        (format!("{NODE}spec: {{group: \u{7f}}}\n"), 4),
        (format!("{NODE}spec: {{group: \u{9b}2J}}\n"), 4),
        (format!("{NODE}spec: {{group: \u{fffe}}}\n"), 4),
        (format!("{NODE}spec: {{group: \u{202e}sda}}\n"), 4),
        (format!("{NODE}spec: {{group: ads\u{2028}}}\n"), 4),
        (format!("{NODE}spec: {{group: ads\u{85}}}\n"), 4),
        (format!("{NODE}spec: {{grup\u{200b}: ads}}\n"), 4),
    ] {
        let verdict = judge(&with(&text));
        assert!(!verdict.valid, "{text:?} is accepted");
        let found = verdict.problems[0]["line"].as_u64().expect("a line");
        assert!(found.abs_diff(line) <= 1, "{text:?}: {verdict:#?}");
    }
}

#[test]
fn escape_sequences_reach_no_terminal() {
    let colour = "\\e[13;37m\\x9b2J\\x07\\u202E";
    for text in [
        format!("{NODE}spec: {{group: \"{colour}\"}}\n"),
        format!("{NODE}spec: {{\"{colour}\": 1}}\n"),
        format!("{NODE}spec: {{labels: {{\"{colour}\": x}}}}\n"),
        format!("{NODE}spec: {{labels: {{rack: \"{colour}\"}}}}\n"),
        format!("{NODE}spec: {{workloads: [\"{colour}\"]}}\n"),
        format!("{NODE}spec: {{workloads: \"{colour}\"}}\n"),
        format!("{NODE}spec: {{shareable: \"{colour}\"}}\n"),
        format!("{NODE}spec: {{platform: [\"{colour}\"]}}\n"),
        format!("{NODE}spec: {{hold: {{until: \"{colour}\", owner: o, reason: r}}}}\n"),
        format!("apiVersion: \"{colour}\"\nkind: Node\n"),
        format!("apiVersion: drover.dev/v1\nkind: \"{colour}\"\n"),
        format!("apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: \"{colour}\", cluster: prod}}\n"),
        format!("apiVersion: drover.dev/v1\nkind: Node\nmetadata: {{name: n1, cluster: \"{colour}\"}}\n"),
        format!("\"{colour}\": 1\n\"{colour}\": 2\n"),
        format!("a: !<{colour}> b\n"),
        format!("# {}\na: [\n", "\u{1b}[13;37m\u{9b}2J\u{202e}"),
        format!("a: *{}\n", "\u{1b}[13;37m"),
    ] {
        let state = with(&text);
        let verdict = Verdict::read(&drover_within(LIMIT, state.root(), &["validate", "--format", "json"]));
        assert!(!verdict.valid, "{text:?} is accepted");
        for command in
            [&["validate"][..], &["validate", "--format", "json"], &["validate", "--format", "github"], &["plan"]]
        {
            let ran = drover_within(LIMIT, state.root(), &[&["--color", "always"], command].concat()).expect(1);
            super::is_fit_for_a_terminal(&ran, &verdict);
            let shown = ran.out + &ran.err;
            assert!(
                !shown.contains(&format!("\u{1b}{MARK}")) && !shown.contains('\u{9b}'),
                "{text:?} {command:?}: {shown:?}"
            );
            if command[command.len() - 1] != "json" {
                assert!(!shown.contains('\u{202e}'), "{text:?} {command:?}: {shown:?}");
            }
        }
    }
    // Where any text is allowed, it stays out of every report.
    let state =
        with(format!("{NODE}spec: {{hold: {{until: 2126-01-01, owner: \"{colour}\", reason: \"{colour}\"}}}}\n"));
    judge(&state).accepted(1);
    for command in
        [&["status"][..], &["explain", "n1"], &["explain", "n1", "--format", "json"], &["status", "--format", "json"]]
    {
        let ran = drover_within(LIMIT, state.root(), &[&["--color", "always"], command].concat());
        let shown = ran.out + &ran.err;
        assert!(
            !shown.contains(&format!("\u{1b}{MARK}")) && !shown.contains(['\u{9b}', '\u{7}']),
            "{command:?}: {shown:?}"
        );
    }
}
