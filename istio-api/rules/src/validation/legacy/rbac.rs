//! Rules for ClusterRbacConfig, RbacConfig, ServiceRole and ServiceRoleBinding.

use crate::validation::SPEC;
use crate::validation::metadata::METADATA;
use crate::validation::report::{Check, quote};
use istio_api::rbac::v1alpha1::rbac_config::Mode;
use istio_api::rbac::v1alpha1::{RbacConfig, ServiceRole, ServiceRoleBinding};

pub(in crate::validation) fn validate_role(check: &mut Check<'_>, spec: &ServiceRole) {
    check.refuse(
        spec.rules.is_empty(),
        "RB-01",
        &SPEC.field("rules"),
        "there is no rule: want at least one with services",
    );
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = SPEC.item("rules", i);
        check.refuse(
            rule.services.is_empty(),
            "RB-02",
            &at.field("services"),
            "there is no service: want at least one, or \"*\" for all",
        );
        for (i, constraint) in rule.constraints.iter().enumerate() {
            let at = at.item("constraints", i);
            check.refuse(
                constraint.key.is_empty(),
                "RB-03",
                &at.field("key"),
                "there is no key: want one such as \"destination.labels[version]\"",
            );
            check.refuse(
                constraint.values.is_empty(),
                "RB-04",
                &at.field("values"),
                "there is nothing to compare with: want at least one value",
            );
        }
    }
}

pub(in crate::validation) fn validate_binding(check: &mut Check<'_>, spec: &ServiceRoleBinding) {
    check.refuse(
        spec.subjects.is_empty(),
        "RB-05",
        &SPEC.field("subjects"),
        "there is no subject: want at least one, such as user: \"*\"",
    );
    for (i, subject) in spec.subjects.iter().enumerate() {
        check.refuse(
            subject.user.is_empty() && subject.group.is_empty() && subject.properties.is_empty(),
            "RB-06",
            &SPEC.item("subjects", i),
            "the subject names no caller: want user, group or properties",
        );
    }
    let at = SPEC.field("roleRef");
    let Some(role) = &spec.role_ref else {
        check.error(
            "RB-07",
            &at,
            "there is no role: want kind: ServiceRole and its name",
        );
        return;
    };
    if role.kind != "ServiceRole" {
        check.error(
            "RB-08",
            &at.field("kind"),
            format!(
                "{} is not a kind of role: want ServiceRole",
                quote(&role.kind)
            ),
        );
    }
    check.refuse(
        role.name.is_empty(),
        "RB-09",
        &at.field("name"),
        "the role has no name: want the name of a ServiceRole",
    );
}

pub(in crate::validation) fn validate_config(check: &mut Check<'_>, spec: &RbacConfig) {
    let is_default = check.meta.name == "default";
    check.refuse(
        !is_default,
        "RB-10",
        &METADATA.field("name"),
        "only one such object can exist: want the name \"default\"",
    );
    check.refuse(
        spec.mode() == Mode::OnWithInclusion && spec.inclusion.is_none(),
        "RB-11",
        &SPEC.field("inclusion"),
        "mode ON_WITH_INCLUSION needs to know what is included: want inclusion, or mode ON",
    );
    check.refuse(
        spec.mode() == Mode::OnWithExclusion && spec.exclusion.is_none(),
        "RB-12",
        &SPEC.field("exclusion"),
        "mode ON_WITH_EXCLUSION needs to know what is excluded: want exclusion, or mode ON",
    );
}

pub(in crate::validation) fn validate_old_config(check: &mut Check<'_>, spec: &RbacConfig) {
    check.warn(
        "RB-13",
        &SPEC,
        "RbacConfig is deprecated: want ClusterRbacConfig",
    );
    validate_config(check, spec);
}
