//! What becomes of requests when a real server, or the way to it, fails: the server stands behind a [`Proxy`].
//!
//! The rule that all of it serves: a put that is repeated with the same name and bytes until it succeeds ends in one
//! object with those bytes, whatever happened before.

use std::time::Duration;

use futures::future::join_all;
use logtide_storage::{Storage, StorageError, Trouble, classify, open, probe};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::place::{below, bytes, names, path, read, unique};
use crate::proxy::{Fault, Proxy, header};
use crate::server;

const SLOW_DOWN: Fault = Fault::Answer(
    "503 Slow Down",
    "retry-after: 2\r\n",
    "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
);
const BROKEN: Fault = Fault::Answer("500 Internal Server Error", "", "<Error><Code>InternalError</Code></Error>");

/// A storage of the server behind a proxy.
pub(crate) struct Lab {
    pub(crate) proxy: Proxy,
    pub(crate) storage: Storage,
}

impl Lab {
    pub(crate) async fn new(test: &str) -> Self {
        Lab::with(test, "").await
    }

    async fn with(test: &str, parameters: &str) -> Self {
        let url = below(&server::url(), &unique(test));
        let rest = url.split_once("endpoint=http://").unwrap().1;
        let authority = rest.split(['/', '&']).next().unwrap();
        let proxy = Proxy::before(authority.parse().unwrap()).await;
        let url = format!("{}{parameters}", url.replace(authority, &proxy.address.to_string()));
        Lab { storage: open(&url).unwrap(), proxy }
    }

    async fn put(&self, content: &[u8]) -> Result<(), Error> {
        let payload = PutPayload::from(content.to_vec());
        self.storage.store.put(&path("x"), payload).await.map(drop)
    }

    /// As the flusher does it: with the same name and bytes until the storage says yes; the troubles on the way.
    async fn put_until_done(&self, content: &[u8]) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        while let Err(error) = self.put(content).await {
            troubles.push(classify(&error));
            assert!(troubles.len() < 50, "{error}");
        }
        troubles
    }

    /// One object with those bytes, and nothing else.
    async fn assert_holds(&self, content: &[u8]) {
        assert_eq!(names(&self.storage.store, None).await, ["x"]);
        assert!(read(&self.storage.store, "x").await == content, "another content");
    }
}

fn is_s3() -> bool {
    lab_kind() == "s3"
}

#[tokio::test]
async fn slow_down_is_a_rate_signal_and_a_write_is_not_repeated_on_it() {
    let lab = Lab::new("slow-down").await;
    lab.proxy.next("PUT", [SLOW_DOWN]);
    let error = lab.put(b"x").await.unwrap_err();
    let expected = Trouble::RateLimited { retry_after: Some(Duration::from_secs(2)) };
    assert_eq!(classify(&error), expected, "{error}");
    assert!(error.to_string().contains("Please reduce your request rate"), "{error}");
    assert_eq!(lab.proxy.take_seen("PUT").len(), 1, "it was repeated below the caller");
    assert_eq!(lab.put_until_done(b"x").await, []);
    lab.assert_holds(b"x").await;
}

#[tokio::test]
async fn a_crowd_of_writers_makes_no_storm() {
    let lab = Lab::new("storm").await;
    lab.proxy.always("PUT", SLOW_DOWN);
    let at: Vec<_> = (0..16).map(|i| path(&format!("{i}"))).collect();
    let answers = join_all(at.iter().map(|at| lab.storage.store.put(at, "x".into()))).await;
    assert!(answers.iter().all(|a| matches!(classify(a.as_ref().unwrap_err()), Trouble::RateLimited { .. })));
    assert_eq!(lab.proxy.take_seen("PUT").len(), 16, "one request for each call");
    lab.proxy.heal();
    assert_eq!(names(&lab.storage.store, None).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_read_is_repeated_on_slow_down() {
    let lab = Lab::new("slow-read").await;
    lab.put(b"x").await.unwrap();
    lab.proxy.take_seen("GET");
    lab.proxy.next("GET", [SLOW_DOWN, SLOW_DOWN]);
    assert_eq!(read(&lab.storage.store, "x").await, b"x");
    assert_eq!(lab.proxy.take_seen("GET").len(), 3);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_repeated_into_one_object() {
    let lab = Lab::new("ambiguous").await;
    let content = bytes(300_000, 1);
    // More often than it is repeated below the caller.
    lab.proxy.next("PUT", vec![Fault::ResetAfter; 4]);
    let troubles = lab.put_until_done(&content).await;
    assert_eq!(troubles, [Trouble::Unavailable]);
    lab.assert_holds(&content).await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_finds_its_own_object() {
    let lab = Lab::new("ambiguous-create").await;
    if !probe(&lab.storage).await.unwrap().create_if_absent {
        return; // Then the flusher puts plainly, and the test above holds.
    }
    lab.proxy.next("PUT", [Fault::ResetAfter]);
    let at = path("x");
    let create = || lab.storage.store.put_opts(&at, "same".into(), PutMode::Create.into());
    // Repeated below the caller or not, the object is there, and it is the caller who compares.
    let mut answers = vec![classify(&create().await.unwrap_err())];
    if answers[0] == Trouble::Unavailable {
        answers.push(classify(&create().await.unwrap_err()));
    }
    assert_eq!(answers.last(), Some(&Trouble::Precondition), "{answers:?}");
    lab.assert_holds(b"same").await;
}

#[tokio::test]
async fn a_blip_is_hidden_and_a_longer_trouble_is_told() {
    let lab = Lab::new("blip").await;
    lab.proxy.next("PUT", [BROKEN, Fault::ResetBefore]);
    assert_eq!(lab.put_until_done(b"x").await, []);
    assert_eq!(lab.proxy.take_seen("PUT").len(), 3);
    lab.proxy.next("PUT", vec![BROKEN; 3]);
    assert_eq!(lab.put_until_done(b"x").await, [Trouble::Unavailable]);
    lab.assert_holds(b"x").await;
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_gets_the_object_when_it_returns() {
    let lab = Lab::new("away").await;
    lab.proxy.away();
    for _ in 0..3 {
        let error = lab.put(b"x").await.unwrap_err();
        assert_eq!(classify(&error), Trouble::Unavailable, "{error}");
    }
    let refused = probe(&lab.storage).await.unwrap_err();
    assert!(matches!(refused, StorageError::Object { .. }), "{refused}");
    lab.proxy.heal();
    assert_eq!(lab.put_until_done(b"x").await, []);
    lab.assert_holds(b"x").await;
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_the_object() {
    let lab = Lab::new("half").await;
    let content = bytes(500_000, 2);
    lab.put(&content).await.unwrap();
    lab.proxy.next("GET", vec![Fault::HalfAnswer; 2]);
    let mut whole = 0;
    while whole < 2 {
        let got = match lab.storage.store.get(&path("x")).await {
            Ok(got) => got.bytes().await,
            Err(e) => Err(e),
        };
        match got {
            Ok(got) => {
                assert!(got == content, "{} of {} bytes", got.len(), content.len());
                whole += 1;
            }
            Err(error) => assert_eq!(classify(&error), Trouble::Unavailable, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let lab = Lab::new("slow").await;
    lab.proxy.next("PUT", [Fault::Slow(Duration::from_millis(400))]);
    assert_eq!(lab.put_until_done(b"x").await, []);
    lab.assert_holds(b"x").await;
}

#[tokio::test]
async fn refused_credentials_are_told_apart() {
    let lab = Lab::new("denied").await;
    for (status, body) in [
        ("400 Bad Request", "<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"),
        ("403 Forbidden", "<Error><Code>AccessDenied</Code><AWSAccessKeyId>ECHO</AWSAccessKeyId></Error>"),
        ("401 Unauthorized", ""),
    ] {
        lab.proxy.next("PUT", [Fault::Answer(status, "", body)]);
        let error = lab.put(b"x").await.unwrap_err();
        assert_eq!(classify(&error), Trouble::Denied, "{error}");
        assert!(!format!("{error:?}").contains("ECHO"), "{error:?}");
    }
    lab.proxy.next("PUT", [Fault::Answer("403 Forbidden", "", "<Error><Code>QuotaExceeded</Code></Error>")]);
    assert_eq!(classify(&lab.put(b"x").await.unwrap_err()), Trouble::Full);
}

#[tokio::test]
async fn a_redirect_is_not_followed_but_explained() {
    let lab = Lab::new("redirect").await;
    let headers = "location: http://127.0.0.1:1/\r\nx-amz-bucket-region: eu-west-3\r\n";
    let redirect = Fault::Answer("307 Temporary Redirect", headers, "");
    lab.proxy.next("PUT", [redirect.clone()]);
    lab.proxy.next("GET", [redirect]);
    let get = lab.storage.store.get(&path("x")).await.unwrap_err();
    for error in [lab.put(b"x").await.unwrap_err(), get] {
        assert_eq!(classify(&error), Trouble::Permanent, "{error}");
        assert!(error.to_string().contains("eu-west-3"), "{error}");
    }
}

#[tokio::test]
async fn an_upload_in_parts_survives_a_lost_answer_at_each_step() {
    let lab = Lab::new("parts").await;
    let content = bytes((5 << 20) + 1000, 3);
    let (first, second) = content.split_at(5 << 20);
    let verbs: &[&str] = if is_s3() { &["POST", "PUT"] } else { &["PUT"] };
    for (method, step) in verbs.iter().flat_map(|method| (0..3).map(move |step| (*method, step))) {
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 5, "{method} {step}");
            let upload = async {
                let mut upload = lab.storage.store.put_multipart(&path("x")).await?;
                if tries == 1 && step == 1 {
                    lab.proxy.next(method, [Fault::ResetAfter]);
                }
                upload.put_part(first.to_vec().into()).await?;
                upload.put_part(second.to_vec().into()).await?;
                if tries == 1 && step == 2 {
                    lab.proxy.next(method, [Fault::ResetAfter]);
                }
                upload.complete().await
            };
            if tries == 1 && step == 0 {
                lab.proxy.next(method, [Fault::ResetAfter]);
            }
            if upload.await.is_ok() {
                break;
            }
        }
        lab.assert_holds(&content).await;
    }
}

#[tokio::test]
async fn a_body_that_changed_on_the_way_is_not_stored() {
    let lab = Lab::new("flipped").await;
    lab.proxy.always("PUT", Fault::FlippedBit);
    let answer = lab.put(&bytes(10_000, 4)).await;
    if server::has_defect("takes-changed-bodies") {
        assert!(answer.is_ok(), "{answer:?}");
        return; // Whoever restores compares the bytes with the checksums in the metadata.
    }
    let error = answer.unwrap_err();
    assert!(!matches!(classify(&error), Trouble::NotFound | Trouble::Precondition), "{error}");
    assert_eq!(names(&lab.storage.store, None).await, Vec::<String>::new());
}

#[tokio::test]
async fn encryption_and_class_are_asked_for_with_every_object() {
    let (parameters, class, header_of_class) = match lab_kind() {
        "s3" => {
            ("&sse=AES256&storage-class=STANDARD_IA&object-lock-enabled=true", "STANDARD_IA", "x-amz-storage-class")
        }
        "gcs" => ("&storage-class=NEARLINE", "NEARLINE", "x-goog-storage-class"),
        _ => ("&access-tier=Cool", "Cool", "x-ms-access-tier"),
    };
    let lab = Lab::with("headers", parameters).await;
    let answer = lab.put(b"x").await;
    assert_eq!(answer.is_err(), server::has_defect("no-classes"), "{answer:?}");
    let seen = lab.proxy.take_seen("PUT").remove(0);
    assert_eq!(header(&seen.head, header_of_class), Some(class));
    assert_eq!(lab.storage.url.split_once('?').map(|(_, query)| query.contains(class)), Some(true));
    if is_s3() {
        assert_eq!(header(&seen.head, "x-amz-server-side-encryption"), Some("AES256"));
        assert!(header(&seen.head, "x-amz-checksum-sha256").is_some(), "{}", seen.head);
        let signed = header(&seen.head, "authorization").unwrap();
        assert!(signed.contains("x-amz-server-side-encryption") && signed.contains(header_of_class), "{signed}");
    }
}

fn lab_kind() -> &'static str {
    ["s3", "gcs", "azure"].into_iter().find(|kind| server::url().starts_with(kind)).unwrap()
}
