//! The command line of `cargo mesh`.

pub mod check;
mod inside;
mod show;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::handle::Mesh;
use crate::layout::Layout;
use crate::manifest;
use crate::node::api::Applied;
use crate::platform::World;
use crate::say;
use crate::start::binaries::target_directory;
use crate::terminal::{parse, print_json};

#[derive(Debug, Parser)]
#[command(name = "cargo mesh", bin_name = "cargo mesh", version)]
/// The whole mesh on one machine: every control-plane process and, for each Pod of a set of
/// Kubernetes manifests, a network namespace with its containers as processes.
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Where the mesh keeps its files [default: <target>/mesh]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the mesh with the sample applications, or with the manifests of the named files
    /// and directories, and wait until all is ready
    Up(up::Up),
    /// Show Pods, readiness, restarts, memory and CPU
    Status {
        /// Also show each process
        #[arg(long, short)]
        processes: bool,
    },
    /// Apply manifests: Kubernetes and Istio kinds, files, directories or - for standard input
    Apply {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Delete the objects of manifests
    Delete {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a command in a Pod
    Exec {
        /// Pod or Deployment, with or without namespace/
        pod: String,
        /// Container [default: the application's]
        #[arg(long, short)]
        container: Option<String>,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the log of a container
    Logs {
        /// Pod or Deployment, with or without namespace/
        pod: String,
        /// Container [default: the application's]
        container: Option<String>,
        /// Go on printing
        #[arg(long, short)]
        follow: bool,
    },
    /// Set the number of Pods of a Deployment
    Scale {
        /// Deployment, with or without namespace/
        deployment: String,
        replicas: u32,
    },
    /// Kill a container, or one process in it; the mesh starts it again
    Kill {
        /// Pod or Deployment, with or without namespace/
        pod: String,
        /// Container [default: the application's]
        container: Option<String>,
        /// Name of the process, such as envoy [default: the container's main process]
        #[arg(long)]
        process: Option<String>,
        /// Signal
        #[arg(long, default_value = "KILL")]
        signal: String,
    },
    /// Drive every task of the samples with real requests and print a table
    Check {
        /// Tasks, as their folders below samples/tasks are named [default: all]
        tasks: Vec<String>,
    },
    /// End the mesh; nothing of it is left
    Down,
    /// Print the path of the Envoy that Pods run, fetching it if need be
    Envoy,
    #[command(hide = true)]
    Node { config: PathBuf },
    #[command(hide = true)]
    NodeInit { config: PathBuf },
    #[command(hide = true)]
    Container { spec: PathBuf },
    #[command(hide = true)]
    Join {
        pid: i32,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    #[command(hide = true)]
    Enter {
        node: u32,
        pid: i32,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// Runs the command line and returns its exit code: 0, 1 for an error, 64 for a command line
/// that is not understood, that of the command for `exec`.
#[must_use]
pub fn main() -> ExitCode {
    let cli: Cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let json = cli.common.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            if json {
                say!("{}", serde_json::json!({"error": format!("{error:#}")}));
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Commands that change namespaces need a process with one thread.
    match &cli.command {
        Command::Node { config } => return crate::node::launch::supervise(config),
        Command::NodeInit { config } => return crate::node::launch::init(config),
        Command::Container { spec } => return inside::container(spec),
        Command::Join { pid, command } => return inside::join(*pid, command),
        Command::Enter { node, pid, command } => return inside::enter(*node, *pid, command),
        Command::Envoy => {
            let path = crate::start::envoy::find(None, &target_directory()?)?;
            say!("{}", path.display());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    install_crypto()?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(serve(cli));
    // A thread that waits for a terminal must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(50));
    code
}

/// Chooses the provider of cryptography for the process.
fn install_crypto() -> Result<()> {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        bail!("the cryptography provider was installed twice");
    }
    Ok(())
}

fn layout(common: &Common) -> Result<Layout> {
    let named = common.dir.clone().or_else(crate::env::state_dir);
    let root = match named {
        Some(path) => {
            std::path::absolute(&path).with_context(|| format!("find {}", path.display()))?
        }
        None => target_directory()?.join("mesh"),
    };
    Ok(Layout::new(root))
}

fn print_applied(common: &Common, applied: &[Applied]) -> Result<()> {
    if common.json {
        return print_json(&applied);
    }
    for each in applied {
        let outcome = serde_json::to_value(each.outcome).context("encode the answer")?;
        say!("{} {}", each.object, outcome.as_str().unwrap_or_default());
    }
    Ok(())
}

async fn serve(cli: Cli) -> Result<ExitCode> {
    let common = cli.common;
    let layout = layout(&common)?;
    if let Command::Up(up) = cli.command {
        return up::up(up, layout, common.json).await;
    }
    let mesh = Mesh::attach(layout)?;
    match cli.command {
        Command::Status { processes } => {
            let status = mesh.status(true).await?;
            if common.json {
                print_json(&status)?;
            } else {
                show::status(&status, processes);
            }
        }
        Command::Apply { files } => {
            print_applied(
                &common,
                &mesh.apply_sources(&manifest::read_paths(&files)?).await?,
            )?;
        }
        Command::Delete { files } => {
            let gone = mesh.delete_sources(&manifest::read_paths(&files)?).await?;
            print_applied(&common, &gone)?;
            if gone.is_empty() && !common.json {
                say!("nothing of this was there");
            }
        }
        Command::Exec {
            pod,
            container,
            command,
        } => {
            let mut helper = mesh
                .exec_command(&pod, container.as_deref(), &command)
                .await?;
            let status = tokio::task::spawn_blocking(move || helper.status())
                .await
                .context("run the command")?
                .context("run the command")?;
            let code = crate::node::exec::exit_code(status);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::Logs {
            pod,
            container,
            follow,
        } => {
            let status = mesh.status(false).await?;
            let log = status
                .pod_named(&pod)?
                .container_named(container.as_deref())?
                .log
                .clone();
            show::log(&log, follow).await?;
        }
        Command::Scale {
            deployment,
            replicas,
        } => {
            mesh.scale(&deployment, replicas).await?;
            if common.json {
                print_json(&serde_json::json!({"deployment": deployment, "replicas": replicas}))?;
            } else {
                say!("{deployment} scaled to {replicas}");
            }
        }
        Command::Kill {
            pod,
            container,
            process,
            signal,
        } => {
            let pids = mesh
                .kill(
                    &pod,
                    container.as_deref(),
                    process.as_deref(),
                    Some(&signal),
                )
                .await?;
            if common.json {
                print_json(&serde_json::json!({"pids": pids, "signal": signal}))?;
            } else {
                say!("sent {signal} to {} process(es) of {pod}", pids.len());
            }
        }
        Command::Check { tasks } => {
            return check::check(&World::new(mesh), &tasks, common.json).await;
        }
        Command::Down => {
            mesh.down().await?;
            if common.json {
                print_json(&serde_json::json!({"down": true}))?;
            } else {
                say!("the mesh is down; nothing of it is left but its logs");
            }
        }
        _ => bail!("this command was handled before"),
    }
    Ok(ExitCode::SUCCESS)
}
