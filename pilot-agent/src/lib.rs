//! Envoy's bootstrap and lifecycle, workload certificates, probes and traffic capture of one Pod.
//!
//! The decisions are pure: [`iptables::generate`], [`bootstrap`], [`node`], [`proxy_config`],
//! [`secret::rotation`], [`sds::subscription`], [`status::rewrite`]. Thin parts around them handle
//! sockets and clocks; [`proxy`] connects them.

use std::io::Write as _;

use anyhow::Context as _;

pub mod address;
pub mod args;
pub mod bootstrap;
pub mod certificates;
pub mod env;
pub mod envoy;
pub mod exit;
pub mod http_client;
pub mod iptables;
pub mod lifecycle;
pub mod node;
pub mod podinfo;
pub mod proxy;
pub mod proxy_config;
pub mod request;
pub mod sds;
pub mod secret;
pub mod settings;
pub mod status;

pub use args::Cli;

/// Runs one command. `shutdown` ends `proxy`; the other commands end by themselves.
///
/// # Errors
/// The error of the command; [`exit::status`] gives its exit status.
pub async fn run(
    cli: Cli,
    env: env::Env,
    surroundings: proxy::Surroundings,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match cli.command {
        args::Action::Proxy(flags) => proxy::run(&flags, &env, &surroundings, shutdown).await,
        args::Action::Request(flags) => {
            let body = request::request(&flags).await?;
            std::io::stdout()
                .write_all(&body)
                .context("cannot write the response")
        }
        args::Action::Wait(flags) => request::wait(&flags).await,
        args::Action::Probe(flags) => request::probe(&flags).await,
        args::Action::IstioIptables(flags) => iptables::run(&flags, &env).await,
        args::Action::IstioCleanIptables(flags) => {
            iptables::run(
                &args::IptablesFlags {
                    cleanup_only: true,
                    ..*flags
                },
                &env,
            )
            .await
        }
        args::Action::Version(flags) => {
            println!("{}", flags.render());
            Ok(())
        }
        args::Action::ExecEnvoy(flags) => Err(envoy::process::become_envoy(&flags)),
    }
}
