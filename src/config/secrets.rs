//! What of a server's URL may be shown?

/// One or several URLs without user, password and token. Where it cannot be told where a password ends,
/// too much is left out rather than too little.
pub fn without_secrets(urls: &str) -> String {
    let mut parts = urls.split("://");
    let first = parts.next().unwrap_or_default();
    // Before the first `://` stands a scheme; without any, an address.
    let mut shown = if urls.contains("://") { first.to_owned() } else { address(first) };
    for part in parts {
        shown.push_str("://");
        shown.push_str(&address(part));
    }
    shown
}

/// What stands after `://`, up to the next one.
fn address(part: &str) -> String {
    // fred reads `sentinelPassword=…` from the query.
    let kept = part.split_once('?').map(|(base, query)| {
        let query: Vec<_> = query.split('&').filter(|pair| !is_secret(pair)).collect();
        if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
    });
    let kept = kept.as_deref().unwrap_or(part);
    kept.rsplit_once('@').map_or(kept, |(_, address)| address).to_owned()
}

/// Whether a URL names a user, and whether it holds a password.
pub(super) fn user_and_password(url: &str) -> (bool, bool) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    // A password may hold a slash where it should not: then it ends at the last `@`.
    let authority = if authority.contains('@') { authority } else { rest };
    let Some((login, _)) = authority.rsplit_once('@') else { return (false, false) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    (!user.is_empty(), !password.is_empty())
}

fn is_secret(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().to_lowercase();
    ["user", "pass", "token"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn urls_are_shown_without_their_secrets() {
        for (urls, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://a:1,nats://b:2", "nats://a:1,nats://b:2"),
            ("a:4222", "a:4222"),
            ("user:hunter2@a:4222", "a:4222"),
            ("nats://user:hunter2@a:1,nats://hunter2@b:2, tls://c", "nats://a:1,nats://b:2, tls://c"),
            ("nats://a:1,user:hunter2@b:2", "nats://b:2"),
            ("redis://:hunter2@h:6379/2", "redis://h:6379/2"),
            ("redis://u:hunter2,hunter2/@?hunter2@h", "redis://h"),
            ("redis://h?a=b", "redis://h?a=b"),
            (
                "redis-sentinel://u:hunter2@h:1?node=i:2&sentinelUsername=hunter2&sentinelPassword=hunter2@h",
                "redis-sentinel://h:1?node=i:2",
            ),
            ("", ""),
        ] {
            assert_eq!(without_secrets(urls), shown, "{urls}");
        }
    }
}
