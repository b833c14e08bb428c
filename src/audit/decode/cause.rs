//! How is what led to a message read back?

use super::facts::each;
use crate::{
    domain::{Cause, Conversation, Link},
    wire::{
        fields::{count, map, once, required, word},
        reader::{Read, Reader, skip},
    },
};

pub(super) fn cause<'a, R: Reader<'a>>(r: &mut R, name: &'static str) -> Read<Cause> {
    let (mut conversation, mut hops, mut chain) = (None, None, None);
    let mut of = map(r, name)?;
    while let Some(key) = r.key(&mut of)? {
        match key.as_ref() {
            "conversation" => once(r, &mut of, &mut conversation, "conversation", |r, name| {
                word(r, name, &["agent/name"], |word| word.parse::<Conversation>().ok())
            })?,
            "hops" => once(r, &mut of, &mut hops, "hops", |r, name| count(r, name))?,
            "chain" => once(r, &mut of, &mut chain, "chain", |r, name| {
                each(r, name, |r| word(r, name, &["agent:decision"], |word| word.parse::<Link>().ok()))
            })?,
            _ => skip(r)?,
        }
    }
    Ok(Cause {
        conversation: required(conversation, "conversation")?,
        hops: u32::try_from(required(hops, "hops")?).unwrap_or(u32::MAX),
        chain: chain.unwrap_or_default(),
    })
}
