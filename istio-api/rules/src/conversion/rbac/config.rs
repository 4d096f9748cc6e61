//! For which services access control is on.

use crate::conversion::service::reaches_everywhere;
use crate::conversion::{Complaint, Converted, Mesh, Service, Source, made};
use istio_api::object::{Meta, Object};
use istio_api::rbac::v1alpha1::rbac_config::{Mode, Target};
use istio_api::rbac::v1alpha1::{EnforcementMode, RbacConfig};
use istio_api::security::v1beta1::AuthorizationPolicy;
use istio_api::type_::v1beta1::WorkloadSelector;
use istio_api::well_known::annotations::DRY_RUN;

pub(super) const KIND: &str = "AuthorizationPolicy";

/// The config in force; its mode is not `OFF`.
pub(super) struct Config {
    source: Source<RbacConfig>,
    /// Everything is a dry run.
    pub(super) is_tried: bool,
}

impl Config {
    /// The ClusterRbacConfig `default`, else the RbacConfig of that name, the oldest.
    pub(super) fn read(objects: &[Object], complaints: &mut Vec<Complaint>) -> Option<Self> {
        let mut all = Source::<RbacConfig>::all(objects, "ClusterRbacConfig", complaints);
        all.extend(Source::all(objects, "RbacConfig", complaints));
        let (named, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.meta.name == "default");
        complaints.extend(others.iter().map(|one| {
            one.complaint(
                "metadata.name",
                "only the object named \"default\" has an effect: want that name",
            )
        }));
        let mut named = named.into_iter();
        let source = named.next()?;
        complaints.extend(named.map(|one| {
            let message = format!(
                "{} is in force: want one of the two",
                source.origin().title()
            );
            one.complaint("metadata.name", message)
        }));
        (source.spec.mode() != Mode::Off).then(|| Self {
            is_tried: source.spec.enforcement_mode() == EnforcementMode::Permissive,
            source,
        })
    }

    pub(super) fn is_on(&self, service: &Service) -> bool {
        let spec = &self.source.spec;
        match spec.mode() {
            Mode::Off => false,
            Mode::On => true,
            Mode::OnWithInclusion => names(spec.inclusion.as_ref(), service),
            Mode::OnWithExclusion => !names(spec.exclusion.as_ref(), service),
        }
    }

    /// The policies that refuse what no role allows.
    pub(super) fn refusals(&self, services: &[Service], mesh: &Mesh<'_>) -> Converted {
        let mut converted = Converted::default();
        let at_mode = "spec.mode";
        let origin = self.source.origin();
        if self.source.spec.mode() == Mode::On {
            let meta = made::meta(mesh.root_namespace, "rbac~default".to_owned(), [&origin]);
            self.finish(meta, None, &mut converted);
            converted.complaints.push(origin.complaint(
                at_mode,
                "1.1 controls access at sidecars only, but refusing by default applies to gateways too: want an AuthorizationPolicy that allows what they receive",
            ));
            return converted;
        }
        for service in services.iter().filter(|one| self.is_on(one)) {
            if service.selector.is_empty() {
                let message = format!(
                    "{} selects no workloads, so nothing can refuse requests to it: want a selector",
                    service.host
                );
                converted
                    .complaints
                    .push(origin.complaint(at_mode, message));
                continue;
            }
            if service.namespace == mesh.root_namespace {
                let message = reaches_everywhere(service);
                converted
                    .complaints
                    .push(origin.complaint(at_mode, message));
                continue;
            }
            let open = services.iter().find(|other| {
                other.namespace == service.namespace
                    && other.selector == service.selector
                    && !self.is_on(other)
            });
            if let Some(open) = open {
                let message = format!(
                    "{} is exempt but shares workloads with {}, which is not: want both or neither",
                    open.host, service.host
                );
                converted
                    .complaints
                    .push(origin.complaint(at_mode, message));
            }
            let name = format!("rbac~default~{}", service.name);
            let meta = made::meta(&service.namespace, name, [&origin]);
            let selector = WorkloadSelector {
                match_labels: service.selector.clone(),
            };
            self.finish(meta, Some(selector), &mut converted);
        }
        converted
    }

    fn finish(&self, meta: Meta, selector: Option<WorkloadSelector>, converted: &mut Converted) {
        let spec = AuthorizationPolicy {
            selector,
            ..Default::default()
        };
        match made::security(KIND, tried(meta, self.is_tried), &spec) {
            Ok(object) => converted.objects.push(object),
            Err(message) => converted
                .complaints
                .push(self.source.complaint("spec.mode", message)),
        }
    }
}

/// Metadata of a policy, marked as a dry run if it is one.
pub(super) fn tried(mut meta: Meta, is_tried: bool) -> Meta {
    if is_tried {
        meta.annotations
            .insert(DRY_RUN.to_owned(), "true".to_owned());
    }
    meta
}

fn names(target: Option<&Target>, service: &Service) -> bool {
    target.is_some_and(|target| {
        target
            .services
            .iter()
            .any(|host| host.eq_ignore_ascii_case(&service.host))
            || target.namespaces.contains(&service.namespace)
    })
}
