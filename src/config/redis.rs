//! How does a node get into Redis, and may it do so without a password?

use std::time::Duration;

use super::{ConfigError, Redis, RedisLogin, check::within, secrets::user_and_password};
use crate::secret_file;

/// Bytes of a password. Redis takes longer ones, and nobody types them.
const PASSWORD_MAX: u64 = 1024;
/// Longer than any update of nodes, and a bound all the same.
const UNSEALED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl Redis {
    /// For a Redis on this machine that asks for nothing, with nothing sealed.
    pub fn trusting(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password_file: None,
            allow_no_password: true,
            seal_key_file: None,
            allow_no_seal: true,
            accept_unsealed_for: Duration::ZERO,
            tls: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, found: &str, expected: &str| {
            Err(ConfigError::Value {
                key: format!("redis.{key}"),
                found: found.to_owned(),
                expected: expected.to_owned(),
            })
        };
        let (user, password) = user_and_password(&self.url);
        match (&self.password_file, password) {
            (Some(_), true) => {
                return fail("password_file", "a password in redis.url as well", "one of the two");
            }
            (None, false) if !self.allow_no_password => {
                return fail(
                    "password_file",
                    "no password, neither there nor in redis.url",
                    "a file with the password; or redis.allow_no_password = true for a Redis that asks for none",
                );
            }
            (Some(_) | None, _) => {}
        }
        match &self.user {
            Some(_) if user => return fail("user", "a user in redis.url as well", "one of the two"),
            Some(_) if self.password_file.is_none() => {
                return fail("user", "a user without redis.password_file", "both or none");
            }
            Some(user) if user.is_empty() || user.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                return fail("user", &crate::domain::id::shown(user), "a name without blanks");
            }
            Some(_) | None => {}
        }
        if self.seal_key_file.is_none() && !self.allow_no_seal {
            return fail(
                "seal_key_file",
                "none",
                "a file with the nodes' key, as from `openssl rand -base64 32`; or redis.allow_no_seal = true \
                 to believe whatever is in Redis",
            );
        }
        let secure = ["rediss", "valkeys"].iter().any(|scheme| self.url.starts_with(scheme));
        if self.tls.is_some() && !secure {
            return fail("tls", "a redis.url without TLS", "rediss://host:port");
        }
        let shown = |duration: Duration| humantime::format_duration(duration).to_string();
        within("redis.accept_unsealed_for", self.accept_unsealed_for, Duration::ZERO, UNSEALED_MAX, shown)
    }

    /// Reads the password. `None`: there is no file. Blocks.
    pub fn login(&self) -> Result<Option<RedisLogin>, ConfigError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let fail = |found: String| ConfigError::Value {
            key: "redis.password_file".to_owned(),
            found,
            expected: "one line with a password".to_owned(),
        };
        let text = secret_file::read(path, PASSWORD_MAX).map_err(|cause| fail(cause.to_string()))?;
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() || password.chars().any(char::is_control) {
            let found =
                if password.is_empty() { "nothing in it" } else { "several lines or a control character" };
            return Err(fail(format!("{}: {found}", path.display())));
        }
        Ok(Some(RedisLogin { user: self.user.clone(), password: password.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::config::{NodeConfig, tests::load};

    fn told(redis: &str) -> String {
        match load(&format!("[redis]\n{redis}"), &[], &[]) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_redis_without_a_password_or_a_seal_is_refused_unless_that_is_wanted() {
        let password = "redis.password_file: found no password";
        let seal = "redis.seal_key_file: found none";
        for (redis, expected) in [
            ("url = \"redis://h\"", password),
            ("url = \"redis://user@h\"", password),
            ("url = \"redis://user:@h\"", password),
            ("url = \"redis://h\"\nallow_no_password = true", seal),
            ("url = \"redis://u:p@h\"", seal),
            ("url = \"redis://h\"\npassword_file = \"p\"", seal),
            ("url = \"redis://h\"\nallow_no_password = true\nallow_no_seal = true", "good"),
            ("url = \"redis://:p@h\"\nseal_key_file = \"k\"", "good"),
            ("url = \"redis://h\"\nuser = \"u\"\npassword_file = \"p\"\nseal_key_file = \"k\"", "good"),
            ("url = \"redis://:p@h\"\npassword_file = \"p\"\nseal_key_file = \"k\"", "one of the two"),
            ("url = \"redis://u@h\"\nuser = \"u\"\npassword_file = \"p\"", "redis.user: found a user in"),
            ("url = \"redis://h\"\nuser = \"u\"\nallow_no_password = true", "expected both or none"),
            ("url = \"redis://h\"\nuser = \"a b\"\npassword_file = \"p\"", "redis.user: found \"a b\""),
            (
                "url = \"redis://:p@h\"\nseal_key_file = \"k\"\naccept_unsealed_for = \"8days\"",
                "redis.accept_unsealed_for: found 8days, expected 0s to 7days",
            ),
        ] {
            let told = told(redis);
            assert!(told.contains(expected), "{redis:?} gave {told:?}");
        }
        let error = load("", &[], &[("redis.url", "redis://h")]).map(|_: NodeConfig| ()).unwrap_err();
        assert!(error.to_string().contains(password), "{error}");
    }

    #[test]
    fn a_password_is_one_line_of_a_file_of_ours_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let redis = Redis {
            user: Some("bus".to_owned()),
            password_file: Some(path.clone()),
            ..Redis::trusting("redis://h")
        };
        assert!(redis.login().unwrap_err().to_string().contains("cannot read"));
        for (text, good) in [
            ("hunter2", true),
            ("hunter2\n", true),
            ("hunter2\r\n", true),
            ("\n", false),
            ("hunter2\nb", false),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let login = redis.login();
            assert!(!format!("{login:?}{redis:?}").contains("hunter2"), "{login:?}");
            match login {
                Ok(login) => {
                    assert_eq!((login.map(|login| login.password), good), (Some("hunter2".into()), true))
                }
                Err(error) => assert!(!good && error.to_string().contains("expected one line"), "{error}"),
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(redis.login().unwrap_err().to_string().contains("0640"));
        assert_eq!(Redis::trusting("redis://h").login().unwrap(), None);
    }
}
