//! Whose scores can be compared? Those of the same models and heads, whatever they are computed with.
//!
//! What is remembered of scores (a sender's past, a learned threshold) is kept by it: with another head it begins
//! anew, and in a fleet that changes over nothing mixes.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::Tenant;

/// Of each tenant's scores on one node.
#[derive(Debug, Clone, Default)]
pub struct Scales {
    usual: Option<String>,
    heads: BTreeMap<String, Option<String>>,
}

impl Scales {
    /// Of the usual scores, and of those of each head that tenants name; absent where a node has none.
    pub fn new(usual: Option<String>, heads: BTreeMap<String, Option<String>>) -> Self {
        Self { usual, heads }
    }

    /// Nothing if this node cannot score the tenant's messages.
    pub fn of_tenant(&self, tenant: &Tenant) -> Option<&str> {
        match &tenant.limits.head {
            None => self.usual.as_deref(),
            Some(name) => self.heads.get(name).and_then(Option::as_deref),
        }
    }
}

/// Of what stands in verdicts as `impact.model`, in 8 hexadecimal digits.
pub fn scale(model: &str) -> String {
    // Of several that were asked it says which gave the score.
    let all = model.split_once(": highest by ").map_or(model, |(all, _)| all);
    let mut hash = Sha256::new();
    for one in all.split(" + ") {
        let whatever_the_precision = one.rsplit_once('/').map_or(one, |(name, _)| name);
        hash.update(whatever_the_precision);
        hash.update([0]);
    }
    hex::encode(hash.finalize().get(..4).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::scale;

    #[test]
    fn scores_of_one_model_compare_in_any_precision_and_no_others() {
        let own = scale("minilm-l4@3764fb11/int8");
        assert_eq!(own.len(), 8);
        assert_eq!(own, scale("minilm-l4@3764fb11/f32"));
        for other in ["minilm-l4@00000000/int8", "keywords", "minilm-l4@3764fb11/int8 + guard@1/f32"] {
            assert_ne!(own, scale(other), "{other}");
        }
        let together = "minilm@1/int8 + guard@2/f32";
        assert_eq!(scale(together), scale("minilm@1/f32 + guard@2/f32: highest by guard@2/f32"));
    }
}
