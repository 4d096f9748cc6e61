//! The command line of `cargo xtask cluster` and `cargo xtask images`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::address::Number;
use crate::handle::Cluster;
use crate::image::build;
use crate::launch::Running;
use crate::layout::Layout;
use crate::platform::InCluster;
use crate::start::{self, Options};
use crate::tools::Tools;
use crate::{init, launch, packages};
use mesh::platform::World;
use mesh::say;
use mesh::start::binaries::target_directory;
use mesh::terminal::parse;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask cluster",
    bin_name = "cargo xtask cluster",
    version
)]
/// A real Kubernetes on this machine, in namespaces of its own: etcd, API server, kubelet on
/// containerd, kube-proxy, DNS, Helm.
struct Cli {
    /// Which of the clusters of this machine, 0 to 99
    #[arg(long, global = true, default_value = "0", value_name = "NUMBER")]
    number: Number,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build what is needed (12 minutes the first time), start a cluster, wait for its node
    Up,
    /// Build and install what `up` needs, and start nothing
    Prepare,
    /// End the cluster; nothing of it is left but its logs
    Down,
    /// Show what runs and where to look
    Status,
    /// Build the project's images and load them, or load the named archives
    Load { archives: Vec<PathBuf> },
    /// Run kubectl as administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run helm as administrator
    #[command(disable_help_flag = true)]
    Helm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Drive every task of the samples, which must be applied, and print a table
    Check { tasks: Vec<String> },
    /// End a program of the node, such as kube-apiserver, until `start`
    Stop { program: String },
    /// Start a stopped program again
    Start { program: String },
    /// Write the project's images as archives
    Images(build::Args),
    #[command(hide = true)]
    Supervise { settings: PathBuf },
    #[command(hide = true)]
    Node { settings: PathBuf },
}

/// Runs the command line and returns its exit code: 0, 1 for an error, 64 for a command line
/// that is not understood, that of the command for `kubectl` and `helm`.
#[must_use]
pub fn main() -> ExitCode {
    let cli: Cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    run(cli).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Where the cluster with this number keeps its files.
///
/// # Errors
/// When this program is in no target directory.
pub fn layout(number: Number) -> Result<Layout> {
    let target = target_directory()?;
    Ok(Layout::new(target.join("cluster").join(number.to_string())))
}

fn run(cli: Cli) -> Result<ExitCode> {
    let number = cli.number;
    match cli.command {
        Command::Supervise { settings } => return launch::supervise(&settings),
        Command::Node { settings } => return init::run(&settings),
        Command::Images(args) => build::run(&args, &target_directory()?)?,
        Command::Prepare => {
            packages::ensure()?;
            Tools::find_or_build(&target_directory()?)?;
        }
        Command::Up => up(number)?,
        Command::Down => {
            attach(number)?.down()?;
            say!("the cluster is down; nothing of it is left but its logs");
        }
        Command::Status => return status(number),
        Command::Load { archives } => {
            let cluster = attach(number)?;
            let archives = if archives.is_empty() {
                build::development(&target_directory()?)?
            } else {
                archives
            };
            for archive in archives {
                cluster.load(&archive)?;
                say!("loaded {}", archive.display());
            }
        }
        Command::Kubectl { arguments } => become_(attach(number)?.kubectl().command(), &arguments)?,
        Command::Helm { arguments } => become_(attach(number)?.helm().command(), &arguments)?,
        Command::Check { tasks } => return check(attach(number)?, &tasks),
        Command::Stop { program } => attach(number)?.stop(&program)?,
        Command::Start { program } => attach(number)?.resume(&program)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(number: Number) -> Result<Cluster> {
    let tools = Tools::find_or_build(&target_directory()?)?;
    Cluster::attach(layout(number)?, tools)
}

fn become_(mut command: Process, arguments: &[OsString]) -> Result<()> {
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("start {}", command.get_program().display()))
}

fn up(number: Number) -> Result<()> {
    packages::ensure()?;
    let tools = Tools::find_or_build(&target_directory()?)?;
    let begun = Instant::now();
    let started = start::start(Options {
        number,
        layout: layout(number)?,
        program: std::env::current_exe().context("find the own program")?,
        tools,
    })?;
    let cluster = started.detach()?;
    say!(
        "the node is ready after {:.1} s; Pods {}, Services {}, reachable from this machine",
        begun.elapsed().as_secs_f64(),
        number.pods(),
        number.services()
    );
    say!(
        "  export KUBECONFIG={}",
        cluster.layout().kubeconfig().display()
    );
    say!("  cargo xtask cluster load           # the project's images");
    say!("  cargo xtask cluster kubectl get pods -A");
    say!("  cargo xtask cluster helm list -A");
    say!("  cargo xtask cluster down");
    Ok(())
}

/// Exit status 1 when a row does not hold.
fn check(cluster: Cluster, tasks: &[String]) -> Result<ExitCode> {
    mesh_common::process::install_crypto();
    tokio::runtime::Runtime::new()
        .context("start the runtime")?
        .block_on(mesh::cli::check::check(
            &World::new(InCluster::new(cluster)),
            tasks,
            false,
        ))
}

/// Exit status 1 when nothing runs.
fn status(number: Number) -> Result<ExitCode> {
    let layout = layout(number)?;
    let Some(running) = Running::find(&layout)? else {
        say!("no cluster is up");
        return Ok(ExitCode::FAILURE);
    };
    say!(
        "cluster {number}: node {} (pid {}), logs in {}",
        number.node(),
        running.node,
        layout.logs().display()
    );
    let cluster = attach(number)?;
    for arguments in [
        ["get", "nodes", "-o", "wide"],
        ["get", "pods", "-A", "--request-timeout=5s"],
    ] {
        say!("{}", cluster.kubectl().run(&arguments)?.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
