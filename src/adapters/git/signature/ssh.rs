//! SSH signatures, and OpenSSH's file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS).

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use super::{Distrust, shown};
use crate::error::Failure;

/// What git signs under, so that a signature of another purpose cannot be passed off as a commit's.
pub(super) const NAMESPACE: &str = "git";

/// A line of the file.
pub(super) struct AllowedSigner {
    principals: String,
    key: PublicKey,
    namespaces: Option<String>,
    after: Option<i64>,
    before: Option<i64>,
}

/// Reads the file; a line that says something drover does not know is an error.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<AllowedSigner>, Failure> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|(index, line)| {
        parse_line(line).map_err(|why| {
            Failure::new(format!("{}:{}: {why}", path.display(), index + 1))
                .hint("a line is: PRINCIPALS [OPTIONS] KEY-TYPE KEY; see ALLOWED SIGNERS in ssh-keygen(1)")
        })
    });
    parsed.collect()
}

fn parse_line(line: &str) -> Result<AllowedSigner, String> {
    let (principals, rest) = field(line);
    let is_type =
        |word: &str| matches!(Algorithm::new(word), Ok(algorithm) if !matches!(algorithm, Algorithm::Other(_)));
    let (options, rest) = if is_type(field(rest).0) { ("", rest) } else { field(rest) };
    let (kind, rest) = field(rest);
    let (key, _comment) = field(rest);
    let key = PublicKey::from_openssh(&format!("{kind} {key}"))
        .map_err(|error| format!("the key of {} cannot be read: {error}", unquoted(principals)))?;
    let mut signer =
        AllowedSigner { principals: unquoted(principals), key, namespaces: None, after: None, before: None };
    let mut rest = options;
    while !rest.is_empty() {
        let (option, others) = split(rest, |c| c == ',');
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = unquoted(value);
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => signer.namespaces = Some(value),
            "valid-after" => signer.after = Some(moment(&value)?),
            "valid-before" => signer.before = Some(moment(&value)?),
            "cert-authority" => {
                return Err("certificate authorities are not supported: list the keys themselves".into());
            }
            _ => return Err(format!("{option:?} is neither an option nor a type of key that is known")),
        }
        rest = others;
    }
    Ok(signer)
}

/// The first word of a text, and what follows it.
fn field(text: &str) -> (&str, &str) {
    let (field, rest) = split(text.trim_start(), char::is_whitespace);
    (field, rest.trim_start())
}

/// A text up to a separator that is not in quotes, and what follows it.
fn split(text: &str, separates: impl Fn(char) -> bool) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if !quoted && separates(c) => return (&text[..index], &text[index + c.len_utf8()..]),
            _ => {}
        }
    }
    (text, "")
}

fn unquoted(text: &str) -> String {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).replace("\\\"", "\"")
}

/// `YYYYMMDD[HHMM[SS]]`, in the time zone of this machine unless `Z` follows.
fn moment(text: &str) -> Result<i64, String> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let whole = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        _ => digits.to_owned(),
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", &whole).and_then(|time| zone.to_timestamp(time));
    time.map(|time| time.as_second())
        .map_err(|_| format!("{text:?} is not a time: write it as 20261201Z or 202612010830Z"))
}

/// Who signed some data, if it is one of these.
pub(super) fn signer(allowed: &[AllowedSigner], signature: &str, data: &[u8], at: i64) -> Result<String, Distrust> {
    let signature = SshSig::from_pem(signature.trim())
        .map_err(|error| Distrust::bad(format!("its SSH signature cannot be read: {error}")))?;
    let key = signature.public_key();
    let shown_key = format!("the SSH key {}", key.fingerprint(HashAlg::Sha256));
    let mut refusal = Distrust::Foreign { signer: shown_key.clone() };
    for line in allowed.iter().filter(|line| line.key.key_data() == key) {
        let shown_key = format!("{shown_key} of {}", line.principals);
        line.key.verify(NAMESPACE, data, &signature).map_err(|error| match error {
            ssh_key::Error::Namespace => Distrust::bad(format!(
                "its signature by {shown_key} is not one for git, but for {:?}",
                signature.namespace()
            )),
            _ => Distrust::bad(format!("it is not what {shown_key} signed: it was changed afterwards")),
        })?;
        // The same key may have several lines; one that lets it sign is enough.
        match line.objection(at) {
            None => return Ok(shown_key),
            Some(objection) => refusal = Distrust::bad(format!("{shown_key}, which signed it, {objection}")),
        }
    }
    Err(refusal)
}

impl AllowedSigner {
    /// Why this line does not let its key sign commits at that time.
    fn objection(&self, at: i64) -> Option<String> {
        if let Some(namespaces) = self.namespaces.as_ref().filter(|namespaces| !lists(namespaces, NAMESPACE)) {
            return Some(format!("may sign for {namespaces}, not for git"));
        }
        if let Some(after) = self.after.filter(|after| at < *after) {
            return Some(format!("was not yet valid on {}: it is from {}", shown(at), shown(after)));
        }
        let before = self.before.filter(|before| at > *before)?;
        Some(format!("was no longer valid on {}: it had expired on {}", shown(at), shown(before)))
    }
}

/// Whether a word is in a list of patterns, as in ssh_config(5), PATTERNS.
fn lists(patterns: &str, word: &str) -> bool {
    let mut listed = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), word.as_bytes()) => return false,
            None if matches(pattern.as_bytes(), word.as_bytes()) => listed = true,
            _ => {}
        }
    }
    listed
}

fn matches(pattern: &[u8], word: &[u8]) -> bool {
    match (pattern.split_first(), word.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=word.len()).any(|skipped| matches(rest, &word[skipped..])),
        (Some((expected, pattern)), Some((found, word))) => {
            (*expected == b'?' || expected == found) && matches(pattern, word)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn lines_are_read_as_ssh_keygen_reads_them() {
        let text = format!(
            "# who\n\n ann@example.org,bob@example.org {KEY} a comment of words\n\
             \"ann of ops\" namespaces=\"git,file\",valid-after=\"20240101Z\",VALID-BEFORE=\"202501010830Z\" {KEY}\n"
        );
        let parsed = parse(Path::new("signers"), &text).expect("valid lines");
        assert_eq!(parsed[0].principals, "ann@example.org,bob@example.org");
        assert_eq!((&parsed[0].namespaces, parsed[0].after), (&None, None));
        assert_eq!((parsed[1].principals.as_str(), parsed[1].namespaces.as_deref()), ("ann of ops", Some("git,file")));
        assert_eq!((parsed[1].after, parsed[1].before), (Some(1_704_067_200), Some(1_735_720_200)));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for (line, says) in [
            (format!("ann cert-authority {KEY}"), "certificate authorities are not supported"),
            (format!("ann verify-required {KEY}"), "\"verify-required\" is neither an option nor a type of key"),
            (format!("ann valid-before=\"2024-01-01\" {KEY}"), "\"2024-01-01\" is not a time"),
            ("ann ssh-ed25519 AAAA".to_owned(), "the key of ann cannot be read"),
            ("ann".to_owned(), "the key of ann cannot be read"),
        ] {
            let error = parse(Path::new("signers"), &format!("\n{line}\n")).err().expect(&line).to_string();
            assert!(error.starts_with("signers:2: ") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn namespaces_are_patterns() {
        for (patterns, listed) in [
            ("git", true),
            ("file,git", true),
            ("g*", true),
            ("g?t", true),
            ("*,!git", false),
            ("file", false),
            ("", false),
        ] {
            assert_eq!(lists(patterns, "git"), listed, "{patterns}");
        }
    }
}
