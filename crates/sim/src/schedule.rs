//! Schedules: what happens in a simulation, one step after the other. A step names things by numbers that are taken
//! modulo what there is when it is executed, so that a schedule without some of its steps is a schedule too.

use std::fmt;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything goes on a little, in an order and by amounts that the seed chooses.
    Run(u64),
    /// Time passes, in milliseconds, and timers fire.
    Tick(u16),
    /// A client begins a transaction that the seed describes.
    Txn(u64),
    /// Versions of a few keys of one region, as the seed describes, are ingested by sorted files.
    Ingest(u64),
    /// A few keys of one region, as the seed describes, are removed past MVCC.
    DeleteRange(u64),
    /// All clients die; their locks stay.
    KillClients,
    /// The leader of a region hands over.
    Transfer(u8, u8),
    /// The leader of a region goes deaf, and hands over: it does not hear of its successor.
    Depose(u8, u8),
    /// A region is split.
    Split(u8),
    /// A region is merged into its neighbour.
    Merge(u8),
    /// A peer of a region is added on a store.
    AddPeer(u8, u8),
    /// A peer of a region is removed from a store.
    RemovePeer(u8, u8),
    /// The raft log of a region is truncated, but for so many entries.
    Truncate(u8, u8),
    /// A store is cut off from the others, or one link is.
    Partition(u8),
    /// Messages are lost, late, doubled.
    BadNetwork(u8),
    /// The network is well again.
    Heal,
    /// A store crashes.
    Crash(u8),
    /// A store that crashed starts.
    Restart(u8),
    /// The log backup of a store crashes and starts again; the raft store goes on.
    RestartBackup(u8),
    /// A second process runs as a store from now on; the first one does not know.
    Zombie(u8),
    /// The storage has trouble of that kind.
    BadStorage(u8),
    /// The storage is well again.
    GoodStorage,
    /// The coordinator has trouble of that kind.
    BadCoordinator(u8),
    /// The coordinator is well again.
    GoodCoordinator,
    /// The disk of a store's spool, or of all, has trouble of that kind.
    BadDisk(u8, u8),
    /// The disks of all spools are well again.
    GoodDisks,
    /// The timestamp service goes away.
    TsoAway,
    /// The timestamp service is back.
    TsoBack,
    /// The clock jumps, in milliseconds.
    ClockJump(i32),
    /// So many of a hundred snapshots for scans fail.
    BadScans(u8),
    /// Little memory for events on all stores.
    Squeeze,
    /// Memory is back.
    Unsqueeze,
    /// The settings of a store change while it runs, to those that the seed describes.
    Configure(u8, u64),
    /// A store is asked to flush.
    FlushNow(u8),
    /// The task is stopped and started under its name, into another storage.
    NewTask,
    /// The task is paused, if it is not.
    Pause,
    /// The task is resumed, if it is paused.
    Resume,
    /// Stores compare what they observe with what they lead.
    Audit(u8),
    /// The backup is restored to a moment that the number chooses, and compared.
    Check(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A schedule and the circumstances that it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The seed of everything that is drawn while it is executed.
    pub seed: u64,
    /// What happens.
    pub steps: Vec<Step>,
}

/// How many steps a schedule has.
pub const STEPS: usize = 500;

impl Schedule {
    /// The schedule of a seed.
    pub fn of(seed: u64) -> Self {
        Schedule::of_length(seed, STEPS)
    }

    /// The schedule of a seed, with that many steps.
    pub fn of_length(seed: u64, steps: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let flavour = Flavour::draw(&mut rng);
        let steps = (0..steps).map(|_| flavour.step(&mut rng)).collect();
        Schedule { seed, steps }
    }
}

impl Schedule {
    /// Writes and flushes without any trouble.
    pub fn calm(seed: u64, steps: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let step = |rng: &mut SmallRng| draw([0, 0, 0, 1, 1, 2, 15][rng.random_range(0..7)], rng);
        Schedule { seed, steps: (0..steps).map(|_| step(&mut rng)).collect() }
    }
}

/// Which kinds of trouble a schedule has, and how much: all at once would drown each of them.
struct Flavour {
    shape: u32,
    leaders: u32,
    network: u32,
    crashes: u32,
    storage: u32,
    coordinator: u32,
    time: u32,
    scans: u32,
    memory: u32,
    tasks: u32,
    zombies: u32,
    ingestions: u32,
    range_deletes: u32,
    settings: u32,
    disks: u32,
}

impl Flavour {
    fn draw(rng: &mut SmallRng) -> Self {
        let mut some = |most: u32| if rng.random_bool(0.5) { rng.random_range(1..=most) } else { 0 };
        Flavour {
            shape: some(12),
            leaders: some(30),
            network: some(10),
            crashes: some(6),
            storage: some(10),
            coordinator: some(8),
            time: some(6),
            scans: some(8),
            memory: some(6),
            tasks: some(5),
            zombies: some(1),
            ingestions: some(12),
            range_deletes: if some(3) == 1 { 3 } else { 0 },
            settings: some(6),
            disks: some(16),
        }
    }

    fn step(&self, rng: &mut SmallRng) -> Step {
        let kinds = [
            (400, 0),
            (220, 1),
            (120, 2),
            (4, 3),
            (self.leaders, 4),
            (self.shape, 5),
            (self.network, 6),
            (self.crashes, 7),
            (self.storage, 8),
            (self.coordinator, 9),
            (self.time, 10),
            (self.scans, 11),
            (self.memory, 12),
            (self.tasks, 13),
            (self.zombies, 14),
            (12, 15),
            (10, 16),
            (self.ingestions, 17),
            (self.range_deletes, 18),
            (self.settings, 19),
            (self.disks, 20),
        ];
        let total: u32 = kinds.iter().map(|(weight, _)| weight).sum();
        let mut at = rng.random_range(0..total);
        let mut kind = 0;
        for (weight, name) in kinds {
            kind = name;
            if at < weight {
                break;
            }
            at -= weight;
        }
        draw(kind, rng)
    }
}

fn draw(kind: u32, rng: &mut SmallRng) -> Step {
    match kind {
        0 => Step::Run(rng.random()),
        1 => Step::Tick(rng.random_range(5..=120)),
        2 => Step::Txn(rng.random()),
        3 => Step::KillClients,
        4 if rng.random_bool(0.3) => Step::Depose(rng.random(), rng.random()),
        4 => Step::Transfer(rng.random(), rng.random()),
        5..=7 | 10 | 13 => draw_one_of(kind, rng),
        8 if rng.random_bool(0.6) => Step::BadStorage(rng.random()),
        8 => Step::GoodStorage,
        9 if rng.random_bool(0.6) => Step::BadCoordinator(rng.random()),
        9 => Step::GoodCoordinator,
        11 => Step::BadScans(rng.random_range(0..100)),
        12 if rng.random_bool(0.5) => Step::Squeeze,
        12 => Step::Unsqueeze,
        14 => Step::Zombie(rng.random()),
        15 if rng.random_bool(0.7) => Step::FlushNow(rng.random()),
        15 => Step::Audit(rng.random()),
        16 => Step::Check(rng.random()),
        17 => Step::Ingest(rng.random()),
        18 => Step::DeleteRange(rng.random()),
        19 => Step::Configure(rng.random(), rng.random()),
        _ if rng.random_bool(0.7) => Step::BadDisk(rng.random(), rng.random()),
        _ => Step::GoodDisks,
    }
}

/// Kinds that are several steps: regions, network, crashes, time, the task.
fn draw_one_of(kind: u32, rng: &mut SmallRng) -> Step {
    match kind {
        5 => match rng.random_range(0..10) {
            0..=2 => Step::Split(rng.random()),
            3..=5 => Step::Merge(rng.random()),
            6 => Step::AddPeer(rng.random(), rng.random()),
            7 => Step::RemovePeer(rng.random(), rng.random()),
            _ => Step::Truncate(rng.random(), rng.random_range(0..8)),
        },
        6 => match rng.random_range(0..5) {
            0..=1 => Step::Partition(rng.random()),
            2 => Step::BadNetwork(rng.random()),
            _ => Step::Heal,
        },
        7 => match rng.random_range(0..6) {
            0..=1 => Step::Crash(rng.random()),
            2..=3 => Step::Restart(rng.random()),
            _ => Step::RestartBackup(rng.random()),
        },
        10 => match rng.random_range(0..4) {
            0 => Step::TsoAway,
            1..=2 => Step::TsoBack,
            _ => Step::ClockJump(rng.random_range(-20_000..20_000)),
        },
        _ => match rng.random_range(0..5) {
            0..=1 => Step::Pause,
            2..=3 => Step::Resume,
            _ => Step::NewTask,
        },
    }
}
