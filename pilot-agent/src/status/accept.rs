//! Translates the Accept header of a scrape for each source. Pure.

/// Requested when the scraper accepts no known format.
pub const TEXT: &str = "text/plain;version=0.0.4";
const OPEN_METRICS: &str = "application/openmetrics-text";

/// Formats to request from Envoy: text only.
#[must_use]
pub fn for_envoy(accept: Option<&str>) -> String {
    narrow(accept, false)
}

/// Formats to request from the application: OpenMetrics as well.
#[must_use]
pub fn for_application(accept: Option<&str>) -> String {
    narrow(accept, true)
}

fn narrow(accept: Option<&str>, open_metrics: bool) -> String {
    let mut ranges: Vec<(f32, String)> = accept
        .unwrap_or_default()
        .split(',')
        .filter_map(|range| {
            let mut quality = 1.0;
            let mut kept = Vec::new();
            for part in range
                .split(';')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                match part.strip_prefix("q=") {
                    Some(text) => quality = text.parse().ok()?,
                    None => kept.push(part),
                }
            }
            let kind = match *kept.first()? {
                "*/*" => TEXT.to_owned(),
                "application/*" if open_metrics => format!("{OPEN_METRICS};version=0.0.1"),
                kind if kind.starts_with("text/") || (open_metrics && kind == OPEN_METRICS) => {
                    kept.join(";")
                }
                _ => return None,
            };
            (quality > 0.0).then_some((quality, kind))
        })
        .collect();
    if ranges.is_empty() {
        return TEXT.to_owned();
    }
    // A stable sort keeps the client's order of ranges with equal weights.
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = ranges.len().min(9);
    let numbered = ranges
        .iter()
        .take(count)
        .enumerate()
        .map(|(at, (_, kind))| format!("{kind};q=0.{}", count - at));
    numbered.collect::<Vec<_>>().join(",")
}

/// The Content-Type of the merged response, given that of the application.
#[must_use]
pub fn content_type(application: Option<&str>) -> String {
    if let Some(kind) = application {
        let mut parts = kind.split(';').map(str::trim);
        let version = |version: &str| {
            kind.split(';')
                .any(|part| part.trim() == format!("version={version}"))
        };
        if parts.next() == Some(OPEN_METRICS) && (version("1.0.0") || version("0.0.1")) {
            return kind.to_owned();
        }
    }
    "text/plain; version=0.0.4; charset=utf-8".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_narrowed_and_numbered_again() {
        let accept = Some(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1,image/png",
        );
        assert_eq!(
            for_application(accept),
            "application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,text/plain;version=0.0.4;q=0.1"
        );
        assert_eq!(
            for_envoy(accept),
            "text/plain;version=0.0.4;q=0.2,text/plain;version=0.0.4;q=0.1"
        );
        assert_eq!(
            for_application(Some("application/*")),
            "application/openmetrics-text;version=0.0.1;q=0.1"
        );
        for bad in [
            None,
            Some(""),
            Some(";;,"),
            Some("image/png"),
            Some("text/plain;q=x"),
        ] {
            assert_eq!(for_envoy(bad), TEXT);
        }
    }

    #[test]
    fn content_type_is_open_metrics_only_if_the_application_says_so() {
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(content_type(Some(open)), open);
        assert!(
            content_type(Some("application/openmetrics-text; version=9")).starts_with("text/plain")
        );
        assert!(content_type(None).starts_with("text/plain"));
    }
}
