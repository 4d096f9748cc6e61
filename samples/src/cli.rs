//! Command line: chooses the application; its settings are flags or environment variables.

use crate::{bookinfo, client, httpbin, load, server, tcp_echo};
use clap::{Parser, Subcommand};
use std::future::Future;
use std::process::ExitCode;

/// Command line of the program.
#[derive(Debug, Parser)]
#[command(name = "samples", version, about = "Demo applications for the mesh")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Web page of the book shop
    Productpage(bookinfo::productpage::Args),
    /// Details of a book
    Details(bookinfo::details::Args),
    /// Reviews of a book, with or without stars
    Reviews(bookinfo::reviews::Args),
    /// Star ratings of a book
    Ratings(bookinfo::ratings::Args),
    /// HTTP server that echoes requests and responds as requested
    Httpbin(httpbin::Args),
    /// TCP server that echoes each line with a prefix
    TcpEcho(tcp_echo::Args),
    /// Wait until terminated
    Sleep,
    /// Send many requests and print a summary as JSON
    Load(load::Args),
    /// Send one request and print the response as JSON; exit status 1 if there is none
    Request(client::Args),
}

/// Runs the chosen application until it ends or `shutdown` resolves.
///
/// # Errors
/// If a port cannot be bound, or an argument is invalid in a way that clap does not check.
pub async fn run(
    args: Args,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Productpage(args) => {
            let listen = args.listen.clone();
            server::run(&listen, bookinfo::productpage::router(args), shutdown).await?;
        }
        Command::Details(args) => {
            server::run(&args.listen, bookinfo::details::router(), shutdown).await?;
        }
        Command::Reviews(args) => {
            let listen = args.listen.clone();
            server::run(&listen, bookinfo::reviews::router(args), shutdown).await?;
        }
        Command::Ratings(args) => {
            server::run(&args.listen, bookinfo::ratings::router(), shutdown).await?;
        }
        Command::Httpbin(args) => {
            let listen = args.listen();
            server::run(&listen, httpbin::router(&listen.pod_name), shutdown).await?;
        }
        Command::TcpEcho(args) => tcp_echo::run(args, shutdown).await?,
        Command::Sleep => shutdown.await,
        Command::Load(args) => load::run(args, shutdown).await?,
        Command::Request(args) => return client::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}
