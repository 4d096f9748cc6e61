//! The index with the Services and objects around it, shown as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use istio_api::manifest::Key;
use istio_api::networking::v1alpha3::string_match::MatchType;
use istio_api::networking::v1alpha3::{Gateway, VirtualService};
use prost::Message;

use super::super::{Ingresses, Name, SEMANTICS};
use crate::content;
use crate::native::Native;
use crate::object::{Config, Item};
use crate::processing::ingress::Mode;
use crate::processing::ingress::convert::{Issue, Ports};
use crate::processing::ingress::select::Settings;

/// Ports of one Service, as an object that may come later.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<(String, String), u16>);

impl Ports for Table {
    fn number(&self, service: &str, port: &str) -> Option<u16> {
        self.0.get(&(service.to_owned(), port.to_owned())).copied()
    }

    fn host(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.cluster.local")
    }
}

pub(super) fn objects(text: &str) -> Vec<(Key, Native)> {
    let content = content::read(&Path::new("a.yaml").into(), text);
    assert_eq!(content.problems, []);
    let each = content.entries.into_iter().map(|entry| match entry.item {
        Item::Native(native) => (entry.key, native),
        Item::Config(config) => panic!("{config:?}"),
    });
    each.collect()
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) ingresses: Ingresses,
    pub(super) ports: Table,
    pub(super) state: BTreeMap<(&'static str, Name), Config>,
    pub(super) issues: BTreeMap<Name, Vec<Issue>>,
}

impl World {
    pub(super) fn new(mode: Mode) -> Self {
        let settings = Settings {
            mode,
            ..Settings::default()
        };
        Self {
            ingresses: Ingresses::new(settings),
            ports: Table::default(),
            state: BTreeMap::new(),
            issues: BTreeMap::new(),
        }
    }

    pub(super) fn apply(&mut self, text: &str) -> Vec<String> {
        for (key, native) in objects(text) {
            self.ingresses.apply(&key, Some(&native));
        }
        self.rebuild()
    }

    pub(super) fn remove(&mut self, text: &str) -> Vec<String> {
        for (key, _) in objects(text) {
            self.ingresses.apply(&key, None);
        }
        self.rebuild()
    }

    /// Names of the changed objects.
    pub(super) fn rebuild(&mut self) -> Vec<String> {
        let made = self.ingresses.rebuild(&self.ports);
        let mut changed = Vec::new();
        for ((kind, name), config) in made.resources {
            let text = format!("{kind} {name}");
            let slot = (kind, name);
            if self.state.get(&slot) != config.as_ref() {
                changed.push(text);
            }
            match config {
                Some(config) => self.state.insert(slot, config),
                None => self.state.remove(&slot),
            };
        }
        for (name, issues) in made.issues {
            if issues.is_empty() {
                self.issues.remove(&name);
            } else {
                self.issues.insert(name, issues);
            }
        }
        changed
    }

    /// All objects, as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for ((kind, name), config) in &self.state {
            let body = &config.resource.body.as_ref().unwrap().value;
            writeln!(text, "{kind} {name}").unwrap();
            if *kind == "Gateway" {
                let gateway = Gateway::decode(body.as_slice()).unwrap();
                write!(text, "{}", gateway_text(&gateway)).unwrap();
            } else {
                let service = VirtualService::decode(body.as_slice()).unwrap();
                write!(text, "{}", routes_text(&service)).unwrap();
                let annotations = &config.resource.metadata.as_ref().unwrap().annotations;
                assert_eq!(annotations[SEMANTICS.0], "ingress");
            }
        }
        text
    }
}

fn gateway_text(gateway: &Gateway) -> String {
    let mut text = format!("  selector {:?}\n", gateway.selector);
    for server in &gateway.servers {
        let port = server.port.as_ref().unwrap();
        let tls = server.tls.as_ref();
        let tls = tls.map(|tls| format!(" {:?} {}", tls.mode(), tls.credential_name));
        writeln!(
            text,
            "  {} {} {} {:?}{}",
            port.number,
            port.protocol,
            port.name,
            server.hosts,
            tls.unwrap_or_default()
        )
        .unwrap();
    }
    text
}

fn routes_text(service: &VirtualService) -> String {
    let mut text = format!("  {:?} {:?}\n", service.hosts, service.gateways);
    for http in &service.http {
        let matched = http.r#match.first().map(|matched| {
            match matched.uri.as_ref().unwrap().match_type.as_ref().unwrap() {
                MatchType::Exact(path) => format!("exact {path}"),
                MatchType::Prefix(path) => format!("prefix {path}"),
                MatchType::Regex(path) => format!("regex {path}"),
            }
        });
        let destination = http.route[0].destination.as_ref().unwrap();
        assert_eq!(http.route[0].weight, 100);
        writeln!(
            text,
            "  {} -> {}:{}",
            matched.as_deref().unwrap_or("any"),
            destination.host,
            destination.port.as_ref().unwrap().number
        )
        .unwrap();
    }
    text
}
