//! zstd, one frame per logical file.

use std::cell::RefCell;
use std::io::Cursor;

use logtide_model::Compression;
use zstd::zstd_safe::{self, DCtx};

use crate::{FileFault, FormatError};

/// TiKV's level ("fastest").
const LEVEL: i32 = 1;

/// Compresses logical files, one after the other; it keeps zstd's working memory (about 1 MiB) between them.
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("compression", &self.compression()).finish()
    }
}

impl Compressor {
    /// A compressor.
    ///
    /// # Errors
    /// [`FormatError::Compress`] where zstd has no memory.
    pub fn new(compression: Compression) -> Result<Self, FormatError> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd => Some(zstd::bulk::Compressor::new(LEVEL).map_err(FormatError::Compress)?),
        };
        Ok(Compressor { zstd })
    }

    /// What it does.
    pub fn compression(&self) -> Compression {
        if self.zstd.is_some() { Compression::Zstd } else { Compression::None }
    }

    /// Appends the compressed form of `plain` to `out`: one complete zstd frame with its content size, or a copy.
    ///
    /// # Errors
    /// [`FormatError::Compress`]; `out` is then as it was.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let Some(zstd) = &mut self.zstd else {
            out.extend_from_slice(plain);
            return Ok(());
        };
        let before = out.len();
        out.reserve(zstd_safe::compress_bound(plain.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(before as u64);
        let done = zstd.compress_to_buffer(plain, &mut end);
        if done.is_err() {
            out.truncate(before);
        }
        done.map(drop).map_err(FormatError::Compress)
    }
}

/// How much larger than its input the output buffer is at first.
const FIRST_RATIO: usize = 8;

/// What zstd returns for an output buffer that is too small (`zstd_errors.h`: 70, stable; errors are negated).
const DESTINATION_TOO_SMALL: usize = 70_usize.wrapping_neg();

thread_local! {
    /// zstd's working memory (about 100 KiB), kept: for a small file, setting it up takes longer than decompressing.
    static DECOMPRESSION: RefCell<Option<DCtx<'static>>> = RefCell::new(DCtx::try_create());
}

/// The content of the one zstd frame that `stored` is, which must be `length` bytes. The buffer grows with what really
/// comes out, never above `length`.
pub(crate) fn decompress(stored: &[u8], length: usize) -> Result<Vec<u8>, FileFault> {
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(frame) if frame == stored.len() => {}
        Ok(frame) => return Err(FileFault::NotOneFrame { frame, stored: stored.len() }),
        Err(code) => return Err(FileFault::Zstd(zstd_safe::get_error_name(code))),
    }
    let mut capacity = length.min(stored.len().saturating_mul(FIRST_RATIO));
    loop {
        let mut plain = Vec::with_capacity(capacity);
        let done = DECOMPRESSION.with_borrow_mut(|kept| match kept {
            Some(context) => context.decompress(&mut plain, stored),
            None => zstd_safe::decompress(&mut plain, stored),
        });
        match done {
            Ok(_) if plain.len() == length => return Ok(plain),
            Ok(found) => return Err(FileFault::PlainLength { declared: length as u64, found: found as u64 }),
            // The frame really holds more, so that a larger buffer is justified.
            Err(DESTINATION_TOO_SMALL) if capacity < length => {
                capacity = length.min(capacity.saturating_mul(FIRST_RATIO))
            }
            Err(code) => return Err(FileFault::Zstd(zstd_safe::get_error_name(code))),
        }
    }
}
