//! How is Redis spoken to by somebody who is no node? Any words, and the answer as it comes.

use std::time::Duration;

use agentbus::servers::Stack;
use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const ANSWER_WAIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What Redis answers; enough of its protocol for what is asked here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(Vec<u8>),
    Nothing,
    Refused(String),
}

pub(super) struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    pub(super) async fn open(port: u16) -> anyhow::Result<Self> {
        Ok(Self { stream: BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?) })
    }

    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> anyhow::Result<Reply> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.stream.write_all(&command).await?;
        timeout(ANSWER_WAIT, self.read()).await.context("Redis does not answer")?
    }

    async fn read(&mut self) -> anyhow::Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let (kind, rest) = line.trim_end().split_at_checked(1).context("no answer")?;
        match kind {
            "+" | ":" => Ok(Reply::Text(rest.as_bytes().to_vec())),
            "-" => Ok(Reply::Refused(rest.to_owned())),
            "_" => Ok(Reply::Nothing),
            "$" if rest == "-1" => Ok(Reply::Nothing),
            "$" => {
                let length: usize = rest.parse()?;
                ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Ok(Reply::Text(bytes))
            }
            _ => bail!("an answer of kind {kind:?}"),
        }
    }

    /// As [`Self::ask`]; a refusal is a failure.
    pub(super) async fn done(&mut self, words: &[&[u8]]) -> anyhow::Result<Reply> {
        match self.ask(words).await? {
            Reply::Refused(why) => {
                bail!("{}: {why}", String::from_utf8_lossy(words.first().unwrap_or(&&[][..])))
            }
            reply => Ok(reply),
        }
    }
}

/// Somebody who has the password.
#[derive(Clone)]
pub(super) struct Insider {
    port: u16,
    password: String,
}

impl Insider {
    pub(super) fn of(stack: &Stack) -> anyhow::Result<Self> {
        let redis = stack.redis().context("no Redis")?;
        Ok(Self { port: redis.port(), password: redis.operator_password().to_owned() })
    }

    pub(super) async fn login(&self) -> anyhow::Result<Redis> {
        let mut redis = Redis::open(self.port).await?;
        redis.done(&[b"AUTH", b"default", self.password.as_bytes()]).await?;
        Ok(redis)
    }
}
