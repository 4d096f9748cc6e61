//! Serves a webhook and drains it: API servers keep connections open for long, and a request that
//! is in flight while its connection is closed means a rejected object.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;

use crate::drain;
use crate::tls::Incoming;

/// How long connections may stay open after the drain has begun.
const FAREWELL: Duration = Duration::from_secs(3);

/// Serves until the drain begins, and then until the last connection is closed, at most for three
/// seconds: new connections are still accepted, and each response tells its client that the
/// connection will be closed.
///
/// # Errors
/// If the listener fails.
pub async fn serve(connections: Incoming, pages: Router, drain: drain::Watch) -> io::Result<()> {
    let open = connections.open();
    let pages = pages.layer(middleware::from_fn_with_state(drain.clone(), take_leave));
    let farewell = async move {
        drain.signaled().await;
        // Either all connections are closed, or the remaining ones are idle.
        let _: Result<(), tokio::time::error::Elapsed> =
            tokio::time::timeout(FAREWELL, open.none()).await;
    };
    axum::serve(connections, pages)
        .with_graceful_shutdown(farewell)
        .await
}

/// HTTP/2 has a frame for this, which the server sends itself.
async fn take_leave(State(drain): State<drain::Watch>, request: Request, next: Next) -> Response {
    let is_told_by_header = request.version() < Version::HTTP_2;
    let mut answer = next.run(request).await;
    if is_told_by_header && drain.is_signaled() {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}
