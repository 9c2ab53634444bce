//! A task on this shard: its spool, and whether the open generation still has everything.

use std::sync::Arc;

use logtide_format::EntryKind;
use logtide_model::{Cf, RegionId, Task};
use logtide_temp_file::{SealedSpool, Spool, SpoolConfig, SpoolError, TaskKeys};

use crate::ShardConfig;
use crate::marks::Marks;

/// One task's work.
#[derive(Debug)]
pub(crate) struct TaskWork {
    pub(crate) task: Arc<Task>,
    /// They outlive a generation that is lost.
    pub(crate) marks: Marks,
    config: SpoolConfig,
    keys: TaskKeys,
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The open generation has everything since the last seal.
    Open(Spool),
    /// It lost something: nothing is appended until it is closed. `None` if there is no spool at all.
    Lost(Option<Spool>),
}

impl TaskWork {
    /// A task whose spool is yet to be opened.
    pub(crate) fn new(task: Arc<Task>, config: &ShardConfig) -> Self {
        let name = format!("{}-{}", task.name, config.shard);
        let spool = SpoolConfig {
            room: config.room.clone(),
            block_size: config.block_size,
            compression: task.compression,
            encryption: None,
        };
        TaskWork {
            task,
            marks: Marks::default(),
            config: spool,
            keys: config.keys.clone(),
            name,
            state: State::Lost(None),
        }
    }

    /// True if nothing is appended.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost(_))
    }

    /// Opens a generation after one that was lost (or the first).
    pub(crate) fn reopen(&mut self) -> Result<(), SpoolError> {
        if let State::Lost(spool) = &mut self.state {
            let spool = match spool.take() {
                Some(spool) => spool,
                None => {
                    self.config.encryption = self.keys.of(&self.task)?;
                    Spool::new(self.config.clone(), &self.name)?
                }
            };
            self.state = State::Open(spool);
        }
        Ok(())
    }

    /// Drops the open generation.
    pub(crate) fn lose(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Lost(None)) {
            State::Open(mut spool) => {
                spool.discard();
                State::Lost(Some(spool))
            }
            lost => lost,
        };
    }

    /// Wipes the open generation as if it had never been: what [`logtide_model::planted::Bug::ReRegistrationWipes`] does.
    pub(crate) fn wipe(&mut self) {
        if let State::Open(spool) = &mut self.state {
            spool.discard();
        }
    }

    /// Appends a record; nothing if the generation is lost.
    pub(crate) fn append(
        &mut self,
        region_id: RegionId,
        cf: Cf,
        kind: EntryKind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), SpoolError> {
        match &mut self.state {
            State::Open(spool) => spool.append(region_id, cf, kind, key, value),
            State::Lost(_) => Ok(()),
        }
    }

    /// Closes the open generation; `None` if it is lost.
    pub(crate) fn seal(&mut self) -> Option<Result<SealedSpool, SpoolError>> {
        match &mut self.state {
            State::Open(spool) => Some(spool.seal()),
            State::Lost(_) => None,
        }
    }

    /// Plain bytes in the open generation.
    pub(crate) fn open_bytes(&self) -> u64 {
        match &self.state {
            State::Open(spool) => spool.open_bytes(),
            State::Lost(_) => 0,
        }
    }
}
