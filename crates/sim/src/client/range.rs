//! Resolves every lock of a range.

use logtide_mock_raftstore::rpc::{Command, KvResponse};
use logtide_model::{Ts, decode_raw_key};

use super::resolve::{Lost, Resolved};
use super::route::Tries;
use super::{SimClient, Stop};

/// Pairs of one scan.
const SCAN_PAIRS: usize = 256;

/// Resolves the locks of raw keys in `[start, end)` (an empty end is +inf), and returns how many keys it ended
/// transactions on.
///
/// First it reads the range at a fresh timestamp, as a reader would: expired transactions are ended, others are pushed
/// above the reader or waited for. Then it asks for the transactions that this client knows and readers do not meet
/// (pessimistic locks, [`super::TxnPlan::locks_only`]). What does not expire while patience lasts stays:
/// [`SimClient::unfinished`] tells.
pub async fn resolve_range(client: SimClient, start: Vec<u8>, end: Vec<u8>) -> usize {
    let mut ended = 0;
    // Unexpected answers are noted in the client; there is nothing more to do about them, or about a cluster that does
    // not answer.
    let _ = read_range(&client, &start, &end, &mut ended).await;
    let _ = end_known(&client, &start, &end, &mut ended).await;
    ended
}

async fn read_range(client: &SimClient, start: &[u8], end: &[u8], ended: &mut usize) -> Result<(), Stop> {
    let ts = client.timestamp().await?;
    let mut tries = Tries::new(client, "scan");
    let mut waits = Tries::new(client, "scan locked keys");
    let mut bypass = Vec::new();
    let mut from = start.to_vec();
    while end.is_empty() || &from[..] < end {
        let command =
            Command::Scan { start: from.clone(), end: end.to_vec(), limit: SCAN_PAIRS, ts, bypass: bypass.clone() };
        let (region, response) = client.call_key(&mut tries, &from, &command).await?;
        let KvResponse::Scan { pairs, more } = response else {
            *ended += client.pass(&mut waits, &mut bypass, response, ts).await?;
            continue;
        };
        from = match pairs.into_iter().next_back() {
            Some((mut next, _)) if more => {
                next.push(0);
                next
            }
            _ if region.range.end.is_empty() => break,
            _ => decode_raw_key(&region.range.end).map_err(|e| client.unexpected("a scan", &e))?,
        };
    }
    Ok(())
}

async fn end_known(client: &SimClient, start: &[u8], end: &[u8], ended: &mut usize) -> Result<(), Stop> {
    let mut waits = Tries::new(client, "wait for transactions to expire");
    loop {
        let known = client.0.ledger.borrow().in_range(start, end);
        let mut waiting = None;
        for (start_ts, entry) in known {
            let keys: Vec<_> = entry.keys.into_iter().collect();
            let lost = Lost { primary: entry.primary, start_ts, ttl_ms: entry.ttl_ms, keys };
            match client.resolve(&lost, Ts::ZERO).await? {
                Resolved::Gone(keys) => *ended += keys,
                Resolved::Pass | Resolved::Wait => waiting = Some(start_ts),
            }
        }
        match waiting {
            Some(start_ts) => waits.again(&format_args!("transaction {start_ts} has not expired")).await?,
            None => return Ok(()),
        }
    }
}
