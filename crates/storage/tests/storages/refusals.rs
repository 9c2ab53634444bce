//! What a task is told when a real server refuses something: what was tried, what the server said, what to do about it.

use logtide_model::Diagnose;
use logtide_storage::{StorageError, probe};

use crate::faults::Lab;
use crate::proxy::Fault;

const DENIED: Fault = Fault::Answer(
    "403 Forbidden",
    "",
    "<Error><Code>AccessDenied</Code><Message>Access Denied</Message><AWSAccessKeyId>ECHO</AWSAccessKeyId></Error>",
);
const EXPIRED: Fault =
    Fault::Answer("400 Bad Request", "", "<Error><Code>ExpiredToken</Code><Message>The token ECHO</Message></Error>");
const ELSEWHERE: Fault = Fault::Answer(
    "301 Moved Permanently",
    "x-amz-bucket-region: eu-west-9\r\n",
    "<Error><Code>PermanentRedirect</Code><Message>Use another endpoint</Message></Error>",
);
const LOCKED: Fault = Fault::Answer("403 Forbidden", "", "<Error><Code>QuotaExceeded</Code></Error>");
const UNKNOWN: Fault = Fault::Answer("501 Not Implemented", "", "<html>no</html>");
/// The server does what it is asked.
const PASSES: Fault = Fault::Slow(std::time::Duration::ZERO);

async fn told(lab: &Lab) -> Option<(StorageError, String)> {
    let error = probe(&lab.storage).await.err()?;
    lab.proxy.heal();
    let text = format!("{error}\n{}", error.remedy());
    Some((error, text))
}

#[tokio::test]
async fn a_refusal_says_what_was_tried_and_what_to_do() {
    let lab = Lab::new("refusals").await;
    for (method, faults, action, says, remedy) in [
        ("PUT", vec![DENIED], "write", "AccessDenied", "put, get, list and delete"),
        ("PUT", vec![EXPIRED], "write", "ExpiredToken", "credentials"),
        ("PUT", vec![ELSEWHERE], "write", "eu-west-9", "region"),
        ("PUT", vec![LOCKED], "write", "QuotaExceeded", "quota"),
        ("PUT", vec![UNKNOWN], "write", "answered 501\n", "endpoint"),
        ("GET", vec![DENIED], "read", "AccessDenied", "put, get, list and delete"),
        ("GET", vec![PASSES, DENIED], "list", "AccessDenied", "put, get, list and delete"),
    ] {
        // Azure has no regions.
        let remedy = if lab.storage.url.starts_with("azure:") && remedy == "region" { "account" } else { remedy };
        lab.proxy.next(method, faults);
        let (error, text) = told(&lab).await.unwrap();
        assert!(matches!(&error, StorageError::Object { action: tried, .. } if *tried == action), "{action}: {text}");
        assert!(text.contains(says) && text.contains(remedy) && text.contains(&lab.storage.url), "{text}");
        assert!(!text.contains("AWSAccessKeyId"), "{text}");
    }
}

#[tokio::test]
async fn a_storage_that_may_not_be_deleted_from_is_told() {
    let lab = Lab::new("undeletable").await;
    // Some delete many at once.
    let mut refused = 0;
    for method in ["POST", "DELETE"] {
        lab.proxy.always(method, DENIED);
        let Some((error, text)) = told(&lab).await else { continue };
        assert!(matches!(error, StorageError::Object { action: "delete", .. }), "{text}");
        assert!(text.contains("AccessDenied") && text.contains("list and delete"), "{text}");
        refused += 1;
    }
    assert_eq!(refused, 1);
}
