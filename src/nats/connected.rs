//! Who is connected, as servers say it: answers about connections, and what they tell of accounts as it happens.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use serde::Deserialize;

use super::link::Link;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) account: String,
    /// The public key that it has logged in with.
    pub(super) key: String,
    /// Messages that it has written.
    pub(super) written: u64,
    /// When it was made, in microseconds since 1970.
    pub(super) since: u64,
}

impl Connected {
    /// No two have the same.
    pub(super) fn place(&self) -> (String, u64) {
        (self.link.server().to_owned(), self.link.client())
    }
}

/// What a server has seen of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Account {
    #[serde(rename = "acc")]
    pub(super) name: String,
    /// Connections to this server.
    #[serde(rename = "conns", default)]
    pub(super) connections: usize,
    #[serde(default)]
    pub(super) received: Received,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Received {
    #[serde(default)]
    pub(super) msgs: u64,
}

#[derive(Deserialize)]
struct Answer<T> {
    server: Server,
    data: T,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Connections {
    #[serde(default)]
    connections: Option<Vec<Connection>>,
}

#[derive(Deserialize)]
struct Connection {
    cid: u64,
    #[serde(default)]
    account: String,
    #[serde(default)]
    authorized_user: String,
    #[serde(default)]
    in_msgs: u64,
    #[serde(default)]
    start: String,
}

#[derive(Deserialize)]
struct Accounts {
    #[serde(default)]
    account_statz: Option<Vec<Account>>,
}

/// What a server tells when somebody connects.
#[derive(Deserialize)]
struct Came {
    server: Server,
    client: Client,
}

#[derive(Deserialize)]
struct Client {
    id: u64,
    #[serde(default)]
    acc: String,
    #[serde(default)]
    user: String,
}

/// The connections of an answer; none where it is none.
pub(super) fn connected(answer: &Bytes) -> Vec<Connected> {
    let Ok(Answer { server, data }) = serde_json::from_slice::<Answer<Connections>>(answer) else {
        return Vec::new();
    };
    let all = data.connections.unwrap_or_default().into_iter();
    let all = all.map(|Connection { cid, account, authorized_user, in_msgs, start }| Connected {
        link: Link::new(server.id.clone(), cid),
        account,
        key: authorized_user,
        written: in_msgs,
        since: micros(&start),
    });
    all.filter(|one| one.link.is_sound()).collect()
}

/// 0: it does not say.
fn micros(start: &str) -> u64 {
    let at = humantime::parse_rfc3339(start).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    at.and_then(|at| u64::try_from(at.as_micros()).ok()).unwrap_or_default()
}

/// The accounts of an answer, and which server it is.
pub(super) fn accounts(answer: &Bytes) -> Option<(String, Vec<Account>)> {
    let Answer { server, data } = serde_json::from_slice::<Answer<Accounts>>(answer).ok()?;
    Some((server.id, data.account_statz.unwrap_or_default()))
}

/// Which account has another number of connections now.
pub(super) fn changed(event: &Bytes) -> Option<Account> {
    serde_json::from_slice(event).ok()
}

/// Who has just connected: its connection, account and key.
pub(super) fn came(event: &Bytes) -> Option<(Link, String, String)> {
    let Came { server, client } = serde_json::from_slice(event).ok()?;
    let link = Link::new(server.id, client.id);
    link.is_sound().then_some((link, client.acc, client.user))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(json: &serde_json::Value) -> Bytes {
        json.to_string().into()
    }

    #[test]
    fn what_servers_say_is_read_and_what_is_no_answer_names_nobody() {
        let connections = json!([{ "cid": 7, "account": "acme", "authorized_user": "UA", "in_msgs": 9,
                                   "start": "1970-01-01T00:00:01.0000095Z" }, { "cid": 8 }]);
        let answer = bytes(&json!({ "server": { "id": "NA" }, "data": { "connections": connections } }));
        let all = connected(&answer);
        assert_eq!(all.len(), 2);
        assert_eq!(
            all.first().map(|one| (one.link.client(), one.written, one.since)),
            Some((7, 9, 1_000_009))
        );
        let statz = json!([{ "acc": "acme", "conns": 2, "received": { "msgs": 1000, "bytes": 5000 } }]);
        let answer = bytes(&json!({ "server": { "id": "NA" }, "data": { "account_statz": statz } }));
        let (server, all) = accounts(&answer).unwrap_or_default();
        let told = all.first().map(|one| (one.name.as_str(), one.connections, one.received.msgs));
        assert_eq!((server.as_str(), told), ("NA", Some(("acme", 2, 1000))));
        let event =
            bytes(&json!({ "server": { "id": "NA" }, "client": { "id": 7, "acc": "acme", "user": "UA" } }));
        let one = came(&event);
        assert_eq!(
            one.map(|(link, account, key)| (link.client(), account, key)),
            Some((7, "acme".into(), "UA".into()))
        );
        for nothing in
            [&b""[..], b"{\"error\":{}}", b"no JSON", b"{\"server\":{\"id\":\"N*\"},\"client\":{\"id\":1}}"]
        {
            let nothing = Bytes::from_static(nothing);
            assert!(connected(&nothing).is_empty() && accounts(&nothing).is_none());
            assert!(changed(&nothing).is_none() && came(&nothing).is_none());
        }
    }
}
