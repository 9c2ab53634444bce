//! A proxy on loopback that plays every server: it writes down what it is asked, and says yes.
//!
//! What is asked over TLS it reads too, for its own certificate authority vouches for every host, so that a test sees the
//! service's own addresses as well as an endpoint's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::answers::answer;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Host and port that it was meant for; no port where it is the one of http.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) target: String,
    /// By their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{} {}\n{}\n\n{}", self.method, self.target, headers.join("\n"), self.body)
    }
}

pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    /// The certificate that vouches for it, as PEM.
    pub(crate) authority: String,
    seen: Arc<Mutex<Vec<Request>>>,
    _runtime: Runtime,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let line = Arc::new(Line { issuer: Issuer::new(params, key), seen: Arc::default() });
        let seen = line.seen.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = line.clone();
                // A client that goes away concerns the client.
                tokio::spawn(async move { drop(line.serve(client).await) });
            }
        });
        Recorder { address, authority, seen, _runtime: runtime }
    }

    /// What came since it was asked last.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

struct Line {
    issuer: Issuer<'static, KeyPair>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Line {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        while let Some(mut request) = read(&mut client).await? {
            if request.method == "CONNECT" {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                return self.serve_tls(client, &request.target).await;
            }
            // A proxy is told the whole URL.
            let whole = request.target.strip_prefix("http://").map(str::to_owned).unwrap_or_default();
            let (host, target) = whole.split_once('/').unwrap_or((&whole, ""));
            (request.host, request.target) = (host.to_owned(), format!("/{target}"));
            self.say(&mut client, request).await?;
        }
        Ok(())
    }

    async fn serve_tls(&self, client: TcpStream, host: &str) -> std::io::Result<()> {
        let config = self.config(host.split(':').next().unwrap());
        let mut client = TlsAcceptor::from(Arc::new(config)).accept(client).await?;
        while let Some(mut request) = read(&mut client).await? {
            request.host = host.to_owned();
            self.say(&mut client, request).await?;
        }
        Ok(())
    }

    async fn say(&self, client: &mut (impl AsyncWrite + Unpin), request: Request) -> std::io::Result<()> {
        let answer = answer(&request);
        self.seen.lock().unwrap().push(request);
        client.write_all(answer.as_bytes()).await?;
        client.flush().await
    }

    fn config(&self, host: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        config.with_no_client_auth().with_single_cert(vec![server.der().clone()], key).unwrap()
    }
}

/// The next request of a connection: `None` at its end.
async fn read(client: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let headers = rest.lines().filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body).await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, host: String::new(), target, headers, body }))
}
