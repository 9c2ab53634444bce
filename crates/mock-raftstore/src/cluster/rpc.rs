//! The cluster as clients see it.

use std::sync::Arc;
use std::time::Instant;

use logtide_model::{Region, StoreId, Ts};

use super::{CALL_TIMEOUT, Inner};
use crate::rpc::{KvRequest, KvResponse, KvRpc, RegionError};
use crate::service::ReadStep;

/// See the module.
pub(crate) struct ClusterRpc(pub(crate) Arc<Inner>);

impl KvRpc for ClusterRpc {
    fn call(&self, store: StoreId, request: KvRequest) -> Result<KvResponse, RegionError> {
        let node = self.0.node(store).ok_or_else(|| RegionError::Busy(format!("store {store} is stopped")))?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        if !request.command.is_read() {
            let (tx, rx) = crossbeam_channel::bounded(1);
            node.service.submit(request, Box::new(move |answer| drop(tx.send(answer))));
            let lost = || RegionError::Undetermined(format!("store {store} did not answer"));
            return self.0.runtime.wait(&rx, deadline).unwrap_or_else(|| Err(lost()));
        }
        let (tx, rx) = crossbeam_channel::bounded(1);
        node.service.begin_read(request, Box::new(move |step| drop(tx.send(step))));
        let lost = || RegionError::Busy(format!("store {store} could not confirm that it leads"));
        match self.0.runtime.wait(&rx, deadline).unwrap_or_else(|| Err(lost()))? {
            ReadStep::Answer(response) => Ok(response),
            ReadStep::Confirmed(request) => node.service.finish_read(&request),
        }
    }

    fn locate(&self, raw_key: &[u8]) -> (Region, StoreId) {
        self.0.pd.locate_raw(raw_key)
    }

    fn tso(&self) -> Result<Ts, RegionError> {
        self.0.pd.tso().map_err(|e| RegionError::Busy(e.to_string()))
    }
}
