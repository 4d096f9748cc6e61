use std::convert::Infallible;

use axum::{Router, http::HeaderMap, response::Redirect, routing::get};
use tokio::net::TcpListener;

use super::*;

fn target() -> Target {
    Target {
        address: Ipv4Addr::LOCALHOST.into(),
        status_port: 15020,
        http2: true,
    }
}

fn probes(json: &str) -> Probes {
    Probes::new(Some(json), target()).unwrap()
}

async fn application() -> u16 {
    let app = Router::new()
        .route(
            "/ok",
            get(|headers: HeaderMap| async move {
                format!(
                    "{} {}",
                    headers["host"].to_str().unwrap(),
                    headers.get("x-probe").map_or("", |v| v.to_str().unwrap())
                )
            }),
        )
        .route("/here", get(|| async { Redirect::temporary("/ok") }))
        .route(
            "/there",
            get(|| async { Redirect::temporary("http://example.com/") }),
        )
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/slow", get(std::future::pending::<Result<(), Infallible>>))
        .route("/large", get(|| async { "x".repeat(MAX_BODY * 2) }))
        .route(
            "/peer",
            get(
                |connection: axum::extract::ConnectInfo<SocketAddr>| async move {
                    connection.0.ip().to_string()
                },
            ),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        axum::serve(
            listener,
            app.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .await
        .unwrap();
    });
    port
}

async fn ask(path: &str, port: u16, headers: &HeaderMap) -> Outcome {
    let json = format!(
        "{{\"/app-health/web/readyz\":{{\"httpGet\":{{\"path\":\"{path}\",\"port\":{port}}},\"timeoutSeconds\":1}}}}"
    );
    probes(&json).run("/app-health/web/readyz", headers).await
}

#[tokio::test]
async fn http_probe_hands_on_headers_status_and_body() {
    let port = application().await;
    let mut headers = HeaderMap::new();
    headers.insert("host", "10.0.0.9:15020".parse().unwrap());
    headers.insert("x-probe", "yes".parse().unwrap());
    let outcome = ask("ok", port, &headers).await;
    assert_eq!(
        (outcome.status, outcome.body),
        (StatusCode::OK, Bytes::from(format!("10.0.0.9:{port} yes")))
    );
    assert_eq!(
        ask("/missing", port, &headers).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(ask("/here", port, &headers).await.status, StatusCode::OK);
    assert_eq!(
        ask("/there", port, &headers).await,
        Outcome::of(StatusCode::OK, "")
    );
    assert_eq!(
        ask("/loop", port, &headers).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        ask("/slow", port, &headers).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(ask("/large", port, &headers).await.body.len(), MAX_BODY);
    assert_eq!(ask("/peer", port, &headers).await.body, "127.0.0.6");
}

#[tokio::test]
async fn tcp_and_grpc_probes_and_unknown_paths() {
    let port = application().await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let probes = probes(&format!(
        "{{\"/app-health/a/livez\":{{\"tcpSocket\":{{\"port\":{port}}}}},\
          \"/app-health/b/livez\":{{\"tcpSocket\":{{\"port\":{closed}}}}},\
          \"/app-health/c/livez\":{{\"grpc\":{{\"port\":{closed}}}}}}}"
    ));
    let none = HeaderMap::new();
    assert_eq!(
        probes.run("/app-health/a/livez", &none).await.status,
        StatusCode::OK
    );
    assert_eq!(
        probes.run("/app-health/b/livez", &none).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        probes.run("/app-health/c/livez", &none).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    let unknown = probes.run("/app-health/z/livez", &none).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    assert!(unknown.body.starts_with(b"/app-health/z/livez"));
}

#[tokio::test]
async fn https_probe_accepts_a_self_signed_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["web".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![cert.der().clone()],
        rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    )
    .unwrap();
    for alpn in [&b"h2"[..], b"http/1.1"] {
        config.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let app = hyper_util::service::TowerToHyperService::new(
                Router::new().route("/ok", get(|| async { "fine" })),
            );
            hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), app)
                .await
                .unwrap();
        });
        let json = format!(
            "{{\"/app-health/w/livez\":{{\"httpGet\":{{\"path\":\"/ok\",\"port\":{port},\"scheme\":\"HTTPS\"}}}}}}"
        );
        let outcome = probes(&json)
            .run("/app-health/w/livez", &HeaderMap::new())
            .await;
        assert_eq!(
            (outcome.status, outcome.body),
            (StatusCode::OK, Bytes::from("fine"))
        );
    }
}

#[test]
fn configuration_is_checked() {
    let of = |json: &str| Probes::new(Some(json), target()).unwrap_err();
    assert!(of("{\"/ready\":{\"httpGet\":{\"port\":1}}}").contains("\"/ready\": want /app-health"));
    assert!(
        of("{\"/app-health/a/prestopz\":{\"httpGet\":{\"port\":1}}}").contains("want /app-health")
    );
    assert!(of("{\"/app-health/a/livez\":{}}").contains("0 actions"));
    assert!(
        of("{\"/app-health/a/livez\":{\"httpGet\":{\"port\":1},\"tcpSocket\":{\"port\":1}}}")
            .contains("2 actions")
    );
    assert!(
        of("{\"/app-health/a/livez\":{\"httpGet\":{\"port\":\"http\"}}}").contains("invalid type")
    );
    assert!(
        Probes::new(
            Some("{\"/app-health/a/livez\":{\"path\":\"/x\",\"port\":80}}"),
            target()
        )
        .is_ok()
    );
    assert!(Probes::new(None, target()).is_ok());
}
