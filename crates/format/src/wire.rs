//! The wire format of protobuf, checked before decoding: prost does not say where bytes are malformed, and builds a
//! large struct for a message of no bytes.

use logtide_model::codec::{take, take_var_u64};

/// What is known about a message: the fewest bytes that it has, and which of its fields are messages.
struct Shape {
    least: usize,
    messages: &'static [(u64, &'static Shape)],
}

const LEAF: Shape = Shape { least: 0, messages: &[] };
/// With nothing but `sha256`.
const DATA_FILE: Shape = Shape { least: 34, messages: &[(22, &LEAF), (23, &LEAF)] };
/// With nothing but a `path` of one byte.
const GROUP: Shape = Shape { least: 3, messages: &[(2, &DATA_FILE)] };
const METADATA: Shape = Shape { least: 1, messages: &[(1, &DATA_FILE), (6, &GROUP)] };

/// Where the first field of a metadata object begins that cannot be, and why.
pub(crate) fn check_metadata(bytes: &[u8]) -> Result<(), (usize, &'static str)> {
    walk(bytes, &METADATA)
}

fn walk(bytes: &[u8], shape: &Shape) -> Result<(), (usize, &'static str)> {
    if bytes.len() < shape.least {
        return Err((0, "a message is too short for what it must have"));
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (tag, len) = head(&mut rest).map_err(|what| (at, what))?;
        let inner = bytes.len() - rest.len();
        let field = take(&mut rest, len).map_err(|_| (at, "a protobuf field ends after its message"))?;
        let message = shape.messages.iter().find(|(number, _)| (number << 3 | DELIMITED) == tag);
        if let Some((_, shape)) = message {
            walk(field, shape).map_err(|(offset, what)| (inner + offset, what))?;
        }
    }
    Ok(())
}

/// Wire type of strings, bytes and messages.
const DELIMITED: u64 = 2;

/// The tag of a field, and how many bytes it has behind what was read.
fn head(rest: &mut &[u8]) -> Result<(u64, usize), &'static str> {
    const CUT: &str = "a protobuf number is cut or longer than 64 bits";
    let tag = take_var_u64(rest).map_err(|_| CUT)?;
    let len = match tag & 7 {
        _ if tag < 8 => return Err("protobuf field number 0"),
        0 => take_var_u64(rest).map_err(|_| CUT).map(|_| 0)?,
        1 => 8,
        DELIMITED => take_var_u64(rest).map_err(|_| CUT)?,
        5 => 4,
        _ => return Err("unknown protobuf wire type"),
    };
    usize::try_from(len).map(|len| (tag, len)).map_err(|_| CUT)
}
