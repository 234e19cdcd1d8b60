//! Text as one word of bash.

/// The text as one word that bash takes literally, whatever stands in it. No word of bash can hold a NUL.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// Several texts as words.
pub(super) fn words<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| quote(text.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Text that is shown to people, without what a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A field of /etc/fstab.
pub(super) fn fstab(text: &str) -> String {
    text.chars().fold(String::new(), |field, c| match c {
        ' ' | '\t' | '\n' | '\\' | '#' => field + &format!("\\{:03o}", c as u32),
        _ => field + c.encode_utf8(&mut [0; 4]),
    })
}
