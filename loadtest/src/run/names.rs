//! How are tenants and agents of a profile called?

use super::profile::Group;

pub(crate) fn tenant(group: &Group, number: u32) -> String {
    format!("{}-{number}", group.name)
}

pub(crate) fn sender(number: u32) -> String {
    format!("s-{number}")
}

pub(crate) fn recipient(number: u32) -> String {
    format!("r-{number}")
}

pub(crate) fn judge(number: u32) -> String {
    format!("j-{number}")
}

/// Of a recipient on the direct side, whose server has no accounts.
pub(crate) fn direct(tenant: &str, agent: &str) -> String {
    format!("direct.{tenant}.{agent}")
}
