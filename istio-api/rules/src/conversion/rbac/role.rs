//! Roles with their bindings, at each Service that they name.

use std::collections::BTreeSet;

use super::config::{Config, KIND, tried};
use super::constraint::{Constrained, evaluate, matches};
use super::subject::{self, Caller};
use crate::conversion::policy::Policies;
use crate::conversion::service::reaches_everywhere;
use crate::conversion::{Complaint, Converted, Mesh, Service, Source, made};
use istio_api::object::Meta;
use istio_api::rbac::v1alpha1::{AccessRule, EnforcementMode, ServiceRole, ServiceRoleBinding};
use istio_api::security::v1beta1::rule::{From, To};
use istio_api::security::v1beta1::{AuthorizationPolicy, Operation, Rule};
use istio_api::type_::v1beta1::WorkloadSelector;

type Role = Source<ServiceRole>;
type Binding = Source<ServiceRoleBinding>;

/// What the conversion of a role depends on.
pub(super) struct World<'a> {
    pub(super) config: &'a Config,
    pub(super) services: &'a [Service],
    pub(super) policies: &'a Policies,
    pub(super) mesh: &'a Mesh<'a>,
}

/// Whether a binding refers to this role.
pub(super) fn binds(binding: &Binding, role: &Role) -> bool {
    let of_role = |name: &str, kind: &str| name == role.meta.name && kind == "ServiceRole";
    binding.meta.namespace == role.meta.namespace
        && binding
            .spec
            .role_ref
            .as_ref()
            .is_some_and(|reference| of_role(&reference.name, &reference.kind))
}

/// A complaint if no role is bound.
pub(super) fn unbound(binding: &Binding, roles: &[Role]) -> Option<Complaint> {
    (!roles.iter().any(|role| binds(binding, role))).then(|| {
        binding.complaint(
            "spec.roleRef",
            "there is no such ServiceRole in the namespace: want kind ServiceRole and the name of one",
        )
    })
}

impl World<'_> {
    /// The policies of a role; none unless something is bound to it.
    pub(super) fn convert(&self, role: &Role, bindings: &[&Binding]) -> Converted {
        let mut converted = Converted::default();
        if bindings.is_empty() {
            return converted;
        }
        for (i, rule) in role.spec.rules.iter().enumerate() {
            let services = self.services.iter().filter(|service| {
                let mut names = rule.services.iter();
                service.namespace == role.meta.namespace
                    && names.any(|name| matches(&name.to_ascii_lowercase(), &service.host))
            });
            let services: Vec<&Service> = services.collect();
            if services.is_empty() {
                converted.complaints.push(role.complaint(
                    format!("spec.rules[{i}].services"),
                    "no service of the namespace is named: want full host names, or \"*\"",
                ));
            }
            for service in services.into_iter().filter(|one| self.config.is_on(one)) {
                let part = Part {
                    role,
                    index: i,
                    rule,
                    service,
                };
                match self.operation(&part) {
                    Ok(Some((constrained, operation))) => {
                        self.policies_of(&part, &constrained, &operation, bindings, &mut converted);
                    }
                    Ok(None) => {}
                    Err(complaint) => converted.complaints.push(complaint),
                }
            }
        }
        converted
    }

    /// What is allowed; `None` when the constraints are never met.
    fn operation(&self, part: &Part<'_>) -> Result<Option<(Constrained, Operation)>, Complaint> {
        let Part { rule, service, .. } = part;
        if service.selector.is_empty() {
            let message = format!("{} selects no workloads: want a selector", service.host);
            return Err(part.complaint(".services", message));
        }
        if service.namespace == self.mesh.root_namespace {
            return Err(part.complaint(".services", reaches_everywhere(service)));
        }
        if !speaks_http(service) && needs_requests(rule) {
            let message = format!(
                "only HTTP has paths, methods, hosts and headers, and no port of {} is declared as HTTP: want a rule without them",
                service.host
            );
            return Err(part.complaint("", message));
        }
        let paths = rule.paths.iter().chain(&rule.not_paths);
        if let Some(path) = paths.into_iter().find(|path| path.contains(['{', '}'])) {
            let message = format!("{path:?} would be a template today: want a path without braces");
            return Err(part.complaint("", message));
        }
        let constrained = match evaluate(&rule.constraints, service) {
            Ok(Some(constrained)) => constrained,
            Ok(None) => return Ok(None),
            Err((k, message)) => {
                return Err(part.complaint(&format!(".constraints[{k}]"), message));
            }
        };
        let numbers = |ports: &[i32]| ports.iter().map(ToString::to_string).collect();
        let mut operation = Operation {
            hosts: rule.hosts.clone(),
            not_hosts: rule.not_hosts.clone(),
            paths: rule.paths.clone(),
            not_paths: rule.not_paths.clone(),
            methods: rule.methods.clone(),
            not_methods: rule.not_methods.clone(),
            ports: numbers(&rule.ports),
            not_ports: numbers(&rule.not_ports),
        };
        if let Some(other) = self.sharer(service) {
            let own: BTreeSet<String> = service.targets().iter().map(u32::to_string).collect();
            if own.is_empty() {
                let message = format!(
                    "{} shares workloads with {}, and their ports cannot be told apart: want numbers as target ports, or an endpoint",
                    other.host, service.host
                );
                return Err(part.complaint(".services", message));
            }
            if operation.ports.is_empty() {
                operation.ports = own.into_iter().collect();
            } else {
                operation.ports.retain(|port| own.contains(port));
                if operation.ports.is_empty() {
                    return Ok(None);
                }
            }
        }
        check(&rule_for(&[], &operation, &constrained))
            .map_err(|message| part.complaint("", message))?;
        Ok(Some((constrained, operation)))
    }

    /// Another service of the namespace that shares workloads with `service`.
    fn sharer(&self, service: &Service) -> Option<&Service> {
        let mut others = self.services.iter().filter(|other| {
            other.namespace == service.namespace
                && other.host != service.host
                && !other.selector.is_empty()
        });
        others.find(|other| other.is_within(service) || service.is_within(other))
    }

    fn policies_of(
        &self,
        part: &Part<'_>,
        constrained: &Constrained,
        operation: &Operation,
        bindings: &[&Binding],
        converted: &mut Converted,
    ) {
        let Part { role, service, .. } = part;
        if !speaks_http(service)
            && let Some(complaint) = bindings.iter().find_map(|one| raw_binding(one, service))
        {
            converted.complaints.push(complaint);
            return;
        }
        let Some(of_origin) = self.policies.uses_origin(service, self.mesh) else {
            let message = format!(
                "Policies bind principals differently at the ports of {}: want one principalBinding",
                service.host
            );
            converted
                .complaints
                .push(part.complaint(".services", message));
            return;
        };
        for is_tried in [false, true] {
            let mut wanted: Vec<&Binding> = Vec::new();
            for binding in bindings {
                let of_binding = binding.spec.mode() == EnforcementMode::Permissive;
                if (of_binding || self.config.is_tried) == is_tried {
                    wanted.push(binding);
                }
            }
            let mut callers = Vec::new();
            for binding in &wanted {
                callers.extend(of_binding(binding, of_origin, &mut converted.complaints));
            }
            if callers.is_empty() {
                continue;
            }
            let rules = rules(callers, operation, constrained);
            let selectors = constrained.selectors(service);
            let several = selectors.len() > 1;
            for (j, match_labels) in selectors.into_iter().enumerate() {
                let mut name = format!(
                    "servicerole~{}~{}~{}",
                    role.meta.name, part.index, service.name
                );
                if several {
                    name = format!("{name}~{j}");
                }
                if is_tried {
                    name.push_str("~dry-run");
                }
                let mut origins = vec![role.origin()];
                origins.extend(wanted.iter().map(|one| one.origin()));
                let meta = made::meta(&service.namespace, name, &origins);
                let spec = AuthorizationPolicy {
                    selector: Some(WorkloadSelector { match_labels }),
                    rules: rules.clone(),
                    ..Default::default()
                };
                match made::security(KIND, tried(meta, is_tried), &spec) {
                    Ok(object) => converted.objects.push(object),
                    Err(message) => converted.complaints.push(part.complaint("", message)),
                }
            }
        }
    }
}

/// One rule of a role at one Service.
struct Part<'a> {
    role: &'a Role,
    index: usize,
    rule: &'a AccessRule,
    service: &'a Service,
}

impl Part<'_> {
    fn complaint(&self, field: &str, message: impl Into<String>) -> Complaint {
        let path = format!("spec.rules[{}]{field}", self.index);
        self.role.complaint(path, message)
    }
}

fn speaks_http(service: &Service) -> bool {
    service.ports.iter().any(|port| port.http)
}

fn needs_requests(rule: &AccessRule) -> bool {
    let lists = [
        &rule.paths,
        &rule.not_paths,
        &rule.methods,
        &rule.not_methods,
        &rule.hosts,
        &rule.not_hosts,
    ];
    let mut constraints = rule.constraints.iter();
    lists.into_iter().any(|list| !list.is_empty())
        || constraints.any(|one| one.key.starts_with("request.headers"))
}

/// Why no connection is ever allowed by a role with this binding.
fn raw_binding(binding: &Binding, service: &Service) -> Option<Complaint> {
    let mut subjects = binding.spec.subjects.iter();
    let k = subjects.position(subject::needs_requests)?;
    let message = format!(
        "it can be checked only in HTTP, and no port of {} is declared as HTTP, so the whole role is left out there: want a separate role for these subjects",
        service.host
    );
    Some(binding.complaint(format!("spec.subjects[{k}]"), message))
}

/// The callers that a binding allows; subjects that cannot be converted become complaints.
fn of_binding(binding: &Binding, of_origin: bool, complaints: &mut Vec<Complaint>) -> Vec<Caller> {
    let mut callers = Vec::new();
    for (k, one) in binding.spec.subjects.iter().enumerate() {
        let path = format!("spec.subjects[{k}]");
        let caller = match subject::read(one, of_origin) {
            Ok(Some(caller)) => caller,
            Ok(None) => {
                let message = "the subject names no caller: want user, group or properties";
                complaints.push(binding.complaint(path, message));
                continue;
            }
            Err((field, message)) => {
                complaints.push(binding.complaint(format!("{path}.{field}"), message));
                continue;
            }
        };
        let alone = rule_for(
            std::slice::from_ref(&caller),
            &Operation::default(),
            &Constrained::default(),
        );
        match check(&alone) {
            Ok(()) => callers.push(caller),
            Err(message) => complaints.push(binding.complaint(path, message)),
        }
    }
    callers
}

/// One rule for all callers without conditions, and one for each of the others.
fn rules(callers: Vec<Caller>, operation: &Operation, constrained: &Constrained) -> Vec<Rule> {
    let (plain, others): (Vec<Caller>, Vec<Caller>) =
        callers.into_iter().partition(|one| one.when.is_empty());
    let mut rules = Vec::new();
    if !plain.is_empty() {
        rules.push(rule_for(&plain, operation, constrained));
    }
    for other in others {
        rules.push(rule_for(&[other], operation, constrained));
    }
    rules
}

/// A rule for `callers`, whose conditions must be the same; for everyone if there are none.
fn rule_for(callers: &[Caller], operation: &Operation, constrained: &Constrained) -> Rule {
    let mut from: Vec<From> = Vec::new();
    let unconditional = |caller: &Caller| caller.source == Default::default();
    if !callers.iter().any(unconditional) {
        for caller in callers {
            let one = From {
                source: Some(caller.source.clone()),
            };
            if !from.contains(&one) {
                from.push(one);
            }
        }
    }
    let mut when = constrained.when.clone();
    when.extend(
        callers
            .first()
            .into_iter()
            .flat_map(|one| one.when.iter().cloned()),
    );
    let to = (*operation != Operation::default()).then(|| To {
        operation: Some(operation.clone()),
    });
    Rule {
        from,
        to: to.into_iter().collect(),
        when,
    }
}

/// Checks that validation accepts the rule.
fn check(rule: &Rule) -> Result<(), String> {
    let spec = AuthorizationPolicy {
        rules: vec![rule.clone()],
        ..Default::default()
    };
    let object = made::security(KIND, Meta::default(), &spec);
    // The path is one in the resulting object, which the user does not know.
    object.map(|_| ()).map_err(|message| {
        let told = message
            .split_once(": ")
            .map_or(message.as_str(), |(_, told)| told);
        told.to_owned()
    })
}
