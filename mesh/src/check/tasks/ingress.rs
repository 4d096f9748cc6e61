//! Requests from outside, by host and path, in plain text and over TLS.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::check::stage::{Stage, status};
use crate::check::tls::{self, Identity};

const GATEWAY: &str = "istio-ingress/istio-ingressgateway";
const HOST: &str = "httpbin.example.com";
const SECURE_HOST: &str = "secure.example.com";
/// How long the gateway may take to get a certificate.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn ingress(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply("tasks/ingress/httpbin-gateway.yaml").await?;
    stage
        .until_routed(GATEWAY, "http.80", "httpbin.example.com:80", |host| {
            host.contains("/status") && host.contains("outbound|8000||httpbin")
        })
        .await?;
    let base = stage.mesh.published_url(GATEWAY, 80).await?;
    let http = stage.mesh.http_from_host();
    for (check, host, path, wanted) in [
        ("host and path of the route", HOST, "/status/200", 200),
        ("the server's own status", HOST, "/status/418", 418),
        ("another path", HOST, "/get", 404),
        ("another host", "other.example.com", "/status/200", 404),
    ] {
        let seen = http
            .get_with(&format!("{base}{path}"), &[("host", host)])
            .await
            .map(|answer| status(&answer, wanted));
        stage.row(format!("{check}: {host}{path}"), wanted, seen);
    }
    Ok(())
}

/// A Secret as `kubectl create secret tls` makes it.
fn secret(identity: &Identity) -> Result<String> {
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "httpbin-credential", "namespace": "istio-ingress"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": identity.certificate_pem, "tls.key": identity.key_pem},
    });
    Ok(serde_yaml::to_string(&object)?)
}

pub(super) async fn secure_ingress(stage: &mut Stage<'_>) -> Result<()> {
    let first = Identity::generate(SECURE_HOST)?;
    stage.apply_text(secret(&first)?).await?;
    stage
        .apply("tasks/secure-ingress/gateway-credential.yaml")
        .await?;
    let base = stage.mesh.published_url(GATEWAY, 443).await?;
    let address = base.trim_start_matches("https://").to_owned();
    let ask = |path: &'static str, identity: &Identity| {
        let (address, anchor) = (address.clone(), identity.certificate.clone());
        async move { tls::get(&address, SECURE_HOST, path, &anchor).await }
    };
    let seen = stage
        .until(LIMIT, || async {
            Ok(status(&ask("/status/200", &first).await?, 200))
        })
        .await;
    stage.row("the certificate of the Secret is trusted", "200", seen);
    let seen = ask("/get", &first).await.map(|answer| status(&answer, 404));
    stage.row("another path", "404", seen);
    let other = tls::get(
        &address,
        "other.example.com",
        "/status/200",
        &first.certificate,
    )
    .await;
    stage.row("another server name", "no handshake", refused(other));
    let plain = stage
        .mesh
        .http_from_host()
        .get(&format!("http://{address}/status/200"))
        .await;
    stage.row("plain text at the TLS port", "refused", refused(plain));

    let second = Identity::generate(SECURE_HOST)?;
    stage.apply_text(secret(&second)?).await?;
    let seen = stage
        .until(LIMIT, || async {
            Ok(status(&ask("/status/200", &second).await?, 200))
        })
        .await;
    stage.row("the Secret replaced: the new certificate", "200", seen);
    let seen = refused(ask("/status/200", &first).await);
    stage.row(
        "the old certificate is no longer served",
        "no handshake",
        seen,
    );
    Ok(())
}

/// Whether there was no answer.
fn refused(answer: Result<crate::http::Answer>) -> Result<crate::check::stage::Seen> {
    match answer {
        Ok(answer) => bail!("answered {}", answer.status),
        Err(error) => Ok((true, format!("{}", error.root_cause()))),
    }
}
