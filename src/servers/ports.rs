//! Which ports on loopback are free, and who holds one that is not?

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
};

use super::ServerError;

/// A port that is free now. Nothing keeps it free: the caller starts its server at once and tries
/// another when it was taken in between.
pub fn free() -> Result<u16, ServerError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|cause| ServerError::NoPort { cause })
}

/// Whether nobody listens on the port.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Who listens on the port, as "name (pid 123)", where the system lets us see it (Linux, and
/// processes of the same user).
pub fn holder(port: u16) -> Option<String> {
    let socket = listening_socket(port)?;
    let link = format!("socket:[{socket}]");
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let holds = fs::read_dir(entry.path().join("fd"))
            .ok()?
            .filter_map(Result::ok)
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        let name = || fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        holds.then(|| format!("{} (pid {pid})", name().trim()))
    })
}

/// The inode of the socket that listens on the port, IPv4 or IPv6.
fn listening_socket(port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    tables.iter().filter_map(|table| fs::read_to_string(table).ok()).find_map(|table| {
        table.lines().skip(1).find_map(|line| {
            let mut fields = line.split_whitespace();
            let (local, state) = (fields.nth(1)?, fields.nth(1)?);
            let inode = fields.nth(5)?;
            let local_port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
            (local_port == port && state == LISTEN).then(|| inode.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_holder_of_a_taken_port_is_named_with_its_pid() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        let holder = holder(port).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        // A process that another test starts just now may hold a copy for a moment.
        let looks = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            is_free(port)
        });
        assert!(looks.take(2_000).any(|free| free));
    }
}
