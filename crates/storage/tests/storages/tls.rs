//! TLS, with certificates that nobody but we know: the server stands behind one that ends TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use logtide_model::Diagnose;
use logtide_storage::{Trouble, classify, open, probe};
use object_store::ObjectStoreExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::place::{below, path, unique};
use crate::server;

/// A certificate authority of our own, as PEM, and the TLS of a server at 127.0.0.1 that it vouches for.
fn authority_and_server() -> (String, ServerConfig) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = config.with_no_client_auth().with_single_cert(vec![server.der().clone()], key).unwrap();
    (authority.pem(), config)
}

/// Takes TLS off and passes everything on.
async fn before(server: SocketAddr, config: ServerConfig) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listening = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                // How a connection ends concerns its two ends.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    (address, listening)
}

#[tokio::test]
async fn a_server_is_trusted_by_the_certificates_of_a_file() {
    let url = below(&server::url(), &unique("tls"));
    let authority = url.split_once("endpoint=http://").unwrap().1.split(['/', '&']).next().unwrap();
    let (pem, config) = authority_and_server();
    let (address, listening) = before(authority.parse().unwrap(), config).await;
    let url = url.replace(&format!("http://{authority}"), &format!("https://{address}"));

    let stranger = open(&url).unwrap();
    let error = stranger.store.put(&path("x"), "x".into()).await.unwrap_err();
    assert_eq!(classify(&error), Trouble::Unavailable, "{error}");
    assert!(error.to_string().contains("certificate"), "the reason is not told: {error}");
    let told = probe(&stranger).await.unwrap_err();
    assert!(told.remedy().contains("ca-file"), "{told}\n{}", told.remedy());

    let file = tempfile::NamedTempFile::new().unwrap();
    let with_file = format!("{url}&ca-file={}", file.path().display());
    let empty = open(&with_file).unwrap_err();
    assert!(empty.to_string().contains("holds no certificate") && empty.remedy().contains("ca-file"), "{empty}");
    std::fs::write(file.path(), pem).unwrap();
    let trusting = open(&with_file).unwrap();
    trusting.store.put(&path("x"), "x".into()).await.unwrap();
    assert_eq!(trusting.store.get(&path("x")).await.unwrap().bytes().await.unwrap(), "x");
    assert!(trusting.url.contains("ca-file="));
    listening.abort();
}
