//! What the recorder says: to a question for credentials, some; else that all went well.

use crate::recorder::Request;

/// What credentials that a service gives are made of.
pub(crate) const GIVEN: &str = "GIVEN";

/// Times to come, as Amazon and Azure write them.
const LATE: &str = "2999-01-01T00:00:00Z";
const LATE_SECONDS: &str = "32472144000";

pub(crate) fn answer(request: &Request) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let asks = |part: &str| path.contains(part);
    let body = if query.contains("Action=AssumeRole") || request.body.contains("Action=AssumeRole") {
        role()
    } else if asks("/latest/api/token") {
        "session".to_owned()
    } else if path.ends_with("/security-credentials/") {
        "role".to_owned()
    } else if asks("/security-credentials/") || asks("/container-credentials") {
        format!(r#"{{"AccessKeyId":"{GIVEN}","SecretAccessKey":"s","Token":"{GIVEN}-T","Expiration":"{LATE}"}}"#)
    } else if asks("/token") {
        format!(r#"{{"access_token":"{GIVEN}","expires_in":3600,"expires_on":"{LATE_SECONDS}","token_type":"Bearer"}}"#)
    } else if query.contains("uploads") {
        "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>".to_owned()
    } else if request.method == "POST" {
        "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>".to_owned()
    } else {
        String::new()
    };
    // A machine that knows the old way to its credentials only.
    let status = if request.host == "old.example" && asks("/api/token") { "403 Forbidden" } else { "200 OK" };
    let length = body.len();
    let time = "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT";
    format!(
        "HTTP/1.1 {status}\r\netag: \"e\"\r\n{time}\r\nx-goog-generation: 1\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn role() -> String {
    let credentials = format!(
        "<Credentials><AccessKeyId>{GIVEN}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>{GIVEN}-T</SessionToken><Expiration>{LATE}</Expiration></Credentials>"
    );
    // Each reader looks for its own.
    format!(
        "<Response><AssumeRoleWithWebIdentityResult>{credentials}</AssumeRoleWithWebIdentityResult>\
         <AssumeRoleResult>{credentials}</AssumeRoleResult></Response>"
    )
}
