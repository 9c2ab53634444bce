//! What is said of a storage that cannot be used, and of what to do about it. No secret is in it.

use std::io::Write;
use std::net::TcpListener;

use crate::process::probe_in;

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";
const KEYS: &str = "access-key=AK&secret-access-key=S3CRET";

fn assert_told(environment: &[(&str, &str)], url: &str, says: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let said = probe_in(environment, url, home.path()).unwrap_err();
    for part in says {
        assert!(said.contains(part), "{url} {environment:?}: no '{part}' in {said}");
    }
    assert!(!said.contains("S3CRET"), "{said}");
}

#[test]
fn a_server_that_cannot_be_reached_is_told() {
    for (host, says) in [
        ("http://no-such-host.invalid", ["lookup address", "can reach"]),
        (NOBODY, ["Connection refused", "can reach"]),
    ] {
        assert_told(&[], &format!("s3://b/p?endpoint={host}&{KEYS}"), &says);
    }
}

#[test]
fn a_server_without_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://b/p?endpoint=https://{}&{KEYS}", listener.local_addr().unwrap());
    // It ends with the process.
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    assert_told(&[], &url, &["http:// if the server has no TLS"]);
}

#[test]
fn missing_credentials_are_told_and_not_as_a_trouble_that_passes() {
    let nobody = [("HTTP_PROXY", NOBODY)];
    for url in ["s3://b/p", "gcs://b/p", "azure://c/p?account-name=n"] {
        let says = ["there are no credentials: neither the URL nor the environment", "in its parameters"];
        assert_told(&nobody, url, &says);
    }
    let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"), ("AWS_ROLE_ARN", "r")];
    assert_told(&identity, "s3://b/p", &["/nowhere/token", "gives none", "give credentials"]);
    let login = [
        ("AZURE_CLIENT_ID", "i"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_SECRET", "S3CRET"),
        ("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1"),
    ];
    assert_told(&login, "azure://c/p?account-name=n", &["login of AZURE_CLIENT_ID cannot be asked", "can reach"]);
}

#[test]
fn a_role_that_cannot_be_taken_is_told() {
    let url = format!("s3://b/p?role-arn=arn:aws:iam::1:role/r&{KEYS}");
    assert_told(&[("AWS_ENDPOINT_URL_STS", NOBODY)], &url, &["'arn:aws:iam::1:role/r' at", "Connection refused"]);
}

#[test]
fn a_variable_that_cannot_be_used_is_named() {
    let with_keys = format!("s3://b/p?{KEYS}");
    for (url, name, value, says) in [
        ("s3://b/p", "AWS_ACCESS_KEY_ID", "k", "there is no AWS_SECRET_ACCESS_KEY"),
        ("s3://b/p", "AWS_SECRET_ACCESS_KEY", "S3CRET", "there is no AWS_ACCESS_KEY_ID"),
        ("s3://b/p", "AWS_SESSION_TOKEN", "S3CRET\n", "a line end"),
        ("s3://b/p", "AWS_PROFILE", "none", "no credentials of 'none'"),
        ("s3://b/p", "AWS_WEB_IDENTITY_TOKEN_FILE", "/t", "there is no AWS_ROLE_ARN"),
        ("s3://b/p", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://h", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        (&with_keys, "AWS_ENDPOINT_URL", "h:9000", "https://host:port"),
        (&with_keys, "AWS_REGION", "a/b", "us-east-1"),
        (&with_keys, "LOGTIDE_CA_FILE", "/nowhere/ca.pem", "PEM"),
    ] {
        assert_told(&[(name, value)], url, &[&format!("'{name}'"), says]);
    }
}
