//! Rules for Telemetry.

mod cel;

use super::SPEC;
use super::primitives::label::{TargetRules, target};
use super::primitives::number;
use super::report::{At, Check, quote};
use istio_api::telemetry::v1alpha1::metric_selector::MetricMatch;
use istio_api::telemetry::v1alpha1::metrics_overrides::tag_override::Operation;
use istio_api::telemetry::v1alpha1::tracing::custom_tag::Type;
use istio_api::telemetry::v1alpha1::{
    AccessLogging, Metrics, MetricsOverrides, ProviderRef, Telemetry, Tracing,
};

pub(super) fn validate(check: &mut Check<'_>, spec: &Telemetry) {
    target(
        check,
        TargetRules::all("TE-01"),
        &SPEC,
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
    );
    if spec.tracing.len() > 1 {
        check.warn(
            "TE-09",
            &SPEC.field("tracing"),
            "only the first element is used: want one",
        );
    }
    for (i, tracing) in spec.tracing.iter().enumerate() {
        traces(check, &SPEC.item("tracing", i), tracing);
    }
    for (i, one) in spec.metrics.iter().enumerate() {
        metrics(check, &SPEC.item("metrics", i), one);
    }
    for (i, logging) in spec.access_logging.iter().enumerate() {
        logs(check, &SPEC.item("accessLogging", i), logging);
    }
}

fn providers(check: &mut Check<'_>, at: &At<'_>, providers: &[ProviderRef]) {
    for (i, provider) in providers.iter().enumerate() {
        let at = at.item("providers", i);
        check.refuse(
            provider.name.is_empty(),
            "TE-02",
            &at.field("name"),
            "the provider has no name: want one of extensionProviders in the mesh configuration",
        );
    }
}

fn traces(check: &mut Check<'_>, at: &At<'_>, tracing: &Tracing) {
    providers(check, at, &tracing.providers);
    if tracing.providers.len() > 1 {
        check.warn(
            "TE-10",
            &at.field("providers"),
            "only one provider gets the traces: want one",
        );
    }
    if let Some(share) = tracing.random_sampling_percentage {
        check.test(
            "TE-11",
            &at.field("randomSamplingPercentage"),
            number::range_percent(share),
        );
    }
    for (name, tag) in &tracing.custom_tags {
        let at = at.entry("customTags", name);
        check.refuse(
            name.is_empty(),
            "TE-12",
            &at,
            "the tag has no name: want one",
        );
        let (kind, field, text) = match &tag.r#type {
            Some(Type::Literal(literal)) => ("literal", "value", &literal.value),
            Some(Type::Header(header)) => ("header", "name", &header.name),
            Some(Type::Environment(environment)) => ("environment", "name", &environment.name),
            Some(Type::Formatter(_)) | None => continue,
        };
        let at = at.field(kind);
        check.refuse(
            text.is_empty(),
            "TE-14",
            &at.field(field),
            "the tag would have no value: want one that is not empty",
        );
    }
}

fn metrics(check: &mut Check<'_>, at: &At<'_>, metrics: &Metrics) {
    providers(check, at, &metrics.providers);
    for (i, one) in metrics.overrides.iter().enumerate() {
        overrides(check, &at.item("overrides", i), one);
    }
}

fn overrides(check: &mut Check<'_>, at: &At<'_>, overrides: &MetricsOverrides) {
    if let Some(MetricMatch::CustomMetric(name)) = overrides
        .r#match
        .as_ref()
        .and_then(|one| one.metric_match.as_ref())
    {
        let at = at.field("match");
        check.refuse(
            name.is_empty(),
            "TE-08",
            &at.field("customMetric"),
            "the metric has no name: want one",
        );
    }
    for (name, tag) in &overrides.tag_overrides {
        let at = at.entry("tagOverrides", name);
        if name.is_empty() {
            check.warn("TE-04", &at, "the tag has no name: want one");
        }
        let value = at.field("value");
        match tag.operation() {
            Operation::Upsert => check.refuse(
                tag.value.is_empty(),
                "TE-06",
                &value,
                "there is no value to set: want an expression, or operation REMOVE",
            ),
            Operation::Remove => check.refuse(
                !tag.value.is_empty(),
                "TE-07",
                &value,
                "a tag that is removed has no value: want operation UPSERT, or no value",
            ),
        }
    }
}

fn logs(check: &mut Check<'_>, at: &At<'_>, logging: &AccessLogging) {
    providers(check, at, &logging.providers);
    if let Some(filter) = &logging.filter
        && let Err(problem) = cel::check(&filter.expression)
    {
        let at = at.field("filter");
        check.error(
            "TE-15",
            &at.field("expression"),
            format!(
                "{} is not valid CEL ({problem}): want one such as \"response.code >= 500\"",
                quote(&filter.expression)
            ),
        );
    }
}
