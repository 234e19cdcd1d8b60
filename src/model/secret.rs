//! Secrets that somebody wrote where everybody reads: found by how they look.

/// Options and assignments whose value is a secret.
const NAMES: [&str; 9] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "pass",
    "bootstrap-token",
    "discovery-token",
    "tls-bootstrap-token",
];

/// The first part of a text that looks like a token or a password, rather than like what stands for one.
pub fn literal(text: &str) -> Option<&str> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || "'\"`;|&()<>,".contains(c)).filter(|word| !word.is_empty()).collect();
    words.iter().enumerate().find_map(|(index, word)| {
        let before = index.checked_sub(1).map(|index| words[index]);
        named(word, before).or_else(|| in_address(word)).or_else(|| by_its_look(word, before))
    })
}

/// The value of an option or variable that is called like a secret.
fn named<'t>(word: &'t str, before: Option<&str>) -> Option<&'t str> {
    let is_secret = |name: &str| {
        let name = name.trim_start_matches('-').to_ascii_lowercase();
        NAMES
            .iter()
            .any(|known| name == *known || name.ends_with(&format!("_{known}")) || name.ends_with(&format!("-{known}")))
    };
    let value = match word.split_once(['=', ':']) {
        Some((name, value)) if is_secret(name) => value,
        _ if before.is_some_and(|before| {
            (before.starts_with("--") || before.ends_with([':', '='])) && is_secret(before.trim_end_matches([':', '=']))
        }) =>
        {
            word
        }
        _ => return None,
    };
    let stands_for_one = value.is_empty() || value.starts_with(['$', '{', '-', '/', '<']);
    (!stands_for_one).then_some(value)
}

/// The password in an address.
fn in_address(word: &str) -> Option<&str> {
    let (_, rest) = word.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty() && !password.starts_with(['$', '{'])).then_some(password)
}

/// A word that nobody would write by hand: tokens of kubeadm, K3s, RKE2 and Rancher, and signed ones.
fn by_its_look<'t>(word: &'t str, before: Option<&str>) -> Option<&'t str> {
    let word = word.rsplit('=').next().filter(|last| !last.is_empty()).unwrap_or(word);
    let plain = |text: &str, length: usize| {
        text.len() == length && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let kubeadm = word.split_once('.').is_some_and(|(id, secret)| plain(id, 6) && plain(secret, 16));
    let k3s = word.starts_with("K10") && word.contains("::");
    let signed = word.starts_with("eyJ") && word.matches('.').count() >= 2;
    // The hash of a certificate is no secret.
    let hash = word.starts_with("sha256:")
        || before.is_some_and(|before| before.contains("checksum") || before.contains("hash"));
    let mixed = word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_alphabetic());
    let random =
        !hash && word.len() >= 40 && mixed && word.chars().all(|c| c.is_ascii_alphanumeric() || "+_=".contains(c));
    (kubeadm || k3s || signed || random).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::literal;

    const RANDOM: &str = "w7kqj2v9x4c8m5n6b3z1l0p2o9i8u7y6t5r4e3w2q1a9s8d7f6g5h4";

    #[test]
    fn tokens_are_found_and_what_stands_for_them_is_not() {
        for (text, found) in [
            ("kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef", "abcdef.0123456789abcdef"),
            ("kubeadm join 10.0.0.1:6443 --token=short", "short"),
            ("curl -sfL https://get.rke2.io | RKE2_TOKEN=hello sh -", "hello"),
            ("x --server https://r K10ab::server:cd", "K10ab::server:cd"),
            (&format!("sh -s - --node {RANDOM}"), RANDOM),
            ("redis://:hunter2@10.0.0.1/1", "hunter2"),
            ("secret=AQBx", "AQBx"),
            ("echo eyJhbGci.eyJz.sig", "eyJhbGci.eyJz.sig"),
        ] {
            assert_eq!(literal(text), Some(found), "{text}");
        }
        let hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for text in [
            "kubeadm join 10.0.0.1:6443 --token {token} --discovery-token-ca-cert-hash sha256:".to_owned() + hash,
            format!("curl -fL https://rancher.example.org/system-agent-install.sh | sh -s - --token '{{token}}' --ca-checksum {hash} --worker"),
            "RKE2_TOKEN=\"$TOKEN\" sh -".to_owned(),
            "cat /etc/drover/join-token".to_owned(),
            "secretfile=/etc/ceph/secret".to_owned(),
            "ssh cp-01 kubeadm token create --ttl 30m".to_owned(),
            "docker run -d --privileged rancher/rancher-agent:v2.8.5 --server https://r.example.org --token {token} --worker".to_owned(),
        ] {
            assert_eq!(literal(&text), None, "{text}");
        }
    }
}
