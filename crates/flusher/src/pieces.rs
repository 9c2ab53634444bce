//! From the pieces of an object to the bytes of a request: slices of pieces, read off the async threads.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use logtide_temp_file::SealedSpool;
use tokio::runtime::Handle;

use crate::Blocking;
use crate::plan::{BlockId, ObjectPlan, Piece};
use crate::upload::Failure;

/// Part of a piece.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    piece: Piece,
    range: Range<usize>,
}

/// The bytes of one request.
#[derive(Debug, Default)]
pub(crate) struct Part {
    slices: Vec<Slice>,
    bytes: u64,
    /// How much memory it takes to read it: whole blocks, as they are read whole.
    pub(crate) cost: u64,
}

/// Cuts an object into parts of exactly `part_bytes` (the last one is shorter), as some storages want them equal.
pub(crate) fn parts(object: &ObjectPlan, part_bytes: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut open = Part::default();
    for piece in &object.pieces {
        let mut from = 0;
        while from < piece.bytes() {
            let to = piece.bytes().min(from + part_bytes - open.bytes);
            open.slices.push(Slice { piece: piece.clone(), range: from as usize..to as usize });
            open.bytes += to - from;
            open.cost += piece.cost();
            from = to;
            if open.bytes == part_bytes {
                parts.push(std::mem::take(&mut open));
            }
        }
    }
    if open.bytes > 0 {
        parts.push(open);
    }
    parts
}

/// Reads a part, on a thread that may block.
pub(crate) async fn read(part: Part, spools: Arc<Vec<SealedSpool>>, blocking: Blocking) -> Result<Vec<Bytes>, Failure> {
    let read = move || part.slices.iter().map(|slice| read_slice(slice, &spools)).collect();
    match blocking.run(&Handle::current(), read).await {
        Ok(bytes) => bytes,
        Err(e) => Err(Failure::Again(e.to_string())),
    }
}

fn read_slice(slice: &Slice, spools: &[SealedSpool]) -> Result<Bytes, Failure> {
    let bytes = match &slice.piece {
        Piece::Memory(bytes) => bytes.clone(),
        Piece::Block(block) => read_block(block, spools)?,
    };
    Ok(bytes.slice(slice.range.clone()))
}

fn read_block(block: &BlockId, spools: &[SealedSpool]) -> Result<Bytes, Failure> {
    let bytes = spools[block.spool].files[block.file].read().map_err(|e| Failure::Unreadable(e.to_string()))?;
    if bytes.len() as u64 == block.bytes {
        return Ok(bytes);
    }
    Err(Failure::Unreadable(format!("a block of the spool has {} bytes instead of {}", bytes.len(), block.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_are_equal_and_make_up_the_object() {
        let pieces: Vec<Piece> = ["abc", "", "defgh", "i"].map(|s| Piece::Memory(Bytes::from(s))).into();
        let object = ObjectPlan { path: String::new(), pieces, bytes: 9 };
        for (part_bytes, expected) in
            [(2, vec!["ab", "cd", "ef", "gh", "i"]), (9, vec!["abcdefghi"]), (3, vec!["abc", "def", "ghi"])]
        {
            let mut read_back = Vec::new();
            for part in parts(&object, part_bytes) {
                let bytes = read(part, Arc::default(), Blocking::InPlace).await.unwrap().concat();
                read_back.push(String::from_utf8(bytes).unwrap());
            }
            assert_eq!(read_back, expected);
        }
    }
}
