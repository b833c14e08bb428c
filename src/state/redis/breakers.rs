//! How are breakers for all nodes, as Redis has it? One table, read and written as a whole (`breakers.lua`).
//!
//! It bears no seal, as its counts are added up by Redis: whoever can write there can have nodes refuse what they ask
//! others, for as long as it goes on writing, and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use fred::prelude::Value;

use super::{RedisStore, unexpected};
use crate::state::{
    StoreError,
    breakers::{BREAKERS_MAX, BreakerSeen, BreakerStanding, SharedBreakers},
    clock::millis,
};

const TABLE: &str = "agentbus:breakers";
/// Far more than that many entries have.
const TABLE_BYTES_MAX: usize = BREAKERS_MAX * 1_024;

fn number(n: impl TryInto<i64>) -> Value {
    n.try_into().unwrap_or(i64::MAX).into()
}

#[async_trait]
impl SharedBreakers for RedisStore {
    async fn share(&self, seen: &[BreakerSeen]) -> Result<Vec<BreakerStanding>, StoreError> {
        let mut args = vec![number(TABLE_BYTES_MAX), number(BREAKERS_MAX)];
        for BreakerSeen { name, good, bad, failures, open_for, closed, due } in seen.iter().take(BREAKERS_MAX)
        {
            args.push(name.as_str().into());
            args.extend([number(*good), number(*bad), number(*failures), number(millis(*open_for))]);
            args.extend([closed, due].map(|flag| number(i64::from(*flag))));
        }
        let answer = self.run(&self.scripts.breakers, vec![TABLE.into()], args).await?;
        let Value::Array(entries) = answer else { return Err(unexpected("no table of breakers")) };
        Ok(entries.into_iter().take(BREAKERS_MAX).filter_map(standing).collect())
    }
}

fn standing(entry: Value) -> Option<BreakerStanding> {
    let Value::Array(parts) = entry else { return None };
    let [name, open_ms, tries] = <[Value; 3]>::try_from(parts).ok()?;
    Some(BreakerStanding {
        name: name.as_string()?,
        open_for: Duration::from_millis(open_ms.as_u64()?),
        tries: tries.as_u64()? == 1,
    })
}
