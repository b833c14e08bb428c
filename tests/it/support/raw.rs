//! A client that writes any bytes: what a stranger can do who does not use a library.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

pub(crate) struct RawClient(BufReader<TcpStream>);

impl RawClient {
    /// Logs in with the seed in this file.
    pub(crate) async fn connect(url: &str, seed: &Path) -> Self {
        let address = url.trim_start_matches("nats://");
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let info: serde_json::Value = serde_json::from_str(line.trim_start_matches("INFO ")).unwrap();
        let key = nkeys::KeyPair::from_seed(std::fs::read_to_string(seed).unwrap().trim()).unwrap();
        let signature = key.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap();
        let connect = serde_json::json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "lang": "raw", "version": "1", "protocol": 1,
            "nkey": key.public_key(), "sig": URL_SAFE_NO_PAD.encode(signature),
        });
        let mut client = Self(stream);
        client.write(format!("CONNECT {connect}\r\n").as_bytes()).await;
        client.round_trip().await;
        client
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn hpub(&mut self, subject: &[u8], reply: &str, headers: &[u8], payload: &[u8]) {
        let numbers = format!(" {reply} {} {}\r\n", headers.len(), headers.len() + payload.len());
        self.write(&[b"HPUB ", subject, numbers.as_bytes(), headers, payload, b"\r\n"].concat()).await;
    }

    /// The server has read all that was written; it says so, or why it does not like it.
    pub(crate) async fn round_trip(&mut self) -> Vec<String> {
        self.write(b"PING\r\n").await;
        let mut said = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self.0.read_until(b'\n', &mut line).await.unwrap();
            assert!(read > 0, "the server has closed the connection, after {said:?}");
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            match line.as_str() {
                "PONG" => return said,
                "PING" => self.write(b"PONG\r\n").await,
                _ => said.push(line),
            }
        }
    }
}
