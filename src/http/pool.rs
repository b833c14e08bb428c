//! How do many calls go to one server without a new connection for each?

use parking_lot::Mutex;

use super::{Answer, Call, CallError, Connection, Endpoint, EndpointError, within};
use crate::tls::{self, Files};

/// Connections that are kept while nobody uses them.
const IDLE_MAX: usize = 16;

/// Kept connections to one server, for calls that change nothing there: one may be made twice.
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Reads the system's root certificates for https. Blocks.
    pub fn open(url: &str) -> Result<Self, EndpointError> {
        Self::open_by(url, &Files::default())
    }

    /// Trusts what `files` say for https. Blocks.
    pub fn open_by(url: &str, files: &Files) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::open_with(url, || tls::connector_by(files))?;
        Ok(Self { endpoint, idle: Mutex::default() })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One call, all of it within its time.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, CallError> {
        within(call.within, self.exchange(&call)).await
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        if let Some(kept) = self.kept() {
            match self.over(kept, call).await {
                // The server may have ended it while nobody used it: that is found out only now.
                Err(CallError::Broken(_)) => {}
                answered => return answered,
            }
        }
        self.over(self.endpoint.connection().await?, call).await
    }

    /// The one that was used last, so that those that are not needed grow old.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain_mut(Connection::is_open);
        idle.pop()
    }

    async fn over(&self, mut connection: Connection, call: &Call<'_>) -> Result<Answer, CallError> {
        let request = self.endpoint.request(call, "keep-alive")?;
        let answer = connection.exchange(request, call).await?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        drop(idle);
        Ok(answer)
    }
}
