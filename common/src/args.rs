//! Groups of flags that several processes share, with the names of Istio 1.1.

use std::time::Duration;

use clap::Args;

use mesh_core::duration;

/// Logging flags.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Levels as `level` or `scope:level,…`: debug, info, warn, error, fatal or none.
    /// A scope is a top-level module of the process, or a library.
    #[arg(
        long = "log_output_level",
        default_value = "default:info",
        global = true
    )]
    pub output_level: String,
    /// Write each line as a JSON object.
    #[arg(long = "log_as_json", global = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, default_value_t = false, action = clap::ArgAction::Set)]
    pub as_json: bool,
    /// stdout, stderr or a file to append to; may be repeated.
    #[arg(long = "log_target", default_value = "stdout", global = true)]
    pub target: Vec<String>,
    /// Accepted without effect: the scope is always shown.
    #[arg(long = "log_caller", default_value = "", global = true, hide = true)]
    pub caller: String,
    /// Accepted without effect: logs have no stack traces.
    #[arg(
        long = "log_stacktrace_level",
        default_value = "default:none",
        global = true,
        hide = true
    )]
    pub stacktrace_level: String,
    /// Accepted without effect: rotation is left to the log collector.
    #[arg(long = "log_rotate", default_value = "", global = true, hide = true)]
    pub rotate: String,
    /// Accepted without effect.
    #[arg(
        long = "log_rotate_max_age",
        default_value_t = 30,
        global = true,
        hide = true
    )]
    pub rotate_max_age: u32,
    /// Accepted without effect.
    #[arg(
        long = "log_rotate_max_backups",
        default_value_t = 1000,
        global = true,
        hide = true
    )]
    pub rotate_max_backups: u32,
    /// Accepted without effect.
    #[arg(
        long = "log_rotate_max_size",
        default_value_t = 104_857_600,
        global = true,
        hide = true
    )]
    pub rotate_max_size: u64,
}

impl Default for LogArgs {
    fn default() -> Self {
        Self {
            output_level: "default:info".to_owned(),
            as_json: false,
            target: vec!["stdout".to_owned()],
            caller: String::new(),
            stacktrace_level: "default:none".to_owned(),
            rotate: String::new(),
            rotate_max_age: 30,
            rotate_max_backups: 1000,
            rotate_max_size: 104_857_600,
        }
    }
}

/// Introspection flags. The flag of the monitoring port is defined by each process, as its name
/// differs.
#[derive(Args, Clone, Debug)]
pub struct MonitoringArgs {
    /// Address of the introspection pages (ControlZ); * for all addresses, open to every client.
    #[arg(long = "ctrlz_address", default_value = "127.0.0.1")]
    pub ctrlz_address: String,
    /// Port of the introspection pages; 0 to disable.
    #[arg(long = "ctrlz_port", default_value_t = 9876)]
    pub ctrlz_port: u16,
}

impl Default for MonitoringArgs {
    fn default() -> Self {
        Self {
            ctrlz_address: "127.0.0.1".to_owned(),
            ctrlz_port: 9876,
        }
    }
}

/// Keep-alive of gRPC servers.
#[derive(Args, Clone, Debug)]
pub struct KeepaliveArgs {
    /// Idle time after which a connection is pinged.
    #[arg(long = "keepaliveInterval", default_value = "30s", value_parser = duration::parse)]
    pub interval: Duration,
    /// Time to wait for the answer to a ping.
    #[arg(long = "keepaliveTimeout", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Age at which a connection is closed gracefully; the default means never.
    #[arg(long = "keepaliveMaxServerConnectionAge", default_value = "2562047h47m16.854775807s",
          value_parser = duration::parse)]
    pub max_connection_age: Duration,
}

impl Default for KeepaliveArgs {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            max_connection_age: NEVER,
        }
    }
}

/// The API server of Kubernetes.
#[derive(Args, Clone, Debug, Default)]
pub struct KubeArgs {
    /// File with the address of the API server and credentials; empty for those that Kubernetes
    /// provides in every container.
    // Not a path, because charts of 1.1 write `--kubeconfig=` and clap rejects empty paths.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub kubeconfig: String,
}

/// Owner of the objects that a process creates in a cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct OwnerArgs {
    /// ClusterRole that owns the objects which this process creates, so that they are deleted when
    /// it is uninstalled; empty for no owner, so that they stay.
    #[arg(
        long = "owner-cluster-role",
        default_value = "",
        hide_default_value = true
    )]
    pub cluster_role: String,
}

/// The longest duration in Go, which means "never" in Istio.
const NEVER: Duration = Duration::from_nanos(i64::MAX as u64);

impl KeepaliveArgs {
    /// The maximum connection age; `None` means never.
    #[must_use]
    pub fn connection_age(&self) -> Option<Duration> {
        (self.max_connection_age < NEVER && !self.max_connection_age.is_zero())
            .then_some(self.max_connection_age)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct All {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        _monitoring: MonitoringArgs,
        #[command(flatten)]
        keepalive: KeepaliveArgs,
        #[command(flatten)]
        kube: KubeArgs,
    }

    #[test]
    fn defaults_are_those_of_1_1() {
        let all = All::parse_from(["x"]);
        assert_eq!(all.log.output_level, "default:info");
        assert!(!all.log.as_json);
        assert_eq!(all.log.target, ["stdout"]);
        assert_eq!(all.keepalive.interval, Duration::from_secs(30));
        assert_eq!(all.keepalive.connection_age(), None);
    }

    #[test]
    fn command_lines_of_1_1_are_accepted() {
        let all = All::parse_from([
            "x",
            "--log_as_json",
            "--log_output_level=default:warn,ads:debug",
            "--log_rotate_max_age=3",
            "--log_target=stderr",
            "--keepaliveMaxServerConnectionAge",
            "30m",
            "--ctrlz_port=0",
            "--kubeconfig=",
        ]);
        assert_eq!(all.kube.kubeconfig, "");
        assert!(all.log.as_json);
        assert_eq!(all.log.target, ["stderr"]);
        assert_eq!(
            all.keepalive.connection_age(),
            Some(Duration::from_secs(1800))
        );
    }
}
