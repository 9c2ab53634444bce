//! Reads at a timestamp.

use bytes::Bytes;
use logtide_mock_raftstore::rpc::{Command, KeyError, KvResponse};
use logtide_model::Ts;

use super::resolve::{Lost, Resolved};
use super::route::Tries;
use super::{SimClient, Stop};

impl SimClient {
    /// The value of a raw key at `ts`. Locks in the way are resolved, or waited for.
    ///
    /// # Errors
    /// Why there is no answer, if patience is over.
    pub async fn get(&self, key: &[u8], ts: Ts) -> Result<Option<Bytes>, String> {
        self.try_get(key, ts).await.map_err(|stop| stop.why())
    }

    async fn try_get(&self, key: &[u8], ts: Ts) -> Result<Option<Bytes>, Stop> {
        let mut tries = Tries::new(self, "read a key");
        let mut waits = Tries::new(self, "read a locked key");
        let mut bypass = Vec::new();
        loop {
            let command = Command::Get { key: key.to_vec(), ts, bypass: bypass.clone() };
            match self.call_key(&mut tries, key, &command).await?.1 {
                KvResponse::Get { value } => return Ok(value),
                other => {
                    self.pass(&mut waits, &mut bypass, other, ts).await?;
                }
            }
        }
    }

    /// Gets the lock out of a reader's way that an answer tells of; returns on how many keys its transaction was ended.
    pub(super) async fn pass(
        &self,
        waits: &mut Tries,
        bypass: &mut Vec<Ts>,
        response: KvResponse,
        ts: Ts,
    ) -> Result<usize, Stop> {
        let lock = match response {
            KvResponse::Errors(mut errors) if matches!(errors[..], [KeyError::Locked(_)]) => match errors.pop() {
                Some(KeyError::Locked(lock)) => lock,
                other => return Err(self.unexpected("a read", &other)),
            },
            other => return Err(self.unexpected("a read", &other)),
        };
        match self.resolve(&Lost::of(&lock), ts).await? {
            Resolved::Gone(keys) => return Ok(keys),
            Resolved::Pass => bypass.push(lock.start_ts),
            Resolved::Wait => waits.again(&KeyError::Locked(lock)).await?,
        }
        Ok(0)
    }
}
