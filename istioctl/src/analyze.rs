//! `istioctl analyze`.

mod answer;
mod cluster;
mod files;
mod lines;

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use istio_api::manifest::DEFAULT_NAMESPACE;
use istio_rules::analysis::analyzers::ANALYZERS;
use istio_rules::analysis::{self, Builder, Level, Message, Outcome, Request};

use crate::args::{Analyze, Form, Global};
use crate::cluster::Cluster;
use mesh_common::input;

use crate::exit;

/// Number of files named in the description of what was analyzed.
const LISTED: usize = 3;

/// Analyzes all objects; returns the exit code.
///
/// # Errors
/// If the cluster cannot be read or the output cannot be written.
pub fn run(global: &Global, args: &Analyze) -> Result<u8> {
    if args.list_analyzers {
        return list();
    }
    if args.files.is_empty() && !args.use_kube {
        eprintln!("Error: nothing to analyze: name files or use --use-kube=true");
        return Ok(exit::USAGE);
    }
    warn_of_names(args);
    let mut builder = Builder::new();
    let mut own = DEFAULT_NAMESPACE.to_owned();
    let mut absent = cluster::Absent::default();
    if args.use_kube {
        let reading = async {
            let cluster =
                Cluster::connect(global.kubeconfig.as_deref(), global.context.as_deref()).await?;
            let absent = cluster::read(&cluster, &global.istio_namespace, &mut builder).await?;
            anyhow::Ok((cluster.namespace, absent))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let timed = async { tokio::time::timeout(args.timeout, reading).await };
        let Ok(read) = runtime.block_on(Box::pin(timed)) else {
            bail!("reading the cluster took longer than --timeout");
        };
        (own, absent) = read
            .context("cannot analyze the cluster (use --use-kube=false to analyze only files)")?;
    }
    let namespace = match &global.namespace {
        Some(namespace) if !namespace.is_empty() => namespace.clone(),
        _ => own,
    };
    let near = if args.all_namespaces {
        DEFAULT_NAMESPACE
    } else {
        namespace.as_str()
    };
    let inputs = input::read(&args.files, true);
    let read = files::read(&inputs, near, &mut builder);
    for error in &read.errors {
        eprintln!("Error: {error}");
    }
    for (before, after) in builder.replaced() {
        let (before, after) = (files::shown(before), files::shown(after));
        eprintln!("Warning: {before} is ignored: {after} is the same object");
    }
    if let Some(path) = &args.mesh_config_file {
        files::mesh_config(path, &mut builder)?;
    }
    // A misspelt namespace would look like one without problems.
    let is_asked_for = global.namespace.is_some() && !args.all_namespaces;
    if args.use_kube && is_asked_for && absent.knows("Namespace") {
        let is_there = builder.holds_namespace(&namespace) || read.names(&namespace);
        if !is_there {
            bail!("namespace {namespace:?} does not exist");
        }
    }
    absent.apply(&mut builder);
    let yaml = |text: &str| files::value(text);
    let resources = builder.build(&global.istio_namespace, &args.revision, yaml);
    let request = Request {
        namespace: (!args.all_namespaces).then(|| namespace.clone()),
        analyzers: args.analyzers.iter().cloned().collect(),
        suppressions: args.suppress.clone(),
    };
    let outcome = analysis::analyze(&resources, &request);
    let mut what = match &request.namespace {
        Some(namespace) => format!("namespace {namespace}"),
        None => "all namespaces".to_owned(),
    };
    if !inputs.is_empty() {
        let names = inputs.iter().take(LISTED).map(|input| input.name.as_str());
        what.push_str(&format!(", with {}", names.collect::<Vec<_>>().join(", ")));
        if inputs.len() > LISTED {
            what.push_str(&format!(" and {} more", inputs.len() - LISTED));
        }
    }
    absent.warn(&outcome.skipped);
    if args.verbose {
        explain(&what, &outcome);
    }
    let shown: Vec<&Message> = outcome
        .messages
        .iter()
        .filter(|message| message.code.level <= args.output_threshold)
        .collect();
    answer::write(args, &shown)?;
    if args.output != Form::Log {
        return Ok(0);
    }
    if shown.is_empty() {
        match read.errors.len() {
            0 => eprintln!("No issue found in {what}."),
            count => eprintln!("No issue found in {what}, but {count} errors while reading."),
        }
    }
    Ok(verdict(args, &what, &outcome.messages, read.errors.len()))
}

fn verdict(args: &Analyze, what: &str, messages: &[Message], unread: usize) -> u8 {
    let threshold = args.failure_threshold;
    let bad = messages.iter().filter(|one| one.code.level <= threshold);
    let count = bad.count();
    if count > 0 {
        let or_worse = if threshold == Level::Error {
            ""
        } else {
            " or worse"
        };
        let noun = if count == 1 { "message" } else { "messages" };
        eprintln!(
            "Error: {count} {noun} of level {threshold}{or_worse} in {what}; \
             see https://istio.io/v1.30/docs/reference/config/analysis/ for the codes"
        );
        exit::FOUND
    } else if unread > 0 && !args.ignore_unknown {
        exit::UNREADABLE
    } else {
        0
    }
}

fn list() -> Result<u8> {
    let mut answer = std::io::stdout().lock();
    for analyzer in ANALYZERS {
        let inputs = analyzer.inputs.join(", ");
        writeln!(answer, "{}: {inputs}", analyzer.name).context("cannot write the output")?;
    }
    Ok(0)
}

/// Warns about codes and analyzers on the command line that do not exist.
fn warn_of_names(args: &Analyze) {
    for suppression in args.suppress.iter().filter(|one| !one.is_known()) {
        eprintln!("Warning: --suppress: unknown code {}", suppression.code());
    }
    let is_known = |name: &str| ANALYZERS.iter().any(|analyzer| analyzer.name == name);
    for name in args.analyzers.iter().filter(|name| !is_known(name)) {
        eprintln!("Warning: --analyzer: unknown analyzer {name} (use -L to list all)");
    }
}

fn explain(what: &str, outcome: &Outcome) {
    eprintln!("Analyzed {what}.");
    for (title, names) in [
        ("Skipped analyzers", &outcome.skipped),
        ("Executed analyzers", &outcome.executed),
    ] {
        if !names.is_empty() {
            eprintln!("{title}:");
            for name in names {
                eprintln!("\t* {name}");
            }
        }
    }
}
