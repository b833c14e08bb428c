//! Which dead letter? Its tenant, sender and message.

use std::{fmt, str::FromStr};

use crate::{
    domain::{AgentId, IdError, MessageId, TenantId},
    state::MessageKey,
};

/// Stands for what could not be read; no id contains it.
const UNREADABLE: &str = "~";

/// A letter as `tenant/sender/message`, the latter two `~` where they could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    tenant: TenantId,
    sender: String,
    message: String,
}

impl Address {
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub fn sender(&self) -> &str {
        &self.sender
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// Its sender and its message, as far as they could be read.
    pub(super) fn known(&self) -> (Option<AgentId>, Option<MessageId>) {
        (self.sender.parse().ok(), self.message.parse().ok())
    }

    /// What was known of it when it died.
    pub(super) fn ids(&self) -> Option<(TenantId, AgentId, MessageId)> {
        Some((self.tenant.clone(), self.sender.parse().ok()?, self.message.parse().ok()?))
    }
}

impl From<&MessageKey> for Address {
    fn from(key: &MessageKey) -> Self {
        let (sender, message) = (key.sender.to_string(), key.message.to_string());
        Self { tenant: key.tenant.clone(), sender, message }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tokens: Vec<&str> = text.split('/').collect();
        let [tenant, sender, message] = tokens.as_slice() else {
            return Err(format!("expected TENANT/SENDER/MESSAGE, found {} parts", tokens.len()));
        };
        let tenant = tenant.parse().map_err(|error: IdError| error.to_string())?;
        checked::<AgentId>(sender)?;
        checked::<MessageId>(message)?;
        let owned = |token: &&str| (*token).to_owned();
        Ok(Self { tenant, sender: owned(sender), message: owned(message) })
    }
}

fn checked<T: FromStr<Err = IdError>>(token: &str) -> Result<(), String> {
    match token {
        UNREADABLE => Ok(()),
        token => token.parse::<T>().map(drop).map_err(|error| error.to_string()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.sender, self.message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_is_what_the_list_writes_and_never_a_wildcard() {
        for good in ["acme/planner/m1", "acme/~/~", "acme/~/m_1-X"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "~/~/~",
            "acme/planner",
            "acme/*/m1",
            "acme/planner/>",
            "acme/planner/a.b",
            "acme/planner/m1/x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was accepted");
        }
    }
}
