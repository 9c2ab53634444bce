//! Signatures as the servers compute them, of a request as it came: whether a client has a secret is seen by nothing else.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use crate::recorder::Request;

/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// RFC 2104.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let with = |pad: u8| padded.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(with(0x36)).chain_update(data).finalize();
    Sha256::new().chain_update(with(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if a request is signed with a secret by version 4 of Amazon's signatures.
pub(crate) fn is_signed(request: &Request, secret: &str) -> bool {
    let given = request.header("authorization").unwrap();
    let part = |name: &str| given.split_once(name).unwrap().1.split([',', ' ']).next().unwrap().to_owned();
    let (scope, names, signature) = (part("Credential="), part("SignedHeaders="), part("Signature="));
    let scope = scope.split_once('/').unwrap().1;
    let headers: String =
        names.split(';').map(|name| format!("{name}:{}\n", request.header(name).unwrap().trim())).collect();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let body = request.header("x-amz-content-sha256").unwrap();
    let canonical = format!("{}\n{path}\n{query}\n{headers}\n{names}\n{body}", request.method);
    let date = request.header("x-amz-date").unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| hmac(&key, part.as_bytes()));
    hex(&hmac(&key, text.as_bytes())) == signature
}

/// True if a put of a blob is signed with an account's key, in base64, by Azure's scheme of shared keys.
pub(crate) fn is_shared(request: &Request, account: &str, key: &str) -> bool {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let length = if header("content-length") == "0" { "" } else { header("content-length") };
    let standard = [
        header("content-encoding"),
        header("content-language"),
        length,
        header("content-md5"),
        header("content-type"),
        header("date"),
        header("if-modified-since"),
        header("if-match"),
        header("if-none-match"),
        header("if-unmodified-since"),
        header("range"),
    ];
    let own = request.headers.iter().filter(|(name, _)| name.starts_with("x-ms-"));
    let own: String = own.map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let query: String = query.split('&').filter_map(|p| p.split_once('=')).map(|(n, v)| format!("\n{n}:{v}")).collect();
    let text = format!("{}\n{}\n{own}/{account}{path}{query}", request.method, standard.join("\n"));
    let signature = BASE64_STANDARD.encode(hmac(&BASE64_STANDARD.decode(key).unwrap(), text.as_bytes()));
    request.header("authorization") == Some(&format!("SharedKey {account}:{signature}"))
}
