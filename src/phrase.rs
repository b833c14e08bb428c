//! How are errors and counts told to people? Each cause once, and one thing in the singular.

use std::{error::Error, fmt};

/// An error and its causes, in one line. A cause that the text before it has told is not told again.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = next.source();
    }
    told
}

/// `1 tenant`, `2 tenants`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Several texts as one line of printable ASCII, with semicolons between, of about so many characters at most. For what
/// may quote a stranger.
pub fn plain_line<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut line = String::new();
    for text in texts {
        if !line.is_empty() {
            line.push_str("; ");
        }
        for c in text.as_ref().chars() {
            if line.len() >= most {
                line.push_str(" …");
                return line;
            }
            match c {
                ' '..='~' => line.push(c),
                _ => line.extend(c.escape_unicode()),
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot use k.nk: {source}")]
    struct Told {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let missing = || io::Error::from_raw_os_error(2);
        let told = anyhow::Error::from(Told { source: missing() }).context("nats.nkey_file");
        let expected = "nats.nkey_file: cannot use k.nk: No such file or directory (os error 2)";
        assert_eq!(causes(told.as_ref()), expected);
        let hidden = Err::<(), _>(missing()).context("k.nk").context("nats.nkey_file").unwrap_err();
        assert_eq!(causes(hidden.as_ref()), "nats.nkey_file: k.nk: No such file or directory (os error 2)");
    }

    #[test]
    fn one_thing_is_told_in_the_singular() {
        assert_eq!(counted(1_u64, "tenant"), "1 tenant");
        assert_eq!(
            (counted(0_usize, "tenant"), counted(2_u32, "tenant")),
            ("0 tenants".into(), "2 tenants".into())
        );
    }
}
