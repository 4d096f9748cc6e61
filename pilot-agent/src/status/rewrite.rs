//! Rewrites Envoy's metrics for the scraper, line by line: `envoy_istio_*` becomes `istio_*`. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use super::labels;

const ENVOY: &str = "envoy_istio_";

/// State between lines.
#[derive(Debug, Default)]
pub struct Rewriter {
    /// Sums of the series in the current family that lost labels.
    merged: BTreeMap<String, f64>,
    /// Those series in order of appearance.
    order: Vec<String>,
    series: u64,
}

impl Rewriter {
    /// Rewrites one line, without its newline, and appends it to `out`.
    pub fn line(&mut self, line: &str, out: &mut String) {
        if let Some(comment) = line.strip_prefix('#') {
            self.flush(out);
            // `# TYPE name kind` and `# HELP name text`.
            match comment.split_once(ENVOY) {
                Some((before, after)) if before == " TYPE " || before == " HELP " => {
                    out.push('#');
                    out.push_str(before);
                    out.push_str("istio_");
                    out.push_str(after);
                    out.push('\n');
                }
                _ => push(out, line),
            }
            return;
        }
        match line.strip_prefix(ENVOY) {
            Some(rest) => {
                self.series += 1;
                self.sample(rest, out);
            }
            None => push(out, line),
        }
    }

    /// Writes the remaining output; call at the end.
    pub fn flush(&mut self, out: &mut String) {
        for series in self.order.drain(..) {
            if let Some(sum) = self.merged.remove(&series) {
                out.push_str(&format!("{series} {sum}\n"));
            }
        }
        self.merged.clear();
    }

    /// Number of `istio_` samples so far.
    #[must_use]
    pub fn series(&self) -> u64 {
        self.series
    }

    /// `rest` is the sample without `envoy_istio_`.
    fn sample(&mut self, rest: &str, out: &mut String) {
        let parts = rest.split_once('{').and_then(|(name, rest)| {
            let (text, value) = rest.rsplit_once('}')?;
            Some((name, labels::parse(text)?, value.trim_start()))
        });
        let Some((name, parsed, value)) = parts else {
            out.push_str("istio_");
            push(out, rest);
            return;
        };
        let (labels, dropped) = labels::rewrite(parsed, name.starts_with("tcp_"));
        match value.parse::<f64>() {
            Ok(number) if dropped => {
                let mut series = String::new();
                write_series(&mut series, name, &labels);
                if let Some(sum) = self.merged.get_mut(&series) {
                    *sum += number;
                } else {
                    self.order.push(series.clone());
                    self.merged.insert(series, number);
                }
            }
            _ => {
                write_series(out, name, &labels);
                out.push(' ');
                push(out, value);
            }
        }
    }
}

fn write_series(out: &mut String, name: &str, labels: &[(&str, Cow<'_, str>)]) {
    out.push_str("istio_");
    out.push_str(name);
    let mut separator = '{';
    for (name, value) in labels {
        out.push(separator);
        out.push_str(name);
        out.push_str("=\"");
        out.push_str(value);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str) -> String {
        let mut rewriter = Rewriter::default();
        let mut out = String::new();
        for line in text.lines() {
            rewriter.line(line, &mut out);
        }
        rewriter.flush(&mut out);
        out
    }

    #[test]
    fn only_istio_families_are_touched() {
        let text = "# TYPE envoy_cluster_upstream_rq counter\nenvoy_cluster_upstream_rq{a=\"\"} 1\n\
            # TYPE envoy_istio_requests_total counter\nenvoy_istio_requests_total{response_code=\"200\",reporter=\"source\",flags=\"\"} 7\n\
            envoy_istio_plain 3\n";
        assert_eq!(
            rewrite(text),
            "# TYPE envoy_cluster_upstream_rq counter\nenvoy_cluster_upstream_rq{a=\"\"} 1\n\
            # TYPE istio_requests_total counter\nistio_requests_total{reporter=\"source\",flags=\"unknown\",response_code=\"200\"} 7\n\
            istio_plain 3\n"
        );
    }

    #[test]
    fn series_that_become_equal_are_summed_within_their_family() {
        let text = "# TYPE envoy_istio_a counter\nenvoy_istio_a{x=\"1\",y=\"1\",drop=\"y\"} 2\nenvoy_istio_a{x=\"1\",y=\"2\",drop=\"y\"} 3\n\
            # TYPE envoy_istio_b counter\nenvoy_istio_b{x=\"1\"} 1\n";
        assert_eq!(
            rewrite(text),
            "# TYPE istio_a counter\nistio_a{x=\"1\"} 5\n# TYPE istio_b counter\nistio_b{x=\"1\"} 1\n"
        );
    }
}
