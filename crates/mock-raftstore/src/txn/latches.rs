//! Which of the commands of a region may run at the same time.

use std::collections::{BTreeMap, BTreeSet};

use crate::rpc::LatchKeys;

/// The latches of one region: commands that share a key run one after the other, in the order in which they came.
/// Pure: it says who may run, and the owner runs them.
#[derive(Debug, Default)]
pub struct Latches {
    /// By arrival.
    commands: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    want: Want,
    running: bool,
}

#[derive(Debug)]
enum Want {
    Keys(BTreeSet<Vec<u8>>),
    Region,
}

impl Want {
    fn conflicts(&self, other: &Want) -> bool {
        match (self, other) {
            (Want::Keys(a), Want::Keys(b)) if a.len() > b.len() => b.iter().any(|key| a.contains(key)),
            (Want::Keys(a), Want::Keys(b)) => a.iter().any(|key| b.contains(key)),
            _ => true,
        }
    }
}

impl Latches {
    /// Command `id` arrives; ids grow with every arrival. True: it may run now. False: some [`Latches::release`] will
    /// name it.
    pub fn acquire(&mut self, id: u64, keys: LatchKeys) -> bool {
        let want = match keys {
            LatchKeys::None => return true,
            LatchKeys::Keys(keys) => Want::Keys(keys.into_iter().collect()),
            LatchKeys::Region => Want::Region,
        };
        let running = self.is_free(id, &want);
        self.commands.insert(id, Held { want, running });
        running
    }

    /// Command `id` is over (its changes are applied, or lost); returns those that may run now, by arrival.
    pub fn release(&mut self, id: u64) -> Vec<u64> {
        let Some(over) = self.commands.remove(&id) else { return Vec::new() };
        let waits = |held: &Held| !held.running && held.want.conflicts(&over.want);
        let candidates: Vec<u64> =
            self.commands.range(id..).filter(|(_, held)| waits(held)).map(|(id, _)| *id).collect();
        let free = |id: &u64| self.commands.get(id).is_some_and(|held| self.is_free(*id, &held.want));
        let ready: Vec<u64> = candidates.into_iter().filter(free).collect();
        for id in &ready {
            if let Some(held) = self.commands.get_mut(id) {
                held.running = true;
            }
        }
        ready
    }

    /// All commands, by arrival: for an owner that gives the region up and refuses them.
    pub fn clear(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.commands).into_keys().collect()
    }

    /// True if no command that came before `id` is in the way.
    fn is_free(&self, id: u64, want: &Want) -> bool {
        !self.commands.range(..id).any(|(_, held)| held.want.conflicts(want))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> LatchKeys {
        LatchKeys::Keys(keys.iter().map(|k| k.as_bytes().to_vec()).collect())
    }

    #[test]
    fn commands_on_one_key_run_in_order() {
        let mut latches = Latches::default();
        assert!(latches.acquire(1, keys(&["a", "b"])));
        assert!(latches.acquire(2, keys(&["c"])));
        assert!(!latches.acquire(3, keys(&["b", "c"])));
        // 4 waits for 3, which came first, although nobody holds "b" when 1 is over.
        assert!(!latches.acquire(4, keys(&["b"])));
        assert_eq!(latches.release(1), []);
        assert_eq!(latches.release(2), [3]);
        assert_eq!(latches.release(3), [4]);
        assert_eq!(latches.release(4), []);
    }

    #[test]
    fn a_command_for_the_region_runs_alone() {
        let mut latches = Latches::default();
        assert!(latches.acquire(1, keys(&["a"])));
        assert!(!latches.acquire(2, LatchKeys::Region));
        assert!(!latches.acquire(3, keys(&["b"])));
        assert!(latches.acquire(4, LatchKeys::None));
        assert_eq!(latches.release(1), [2]);
        assert_eq!(latches.release(2), [3]);
        assert_eq!(latches.clear(), [3]);
    }
}
