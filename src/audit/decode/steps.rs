//! How is read what a node has done to look after itself? A step that this version does not know is left out.

use super::{
    super::record::{Mending, Step},
    facts::each,
};
use crate::wire::{
    fields::{count, map, once, required},
    reader::{Read, Reader, skip},
    verdict::owned,
};

pub(super) fn steps<'a, R: Reader<'a>>(r: &mut R, name: &'static str) -> Read<Vec<Step>> {
    Ok(each(r, name, step)?.into_iter().flatten().collect())
}

fn step<'a, R: Reader<'a>>(r: &mut R) -> Read<Option<Step>> {
    let (mut what, mut of, mut times) = (None::<String>, None, None);
    let mut fields = map(r, "steps")?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "what" => once(r, &mut fields, &mut what, "what", |r, name| owned(r, name))?,
            "of" => once(r, &mut fields, &mut of, "of", |r, name| owned(r, name))?,
            "times" => once(r, &mut fields, &mut times, "times", |r, name| count(r, name))?,
            _ => skip(r)?,
        }
    }
    let (what, times) = (required(what, "what")?, required(times, "times")?);
    let known = Mending::ALL.into_iter().find(|mending| mending.as_str() == what);
    Ok(known.map(|what| Step { what, of: of.unwrap_or_default(), times }))
}
