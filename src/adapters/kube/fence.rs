//! Keeping writes inside the time in which a cluster's Lease is surely this process's own.
//!
//! A check before a request is not enough: the process can be stopped between the check and the moment the bytes leave
//! it, for longer than the lease. So the connections that writes go through ask at each write to their socket. What has
//! left the process is bounded by the kernel, which gives up bytes that nobody acknowledges, and by the API server, which
//! is told how long a request may take. A request can still wait where neither sees it: in a server that is itself
//! stopped, or in a proxy. Kubernetes has no precondition that spans a node and a Lease.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE64;
use http::{HeaderValue, Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ClientBuilder, ConfigExt};
use percent_encoding::percent_decode_str;
use tower::{BoxError, Service, ServiceBuilder};

use super::CallError;

/// Whether this process may write to a cluster at this very moment.
///
/// Both clocks count: the steady one stands still while a machine sleeps, and the other can be set.
#[derive(Debug)]
pub struct Fence {
    /// Who asks it.
    pub(super) identity: String,
    until: Mutex<Option<(Instant, SystemTime)>>,
    /// How much later than this fence closes another process may write, at the earliest.
    slack: Duration,
    /// Held by every write under way.
    under_way: tokio::sync::RwLock<()>,
}

impl Fence {
    pub(super) fn new(identity: &str, slack: Duration) -> Self {
        let identity = identity.to_owned();
        Self { identity, until: Mutex::default(), slack, under_way: tokio::sync::RwLock::default() }
    }

    /// Whether a write may be sent now.
    pub fn permits(&self) -> bool {
        self.left().is_some()
    }

    /// How long writes may still be sent.
    fn left(&self) -> Option<Duration> {
        let (steady, wall) = (*self.until.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = wall.duration_since(SystemTime::now()).ok()?.min(steady.saturating_duration_since(Instant::now()));
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn set(&self, until: Option<(Instant, SystemTime)>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Closes, and returns once no write is under way any more.
    pub(super) async fn close(&self) {
        self.set(None);
        drop(self.under_way.write().await);
    }

    /// Makes a write, which the API server is told to give up before another process may write.
    pub(super) async fn guard<T>(
        &self,
        request: &Request<Vec<u8>>,
        send: impl AsyncFnOnce(Request<Vec<u8>>, Duration) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let _under_way = self.under_way.read().await;
        let limit = self.left().ok_or(CallError::Fenced)? + self.slack;
        match send(ending_within(request, limit), limit).await {
            Err(_) if !self.permits() => Err(CallError::Fenced),
            done => done,
        }
    }

    fn refuse(&self) -> Option<io::Error> {
        (!self.permits()).then(|| io::Error::other(CallError::Fenced))
    }
}

fn ending_within(request: &Request<Vec<u8>>, limit: Duration) -> Request<Vec<u8>> {
    let mut request = request.clone();
    let separator = if request.uri().query().is_some() { '&' } else { '?' };
    if let Ok(uri) = format!("{}{separator}timeout={}ms", request.uri(), limit.as_millis()).parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// A client whose bytes leave this process only while the fence permits it.
pub(super) fn client(config: &Config, fence: &Arc<Fence>) -> Result<kube::Client, kube::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(config.connect_timeout);
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(fence.slack));
    let gate = Gate { http, fence: fence.clone() };
    let Some(proxy) = config.proxy_url.clone() else { return assemble(config, gate) };
    match proxy.scheme_str() {
        Some("socks5") => assemble(config, SocksV5::new(proxy, gate)),
        Some("https") => assemble(config, tunnel(proxy, config.rustls_https_connector_with_connector(gate)?)),
        _ => assemble(config, tunnel(proxy, gate)),
    }
}

/// A way through an HTTP proxy, with the user and password that its address may hold.
fn tunnel<C>(proxy: Uri, connector: C) -> Tunnel<C> {
    let user = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@')).map(|(user, _)| user);
    let basic = user.map(|user| format!("Basic {}", BASE64.encode(&percent_decode_str(user).collect::<Vec<u8>>())));
    let tunnel = Tunnel::new(proxy, connector);
    match basic.and_then(|basic| HeaderValue::try_from(basic).ok()) {
        Some(basic) => tunnel.with_auth(basic),
        None => tunnel,
    }
}

/// The layers of kube's own client over a connector.
fn assemble<C>(config: &Config, connector: C) -> Result<kube::Client, kube::Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let https = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build::<_, Body>(https));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Connects, and lets through the fence what is written to the connection.
#[derive(Clone)]
struct Gate {
    http: HttpConnector,
    fence: Arc<Fence>,
}

impl Service<Uri> for Gate {
    type Response = Gated<<HttpConnector as Service<Uri>>::Response>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Uri>::poll_ready(&mut self.http, cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, fence) = (self.http.call(to), self.fence.clone());
        Box::pin(async move { Ok(Gated { stream: connecting.await?, fence }) })
    }
}

/// A connection whose writes ask the fence. One that is refused ends the connection: no half of a request follows later.
struct Gated<S> {
    stream: S,
    fence: Arc<Fence>,
}

impl<S: Connection> Connection for Gated<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<S: Read + Unpin> Read for Gated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: Write + Unpin> Write for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.fence.refuse() {
            Some(refused) => Poll::Ready(Err(refused)),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn fence(open: bool) -> Arc<Fence> {
        let fence = Arc::new(Fence::new("a", Duration::from_secs(2)));
        let later = Duration::from_secs(60);
        fence.set(open.then(|| (Instant::now() + later, SystemTime::now() + later)));
        fence
    }

    fn patch() -> Request<Vec<u8>> {
        Request::patch("/api/v1/nodes/a?fieldManager=drover").body(Vec::new()).expect("a request")
    }

    #[tokio::test]
    async fn a_connection_that_is_open_already_writes_only_while_the_fence_permits() {
        let fence = fence(true);
        let (here, mut there) = duplex(64);
        let mut gated = Gated { stream: TokioIo::new(here), fence: fence.clone() };
        assert_eq!(poll_fn(|cx| Pin::new(&mut gated).poll_write(cx, b"in time")).await.expect("written"), 7);
        fence.set(None);
        let refused = poll_fn(|cx| Pin::new(&mut gated).poll_write(cx, b"too late")).await;
        assert_eq!(refused.expect_err("refused").to_string(), CallError::Fenced.to_string());
        drop(gated);
        let mut got = Vec::new();
        there.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"in time");
    }

    #[tokio::test]
    async fn either_clock_closes_the_fence() {
        let (now, wall, later) = (Instant::now(), SystemTime::now(), Duration::from_secs(60));
        let fence = fence(false);
        assert!(!fence.permits());
        for (until, permits) in
            [((now + later, wall + later), true), ((now, wall + later), false), ((now + later, wall - later), false)]
        {
            fence.set(Some(until));
            assert_eq!(fence.permits(), permits);
        }
    }

    #[tokio::test]
    async fn the_api_server_is_told_when_a_write_must_end() {
        let path = fence(true).guard(&patch(), async |request, limit| Ok((request.uri().to_string(), limit))).await;
        let (path, limit) = path.expect("permitted");
        assert!(limit <= Duration::from_secs(62) && limit > Duration::from_secs(50), "{limit:?}");
        assert_eq!(path, format!("/api/v1/nodes/a?fieldManager=drover&timeout={}ms", limit.as_millis()));
    }

    #[tokio::test]
    async fn a_closed_fence_lets_nothing_begin_and_names_itself_as_the_cause() {
        let never: Result<(), _> = fence(false).guard(&patch(), async |_, _| unreachable!("nothing is sent")).await;
        assert_eq!(never, Err(CallError::Fenced));
        let fence = fence(true);
        let lost: Result<(), _> = fence
            .guard(&patch(), async |_, _| {
                fence.set(None);
                Err(CallError::TimedOut)
            })
            .await;
        assert_eq!(lost, Err(CallError::Fenced));
    }

    #[tokio::test]
    async fn closing_waits_for_what_is_under_way() {
        let fence = fence(true);
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let request = patch();
        let write = fence.guard(&request, async |_, _| {
            wait.await.expect("told");
            Ok(fence.permits())
        });
        let close = async {
            let closing = fence.close();
            tokio::pin!(closing);
            assert!(futures::poll!(&mut closing).is_pending(), "a write is under way");
            done.send(()).expect("it waits");
            closing.await;
        };
        let (written, ()) = tokio::join!(write, close);
        assert_eq!(written, Ok(false), "it ended although the fence was closed");
    }
}
