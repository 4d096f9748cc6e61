//! The client of the API server: from a kubeconfig file, or from what Kubernetes provides in every
//! container.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
pub use kube::{Client, Config};

use crate::args::KubeArgs;
use crate::version;

/// Time to establish a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time to send a request.
const WRITE: Duration = Duration::from_secs(30);
/// Time between two parts of a response. Longer than a watch may be without events (five minutes):
/// requests that should be answered sooner have their own deadlines.
const READ: Duration = Duration::from_secs(330);

/// Why there is no client. The texts include the causes, because the errors of the client do and
/// sources would repeat them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or is invalid.
    #[error("cannot use the kubeconfig {path}: {problem}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No file was given, and the process does not run in a container of Kubernetes.
    #[error("want --kubeconfig outside of a container of Kubernetes: {0}")]
    InCluster(String),
    /// The address, the certificates or the credentials are invalid.
    #[error("cannot create a client of the API server: {0}")]
    Client(String),
}

/// Reads address and credentials, and sets timeouts and the user agent.
///
/// # Errors
/// If the file, or the credentials of the container, cannot be read.
pub async fn config(args: &KubeArgs, component: &str) -> Result<Config, Error> {
    let mut config = if args.kubeconfig.is_empty() {
        Config::incluster().map_err(|error| Error::InCluster(error.to_string()))?
    } else {
        let wrong = |error| Error::Kubeconfig {
            path: args.kubeconfig.clone(),
            problem: match error {
                // It repeats the path of the file.
                KubeconfigError::ReadConfig(error, _) => error.to_string(),
                other => other.to_string(),
            },
        };
        let file = Kubeconfig::read_from(Path::new(&args.kubeconfig)).map_err(wrong)?;
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(wrong)?
    };
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(WRITE);
    config.read_timeout = Some(READ);
    // Idle time of a pooled connection must not count for the response to its next request.
    config.reset_reader_on_write = true;
    if let Ok(agent) = HeaderValue::from_str(&format!("{component}/{}", version::INFO.tag)) {
        config.headers.push((USER_AGENT, agent));
    }
    Ok(config)
}

/// The client. It does not connect yet; the caller does retries unless [`Config::default_retry`] is
/// set. Must be called in a runtime, as it spawns a task.
///
/// # Errors
/// If the certificates or the credentials are invalid.
pub fn client(config: Config) -> Result<Client, Error> {
    crate::process::install_crypto();
    Client::try_from(config).map_err(|error| Error::Client(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {token: t}}]
";

    async fn read(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, text).unwrap();
        let kubeconfig = path.to_str().unwrap().to_owned();
        config(&KubeArgs { kubeconfig }, "galley").await
    }

    #[tokio::test]
    async fn a_file_gives_a_client_with_timeouts() {
        let config = read(FILE).await.unwrap();
        assert_eq!(config.cluster_url.to_string(), "http://127.0.0.1:1/");
        assert!(config.connect_timeout.is_some() && config.read_timeout.is_some());
        let agent = config.headers.iter().find(|(name, _)| name == USER_AGENT);
        assert!(agent.unwrap().1.to_str().unwrap().starts_with("galley/"));
        client(config).unwrap();
    }

    #[tokio::test]
    async fn an_error_names_the_file_or_the_flag() {
        let error = read("current-context: none\n").await.unwrap_err();
        assert!(
            error.to_string().starts_with("cannot use the kubeconfig /"),
            "{error}"
        );
        let missing = KubeArgs {
            kubeconfig: "/not/there".to_owned(),
        };
        let error = config(&missing, "x").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot use the kubeconfig /not/there: No such file or directory (os error 2)"
        );
        let error = config(&KubeArgs::default(), "x").await.unwrap_err();
        assert!(error.to_string().contains("--kubeconfig"), "{error}");
    }
}
