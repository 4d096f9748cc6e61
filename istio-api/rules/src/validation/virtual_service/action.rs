//! Redirects, direct responses, rewrites and retries.

use crate::validation::primitives::{number, text};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::http_body::Specifier;
use istio_api::networking::v1alpha3::http_redirect::RedirectPort;
use istio_api::networking::v1alpha3::{HttpDirectResponse, HttpRedirect, HttpRetry, HttpRewrite};

/// Direct responses larger than this are refused.
const MAX_BODY: usize = 1 << 20;

/// Direct responses larger than this cost every proxy memory.
const LARGE_BODY: usize = 100 << 10;

pub(super) fn redirect(check: &mut Check<'_>, at: &At<'_>, to: &HttpRedirect) {
    check.refuse(
        to.uri.is_empty() && to.authority.is_empty() && to.scheme.is_empty() && to.redirect_port.is_none(),
        "VS-72",
        at,
        "the redirect leads back to where the request came from: want uri, authority, scheme, port or derivePort",
    );
    if to.redirect_code != 0 && !(300..=399).contains(&to.redirect_code) {
        check.error(
            "VS-73",
            &at.field("redirectCode"),
            format!(
                "{} is not a valid redirect status: want 301, 302, 303, 307 or 308",
                to.redirect_code
            ),
        );
    }
    if !matches!(to.scheme.as_str(), "" | "http" | "https") {
        check.error(
            "VS-74",
            &at.field("scheme"),
            format!(
                "{} is not a valid redirect scheme: want http or https",
                quote(&to.scheme)
            ),
        );
    }
    if let Some(RedirectPort::Port(port)) = to.redirect_port
        && port > 65_535
    {
        check.error(
            "VS-75",
            &at.field("port"),
            format!("{port} is not a valid port: want at most 65535"),
        );
    }
}

pub(super) fn answer(check: &mut Check<'_>, at: &At<'_>, answer: &HttpDirectResponse) {
    check.test(
        "VS-76",
        &at.field("status"),
        number::http_status(i64::from(answer.status)),
    );
    let size = match answer
        .body
        .as_ref()
        .and_then(|body| body.specifier.as_ref())
    {
        Some(Specifier::String(text)) => text.len(),
        Some(Specifier::Bytes(bytes)) => bytes.len(),
        None => 0,
    };
    if size > MAX_BODY {
        check.error(
            "VS-77",
            &at.field("body"),
            format!("the body has {size} bytes: want at most {MAX_BODY}"),
        );
    } else if size > LARGE_BODY {
        check.warn("VS-78", &at.field("body"), format!(
            "the body has {size} bytes, which every proxy keeps in memory: want less than {LARGE_BODY}"
        ));
    }
}

pub(super) fn rewrite(check: &mut Check<'_>, at: &At<'_>, rewrite: &HttpRewrite) {
    let regex = rewrite.uri_regex_rewrite.as_ref();
    check.refuse(
        !rewrite.uri.is_empty() && regex.is_some(),
        "VS-84",
        at,
        "uri and uriRegexRewrite are both set: want one of them",
    );
    check.refuse(
        rewrite.uri.is_empty() && regex.is_none() && rewrite.authority.is_empty(),
        "VS-85",
        at,
        "nothing is rewritten: want uri, uriRegexRewrite or authority",
    );
    let Some(regex) = regex else {
        return;
    };
    let at = at.field("uriRegexRewrite");
    check.refuse(
        regex.r#match.is_empty() || regex.rewrite.is_empty(),
        "VS-86",
        &at,
        "match or rewrite is empty: want both",
    );
    if !regex.r#match.is_empty() {
        check.test("VS-87", &at.field("match"), text::regex(&regex.r#match));
    }
}

/// Conditions of Envoy and of gRPC on which a request is tried again.
const POLICIES: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

fn is_status(token: &str) -> bool {
    token.parse::<i64>().is_ok_and(|number| {
        matches!(number,
            100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426
            | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
    })
}

pub(super) fn retries(check: &mut Check<'_>, at: &At<'_>, retries: &HttpRetry) {
    check.test(
        "VS-79",
        &at.field("attempts"),
        number::not_negative(retries.attempts),
    );
    check.refuse(
        retries.attempts == 0
            && (retries.per_try_timeout.is_some()
                || !retries.retry_on.is_empty()
                || retries.retry_remote_localities.is_some()),
        "VS-80",
        at,
        "attempts is 0, which turns retries off, but other settings for retries are beside it: want attempts of 1 or more, or attempts alone",
    );
    if let Some(time) = &retries.per_try_timeout {
        check.test("VS-81", &at.field("perTryTimeout"), number::duration(time));
    }
    if !retries.retry_on.is_empty() {
        for token in retries.retry_on.split(',') {
            if !POLICIES.contains(&token) && !is_status(token) {
                check.error("VS-82", &at.field("retryOn"), format!(
                    "{} is not a condition for a retry: want names such as 5xx or connect-failure and HTTP statuses, separated by commas without spaces",
                    quote(token)
                ));
            }
        }
    }
    if let Some(time) = &retries.backoff {
        check.test("VS-83", &at.field("backoff"), number::duration(time));
    }
}
