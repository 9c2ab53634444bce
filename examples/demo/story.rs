//! What happens, in order.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use logtide_mock_raftstore::client::Client;
use logtide_model::Ts;
use serde_json::{Value, json};

use crate::nodes::{Nodes, STORES};
use crate::proof::{Proof, prove};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::source::Source;
use crate::stir::Unrest;
use crate::watch::{Stored, Work};
use crate::{Failed, accident, bank, command, load, stir, watch};

/// What logtide may account for on all stores together.
const MEMORY_LIMIT: f64 = (256 << 20) as f64;
/// How long the checkpoint may take to pass the accident.
const PATIENCE: Duration = Duration::from_secs(120);
/// Parts that the files are split into before the start; accounts add their tables.
const FILE_REGIONS: usize = 9;

/// What the live part hands to the proof.
struct Lived {
    t1: Ts,
    t2: Ts,
    unrest: Unrest,
    work: Work,
}

/// Tells the story; true if the proof holds.
pub(crate) fn tell(settings: &Settings, dir: &Path) -> Result<bool, Failed> {
    let screen = Screen::new();
    let source = Source::list(settings.data.clone(), settings.data_limit())?;
    screen.say(&format!(
        "{} files, {} MB; everything lies in {}",
        source.files.len(),
        source.bytes >> 20,
        dir.display()
    ));
    let split_keys = [source.split_keys(FILE_REGIONS), bank::split_keys()].concat();
    let nodes = Nodes::start(dir, split_keys, settings.flush_interval())?;
    screen.say(&format!("{STORES} stores, {} regions, on raft and RocksDB", nodes.cluster.stats().regions));
    let client = nodes.client();
    bank::open(&client)?;
    screen.say(&format!(
        "a bank with {} accounts is open (before the backup: the initial scan has to find it)",
        bank::ACCOUNTS
    ));
    let storage = settings.storage_url(dir)?;
    begin_backup(dir, &storage, &screen)?;
    let lived = live(settings, &nodes, &client, &source, &screen)?;
    wait_for_checkpoint(dir, &storage, lived.t2, &screen)?;
    let summary = restore(dir, &storage, lived.t1, &screen)?;
    let victims = accident::victims(&source.files);
    let bar = screen.stage("comparing the restored state with the source's at T1, key by key", source.bytes);
    let proof = prove(&client, &dir.join("restored"), lived.t1, &bar, victims)?;
    bar.finish_and_clear();
    let survivors = accident::survivors(&client, victims)?;
    let peak = nodes.metric("logtide_memory_peak_bytes", false);
    let dropped = nodes.metric("logtide_dropped_batches", false);
    nodes.stop();
    let stored = Stored::count(&storage)?;
    let checks = checks(&proof, victims.len(), survivors, peak, stored);
    screen.calm();
    conclude(&screen, &checks, &proof, stored, &summary);
    let facts = json!({
        "t1": lived.t1.get(), "t2": lived.t2.get(), "files": source.files.len(), "file_bytes": source.bytes,
        "equal": proof.verdict.equal, "missing": proof.verdict.missing, "extra": proof.verdict.extra,
        "different": proof.verdict.different, "bank_accounts": proof.accounts, "bank_sum": proof.sum,
        "transfers": lived.work.transfers.load(Ordering::Relaxed),
        "leader_transfers": lived.unrest.transfers.load(Ordering::Relaxed),
        "splits": lived.unrest.splits.load(Ordering::Relaxed),
        "accident_victims": victims.len(), "accident_victims_restored": proof.victims, "accident_survivors": survivors,
        "memory_peak_bytes": peak, "dropped_batches": dropped,
        "metadata_objects": stored.metadata, "data_objects": stored.data, "storage_bytes": stored.bytes,
        "restore": summary, "seconds": screen.elapsed().as_secs_f64(),
        "holds": checks.iter().all(|(_, good)| *good),
    });
    std::fs::write(dir.join("summary.json"), serde_json::to_string_pretty(&facts)?)?;
    Ok(checks.iter().all(|(_, good)| *good))
}

fn begin_backup(dir: &Path, storage: &str, screen: &Screen) -> Result<(), Failed> {
    let coordinator = dir.join("coordinator").display().to_string();
    // The heartbeats of the nodes have to be there: the command knows the cluster by them.
    let deadline = Instant::now() + Duration::from_secs(20);
    let args =
        ["log", "start", "--coordinator", &coordinator, "--task-name", "demo", "--storage", storage, "--start-ts", "0"];
    while !command::nodes_are_known(&coordinator)? {
        if Instant::now() > deadline {
            return Err("no node told the coordinator about itself".into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    command::run(&args)?;
    screen.say(&shown(&args, storage));
    Ok(())
}

/// A command as it was run, but for the credentials.
fn shown(args: &[&str], storage: &str) -> String {
    format!("$ logtide {}", args.join(" ").replace(storage, &logtide_storage::redacted(storage)))
}

/// The bank works and the files come in under unrest; then T1, the accident, T2.
fn live(
    settings: &Settings,
    nodes: &Nodes,
    client: &Client,
    source: &Source,
    screen: &Screen,
) -> Result<Lived, Failed> {
    let (work, unrest) = (Work::default(), Unrest::default());
    let (stop, stop_watch) = (AtomicBool::new(false), AtomicBool::new(false));
    let more_splits = source.split_keys(29);
    let moments = thread::scope(|scope| -> Result<(Ts, Ts), Failed> {
        let tellers: Vec<_> = (1..=2)
            .map(|seed| {
                scope.spawn({
                    let (client, stop, done) = (client.clone(), &stop, &work.transfers);
                    move || bank::transfer(&client, seed, stop, done)
                })
            })
            .collect();
        scope.spawn(|| stir::stir(&nodes.cluster, &more_splits, &stop, &unrest));
        scope.spawn(|| watch::watch(nodes, &work, screen, &stop_watch));
        let moments = events(settings, client, source, &work, screen);
        stop.store(true, Ordering::Relaxed);
        for teller in tellers {
            teller.join().map_err(|_| "a teller panicked")??;
        }
        stop_watch.store(true, Ordering::Relaxed);
        moments
    });
    stop_watch.store(true, Ordering::Relaxed);
    let (t1, t2) = moments?;
    Ok(Lived { t1, t2, unrest, work })
}

fn events(
    settings: &Settings,
    client: &Client,
    source: &Source,
    work: &Work,
    screen: &Screen,
) -> Result<(Ts, Ts), Failed> {
    let bar = screen.stage("loading, while money is transferred, leaders move and regions split", source.bytes);
    load::load(client, &source.files, &work.written, &bar)?;
    bar.finish_and_clear();
    thread::sleep(settings.pause());
    let t1 = client.timestamp()?;
    screen.say(&format!("T1 = {t1}: the moment that will be wanted back"));
    thread::sleep(settings.pause() / 3);
    let victims = accident::victims(&source.files);
    accident::happen(client, victims)?;
    let t2 = client.timestamp()?;
    screen
        .say(&format!("T2 = {t2}: an accident has deleted {} files and set every balance to a million", victims.len()));
    Ok((t1, t2))
}

fn wait_for_checkpoint(dir: &Path, storage: &str, t2: Ts, screen: &Screen) -> Result<(), Failed> {
    screen.say("waiting until the checkpoint in the storage has passed T2");
    let begun = Instant::now();
    loop {
        let info = command::run(&["log", "metadata", "--storage", storage])?;
        let checkpoint = info["checkpoint"].as_u64().unwrap_or(0);
        if checkpoint >= t2.get() {
            screen.say(&format!("checkpoint {checkpoint} after {:.1} s", begun.elapsed().as_secs_f64()));
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let status =
                command::run(&["log", "status", "--coordinator", &dir.join("coordinator").display().to_string()])?;
            return Err(format!("the checkpoint is at {checkpoint} after {PATIENCE:?}: {status}").into());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn restore(dir: &Path, storage: &str, t1: Ts, screen: &Screen) -> Result<Value, Failed> {
    let (at, to) = (t1.to_string(), dir.join("restored").display().to_string());
    let args = ["restore", "point", "--storage", storage, "--restored-ts", &at, "--to", &to, "--memory", "256MiB"];
    screen.say(&shown(&args, storage));
    let summary = command::run(&args)?;
    let rate = summary["mb_per_second"].as_f64().unwrap_or(0.0);
    screen.say(&format!("restored at {rate:.0} MB/s, from the storage alone"));
    Ok(summary)
}

/// What has to be true, and whether it is.
fn checks(proof: &Proof, victims: usize, survivors: usize, peak: f64, stored: Stored) -> Vec<(String, bool)> {
    let v = &proof.verdict;
    let objects = stored.metadata + stored.data;
    vec![
        (
            format!("{} keys equal, {} missing, {} extra, {} different", v.equal, v.missing, v.extra, v.different),
            v.holds() && v.equal > 0,
        ),
        (
            format!("{} accounts hold {} together", proof.accounts, proof.sum),
            (proof.accounts, proof.sum) == (bank::ACCOUNTS, bank::ACCOUNTS * bank::OPENING_BALANCE),
        ),
        (
            format!(
                "the accident is not there: {} of {victims} deleted files are back ({survivors} in the source)",
                proof.victims
            ),
            proof.victims == victims && survivors == 0,
        ),
        (format!("logtide accounted for {:.0} MiB at most (limit 256)", peak / (1 << 20) as f64), peak < MEMORY_LIMIT),
        (
            format!("{objects} objects of {} flushes (fewer than 3 each)", stored.flushes),
            stored.flushes > 0 && objects < 3 * stored.flushes,
        ),
    ]
}

fn conclude(screen: &Screen, checks: &[(String, bool)], proof: &Proof, stored: Stored, restore: &Value) {
    for (what, good) in checks {
        screen.say(&format!("{} {what}", if *good { "ok  " } else { "FAIL" }));
    }
    for key in &proof.verdict.examples {
        screen.say(&format!("     e.g. key {}", key.escape_ascii()));
    }
    let bytes = stored.bytes >> 20;
    let rate = restore["mb_per_second"].as_f64().unwrap_or(0.0);
    screen.say(&format!("storage: {bytes} MiB; restore: {rate:.0} MB/s"));
    let holds = checks.iter().all(|(_, good)| *good);
    screen.say(if holds { "PROVEN: the restored state is the state at T1" } else { "NOT PROVEN" });
}
