//! A proxy that stands between a client and a server and does to single requests what networks and servers do.
//!
//! It speaks HTTP/1.1, one request on a connection, and passes bytes on as they are: signatures stay valid, for the name
//! of the host that is signed is the proxy's own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The server never sees it; this is the answer: status line's rest, headers, body.
    Answer(&'static str, &'static str, &'static str),
    /// The server does it, and the connection is reset instead of an answer.
    ResetAfter,
    /// The connection is reset before the server sees it.
    ResetBefore,
    /// Half of the answer's body comes, then the connection is closed.
    HalfAnswer,
    /// One bit of the request's body is another one when it arrives.
    FlippedBit,
    /// It takes its time.
    Slow(Duration),
}

/// A request that came by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// The request line and the headers.
    pub(crate) head: String,
}

#[derive(Debug, Default)]
struct State {
    away: bool,
    /// For requests of this method, in turn.
    faults: VecDeque<(&'static str, Fault)>,
    /// For all requests of this method.
    always: Option<(&'static str, Fault)>,
    seen: Vec<Seen>,
}

/// It ends with the value.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Proxy {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                // What a client that went away makes of it concerns nobody.
                tokio::spawn(async move { drop(serve(client, server, &state).await) });
            }
        });
        Proxy { address, state, listening }
    }

    /// Lets these happen to the next requests of a method, one each.
    pub(crate) fn next(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults.into_iter().map(|fault| (method, fault)));
    }

    /// Lets this happen to every request of a method.
    pub(crate) fn always(&self, method: &'static str, fault: Fault) {
        self.state.lock().unwrap().always = Some((method, fault));
    }

    /// Everything is well again.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        (state.away, state.always) = (false, None);
        state.faults.clear();
    }

    /// As if the server were not there.
    pub(crate) fn away(&self) {
        self.state.lock().unwrap().away = true;
    }

    /// The requests of a method that came by since the last time.
    pub(crate) fn take_seen(&self, method: &str) -> Vec<Seen> {
        let mut state = self.state.lock().unwrap();
        let seen = std::mem::take(&mut state.seen);
        seen.into_iter().filter(|seen| seen.method == method).collect()
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let (head, mut body) = read_request(&mut client).await?;
    let method = head.split(' ').next().unwrap_or_default().to_owned();
    let fault = {
        let mut state = state.lock().unwrap();
        state.seen.push(Seen { method: method.clone(), head: head.clone() });
        if state.away {
            return reset(client);
        }
        let due = state.faults.iter().position(|(wanted, _)| *wanted == method);
        let fault = due.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault);
        fault.or_else(|| state.always.clone().filter(|(wanted, _)| *wanted == method).map(|(_, fault)| fault))
    };
    match fault {
        Some(Fault::Answer(status, headers, text)) => {
            let length = text.len();
            let answer =
                format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{text}");
            return client.write_all(answer.as_bytes()).await;
        }
        Some(Fault::ResetBefore) => return reset(client),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::FlippedBit) => body[0] ^= 1,
        Some(Fault::ResetAfter | Fault::HalfAnswer) | None => {}
    }
    let answer = ask(server, &head, &body).await?;
    match fault {
        Some(Fault::ResetAfter) => reset(client),
        Some(Fault::HalfAnswer) => {
            let body_at = find(&answer, b"\r\n\r\n").unwrap_or(answer.len());
            client.write_all(&answer[..body_at + (answer.len() - body_at) / 2]).await
        }
        _ => client.write_all(&answer).await,
    }
}

/// Head and body of one request.
async fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let wanted = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let start = body.len();
    body.resize(wanted, 0);
    client.read_exact(&mut body[start..]).await?;
    Ok((head, body))
}

/// The whole answer of the server, which closes after it.
async fn ask(server: SocketAddr, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await?;
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
