//! Which kinds of tries are there, and in which order are they played?

/// Hands their names to another macro. The last cost most, and what is parked of `heavy` and `shares` fills the tenant's
/// store.
macro_rules! kinds {
    ($take:ident) => {
        $take! {
            headers subjects protocol bodies texts guises terminal votes rights claims lanes repeats stores forged
            garbage heavy http shares
        }
    };
}
pub(crate) use kinds;

macro_rules! names {
    ($($kind:ident)*) => {
        /// As `--only` calls them.
        pub(crate) const KINDS: &[&str] = &[$(stringify!($kind)),*];
    };
}
kinds!(names);
