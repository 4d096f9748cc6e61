//! Labels of a sample of `istio_*` metrics: splits peer data into separate labels. Pure.

/// Labels that replace a joined peer label, without the side.
const PEER: [&str; 7] = [
    "workload",
    "workload_namespace",
    "canonical_service",
    "canonical_revision",
    "cluster",
    "app",
    "version",
];
const UNKNOWN: &str = "unknown";

/// Labels as in the text, values with their escapes.
pub(super) type Labels<'a> = Vec<(&'a str, std::borrow::Cow<'a, str>)>;

/// Splits `a="1",b="2"`; `None` for any other form.
pub(super) fn parse(mut text: &str) -> Option<Labels<'_>> {
    let mut found = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })?;
        found.push((name.trim_start_matches(','), rest.get(..end)?.into()));
        text = rest.get(end + 1..)?;
    }
    Some(found)
}

/// Splits the joined peer labels, fills empty ones, removes those in `drop`, and orders the rest.
/// Also returns whether labels were removed, so that series may have become equal.
pub(super) fn rewrite<'a>(labels: Labels<'a>, tcp: bool) -> (Labels<'a>, bool) {
    let mut out = Labels::with_capacity(labels.len() + 12);
    let mut dropped: Vec<String> = Vec::new();
    let principal = labels
        .iter()
        .find(|(name, _)| *name == "source_principal")
        .map(|(_, value)| value.to_string());
    for (name, value) in labels {
        match name {
            "source_peer" => split(
                &value,
                &SOURCE,
                &mut out,
                principal.as_deref().filter(|_| tcp),
            ),
            "destination_peer" => split(&value, &DESTINATION, &mut out, None),
            "drop" => {
                dropped = value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect()
            }
            _ if value.is_empty() && name != "grpc_response_status" => {
                out.push((name, UNKNOWN.into()))
            }
            _ => out.push((name, value)),
        }
    }
    out.retain(|(name, _)| !dropped.iter().any(|gone| gone == name));
    out.sort_by(|(a, _), (b, _)| (*a != "reporter", *a).cmp(&(*b != "reporter", *b)));
    (out, !dropped.is_empty())
}

const SOURCE: [&str; 7] = [
    "source_workload",
    "source_workload_namespace",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "source_app",
    "source_version",
];
const DESTINATION: [&str; 7] = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_app",
    "destination_version",
];

fn split<'a>(
    value: &str,
    names: &[&'static str; PEER.len()],
    out: &mut Labels<'a>,
    principal: Option<&str>,
) {
    let known = !value.is_empty() && value != UNKNOWN;
    let mut parts = value.split(';').filter(|_| known);
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let [
        workload,
        mut namespace,
        service,
        mut revision,
        cluster,
        mut app,
        mut version,
    ] = [next(), next(), next(), next(), next(), next(), next()];
    if known {
        if revision.is_empty() {
            "latest".clone_into(&mut revision);
        }
        if app.is_empty() {
            app.clone_from(&service);
        }
        if version.is_empty() {
            version.clone_from(&revision);
        }
    } else if let Some(found) = principal.and_then(namespace_of) {
        found.clone_into(&mut namespace);
    }
    for (name, value) in names.iter().zip([
        workload, namespace, service, revision, cluster, app, version,
    ]) {
        let value = if value.is_empty() {
            UNKNOWN.to_owned()
        } else {
            value
        };
        out.push((name, value.into()));
    }
}

/// The namespace in a SPIFFE identity.
fn namespace_of(principal: &str) -> Option<&str> {
    principal
        .strip_prefix("spiffe://")?
        .split_once("/ns/")?
        .1
        .split('/')
        .next()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(labels: &Labels<'_>) -> String {
        labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn peers_are_split_with_their_defaults() {
        let parsed = parse("zone=\"\",reporter=\"source\",source_peer=\"web-v1;shop;web;;Kubernetes\",grpc_response_status=\"\"").unwrap();
        let (labels, dropped) = rewrite(parsed, false);
        assert!(!dropped);
        assert_eq!(
            text(&labels),
            "reporter=source grpc_response_status= source_app=web source_canonical_revision=latest \
             source_canonical_service=web source_cluster=Kubernetes source_version=latest source_workload=web-v1 \
             source_workload_namespace=shop zone=unknown"
        );
    }

    #[test]
    fn unknown_peers_take_the_namespace_of_the_principal_on_tcp() {
        let line = "source_peer=\"unknown\",source_principal=\"spiffe://td/ns/shop/sa/web\"";
        assert!(
            text(&rewrite(parse(line).unwrap(), true).0).contains("source_workload_namespace=shop")
        );
        assert!(
            text(&rewrite(parse(line).unwrap(), false).0)
                .contains("source_workload_namespace=unknown")
        );
    }

    #[test]
    fn drop_removes_and_escapes_survive() {
        let parsed = parse("a=\"x\\\"y,\",b=\"2\",drop=\"b, c\",c=\"3\"").unwrap();
        let (labels, dropped) = rewrite(parsed, false);
        assert!(dropped);
        assert_eq!(text(&labels), "a=x\\\"y,");
        assert!(parse("a=\"unclosed").is_none());
        assert!(parse("nonsense").is_none());
    }
}
