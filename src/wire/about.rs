//! What an agent must know of the bus before it sends: how a reply to `about` looks on the wire.

use super::writer::Writer;
use crate::domain::{ConstitutionHash, Timestamp};

/// What holds for one tenant at the node that answers, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub node: String,
    /// By the node's clock.
    pub time: Timestamp,
    /// Those that messages may name.
    pub constitutions: Vec<ConstitutionHash>,
    /// Which of them messages should name.
    pub preferred: Option<ConstitutionHash>,
    /// By their names on the wire.
    pub limits: Vec<(&'static str, u64)>,
}

impl About {
    /// Of `docs/protocol.md`: messages of this schema are understood.
    pub const PROTOCOL: i128 = 1;
    /// Entries of its map.
    pub(super) const ENTRIES: usize = 5;
}

pub(super) fn write_about(w: &mut Writer, about: &About) {
    let About { node, time, constitutions, preferred, limits } = about;
    w.key("protocol");
    w.int(About::PROTOCOL);
    w.key("node");
    w.text(node);
    w.key("time");
    w.int(time.0.into());
    w.key("constitutions");
    w.list(constitutions.len());
    for hash in constitutions {
        w.map(2);
        w.key("hash");
        w.text(&hash.to_string());
        w.key("preferred");
        w.bool(Some(*hash) == *preferred);
        w.end_map();
    }
    w.end_list();
    w.key("limits");
    w.map(limits.len());
    for (name, limit) in limits {
        w.key(name);
        w.int((*limit).into());
    }
    w.end_map();
}
