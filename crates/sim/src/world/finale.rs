//! The end: all trouble is over, all transactions are decided, and the checkpoint has to arrive at the present.

use logtide_model::Ts;

use super::World;
use crate::client::{Outcome, resolve_range};
use crate::violation::Violation;

/// How many ticks of 50 ms the checkpoint may take.
const PATIENCE: u32 = 4000;

impl World {
    /// Ends all trouble, waits for the checkpoint to reach the present, and compares the state then.
    ///
    /// # Errors
    /// A [`Violation`].
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.end_trouble()?;
        let mut present: Option<Ts> = None;
        for n in 0..PATIENCE {
            self.tick(50);
            self.run(u64::from(n));
            self.run(u64::from(n) << 32);
            self.bury_and_revive()?;
            self.observe()?;
            // Whoever's records were removed may wait for ever for an answer that makes sense.
            let helpless = self.history.has_range_deletes() && n >= 200;
            if helpless && n % 50 == 0 {
                self.remove_locks();
            }
            if present.is_none() && (self.scripts.is_empty() || helpless) {
                present = self.cluster.pd().tso().ok();
            }
            if present.is_some_and(|present| self.task.checkpoint >= present) && self.storage_checkpoint()? >= present {
                self.compare(u32::MAX)?;
                return self.account_for_objects();
            }
        }
        Err(Violation::Stuck(format!(
            "the checkpoint is {} and should reach {present:?}; {} scripts are left",
            self.task.checkpoint,
            self.scripts.len()
        )))
    }

    fn end_trouble(&mut self) -> Result<(), Violation> {
        self.well_again();
        self.pause(false)?;
        self.squeeze(false);
        for store in self.stopped.clone() {
            self.bring_back(store)?;
        }
        self.scripts.kill_all();
        let resolving = self.client.clone();
        self.scripts.spawn(async move {
            while !resolving.unfinished().is_empty() {
                resolve_range(resolving.clone(), Vec::new(), Vec::new()).await;
            }
            Outcome::GaveUp { why: "nothing is left to resolve".to_owned() }
        });
        Ok(())
    }
}
