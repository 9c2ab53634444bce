//! A plan: what was selected, kept in a temporary file unless it is small, so that its size does not depend on the length of history.

use std::io::{self, BufReader, BufWriter, Read as _, Seek, Write};
use std::path::Path;

use logtide_format::FormatError;
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use super::object::{PlanSummary, PlannedObject};
use super::part::Part;

/// A plan of at most this many bytes needs no file.
const IN_MEMORY: usize = 256 << 10;

/// Why a metadata object could not be planned.
#[derive(Debug)]
pub(crate) enum PlanError {
    Io(io::Error),
    Format(FormatError),
}

/// Writes a plan, one data object after the other.
pub(super) struct SpoolWriter {
    out: BufWriter<SpooledTempFile>,
}

impl SpoolWriter {
    pub(super) fn new(dir: &Path) -> Self {
        SpoolWriter { out: BufWriter::new(spooled_tempfile_in(IN_MEMORY, dir)) }
    }

    pub(super) fn write(&mut self, object: &str, part: &Part) -> io::Result<()> {
        for bytes in [object.as_bytes(), &part.encode()] {
            self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
            self.out.write_all(bytes)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, summary: PlanSummary) -> io::Result<Planned> {
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Planned { summary, file: BufReader::new(file) })
    }
}

/// A plan that is complete.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) summary: PlanSummary,
    file: BufReader<SpooledTempFile>,
}

impl Planned {
    /// The next data object; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<PlannedObject>, PlanError> {
        let Some(object) = self.part().map_err(PlanError::Io)? else { return Ok(None) };
        let object = String::from_utf8_lossy(&object).into_owned();
        let part = self.part().map_err(PlanError::Io)?.unwrap_or_default();
        let part = Part::decode(&object, &part)?;
        part.planned(object).map(Some).map_err(PlanError::Format)
    }

    fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut len = [0; 4];
        match self.file.read_exact(&mut len) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut part = vec![0; u32::from_le_bytes(len) as usize];
        self.file.read_exact(&mut part)?;
        Ok(Some(part))
    }
}
