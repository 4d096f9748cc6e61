//! HTML pages of the shop. All external text passes through `escaped`.

use super::part::Part;
use http::StatusCode;
use serde_json::Value;

/// Title of the only book.
pub(super) const TITLE: &str = "The Comedy of Errors";
/// Description of the book, as HTML.
pub(super) const DESCRIPTION: &str = "An early comedy of <a href=\"https://en.wikipedia.org/wiki/William_Shakespeare\">Shakespeare</a>: \
two pairs of twins, parted in a storm at sea, come to the same town on the same day, and everybody there takes each for the other.";

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/static/style.css\">\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    )
}

/// The start page: a link to the book, and the services.
pub(super) fn index(services: &[(&str, &str)]) -> String {
    let rows: String = services
        .iter()
        .map(|(name, url)| format!("<li><b>{name}</b> at <code>{}</code></li>\n", escaped(url)))
        .collect();
    frame(
        "Book shop",
        &format!(
            "<header class=\"bar\"><span class=\"brand\">Book shop</span></header>\n<main>\n\
             <section class=\"card\"><h1>A shop with one book</h1>\n\
             <p>Four small services, one page. <a class=\"button\" href=\"/productpage\">See the book</a></p>\n\
             <h2>Behind this page</h2>\n<ul>\n{rows}</ul>\n\
             <p>JSON: <a href=\"/api/v1/products\">/api/v1/products</a></p></section>\n</main>"
        ),
    )
}

/// The page of the book.
pub(super) fn product(user: Option<&str>, pod: &str, details: &Part, reviews: &Part) -> String {
    let sign_in = user.map_or_else(
        || {
            "<form class=\"sign-in\" method=\"post\" action=\"/login\">\
             <input name=\"username\" placeholder=\"User name\" aria-label=\"User name\" maxlength=\"64\" required>\
             <input name=\"passwd\" type=\"password\" placeholder=\"Password (any)\" aria-label=\"Password\">\
             <button type=\"submit\">Sign in</button></form>"
                .to_owned()
        },
        |user| {
            format!(
                "<span class=\"user\">{}</span> <a class=\"quiet\" href=\"/logout\">Sign out</a>",
                escaped(user)
            )
        },
    );
    frame(
        TITLE,
        &format!(
            "<header class=\"bar\"><a class=\"brand\" href=\"/\">Book shop</a><div>{sign_in}</div></header>\n\
             <main>\n<section class=\"intro\"><h1>{TITLE}</h1>\n<p>{DESCRIPTION}</p></section>\n\
             <div class=\"columns\">\n{}\n{}\n</div>\n\
             <footer>Page by <code>{}</code></footer>\n</main>",
            details_card(details),
            reviews_card(reviews),
            escaped(pod)
        ),
    )
}

fn error_card(title: &str, what: &str, part: &Part) -> String {
    let reason = part
        .body
        .get("error")
        .and_then(Value::as_str)
        .unwrap_or("No reason was given.");
    format!(
        "<section class=\"card\"><h2>{title}</h2>\n<div class=\"problem\">\
         <h3>Error fetching product {what}!</h3><p>{}</p></div></section>",
        escaped(reason)
    )
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => escaped(text),
        Some(other) => escaped(&other.to_string()),
        None => "-".to_owned(),
    }
}

fn details_card(part: &Part) -> String {
    if part.status != StatusCode::OK {
        return error_card("Book Details", "details", part);
    }
    let rows: String = [
        ("Author", "author"),
        ("Year", "year"),
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ]
    .iter()
    .map(|(label, key)| {
        format!(
            "<tr><th>{label}</th><td>{}</td></tr>\n",
            text_of(part.body.get(key))
        )
    })
    .collect();
    format!("<section class=\"card\"><h2>Book Details</h2>\n<table>\n{rows}</table></section>")
}

fn reviews_card(part: &Part) -> String {
    if part.status != StatusCode::OK {
        return error_card("Book Reviews", "reviews", part);
    }
    let reviews: String = part
        .body
        .get("reviews")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|review| {
            format!(
                "<blockquote><p>{}</p>\n{}<cite>{}</cite></blockquote>\n",
                text_of(review.get("text")),
                rating(review.get("rating")),
                text_of(review.get("reviewer"))
            )
        })
        .collect();
    format!(
        "<section class=\"card\"><h2>Book Reviews</h2>\n{reviews}\
         <p class=\"served\">Reviews served by: <code>{}</code></p></section>",
        text_of(part.body.get("podname"))
    )
}

fn rating(rating: Option<&Value>) -> String {
    let Some(rating) = rating else {
        return String::new();
    };
    if let Some(error) = rating.get("error") {
        return format!("<p class=\"problem\">{}</p>\n", text_of(Some(error)));
    }
    let stars = rating
        .get("stars")
        .and_then(Value::as_u64)
        .unwrap_or(0)
        .min(5);
    // The colour becomes part of a class and a style: letters only.
    let color: String = rating
        .get("color")
        .and_then(Value::as_str)
        .unwrap_or("black")
        .chars()
        .filter(char::is_ascii_alphabetic)
        .collect();
    let full: String = (0..stars)
        .map(|_| "<span class=\"glyphicon glyphicon-star\">&#9733;</span>")
        .collect();
    let empty: String = (stars..5)
        .map(|_| "<span class=\"empty\">&#9734;</span>")
        .collect();
    format!(
        "<div class=\"stars\" style=\"color:{color}\" aria-label=\"{stars} of 5 stars, {color}\">{full}{empty}</div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn part(status: StatusCode, body: Value) -> Part {
        Part { status, body }
    }

    #[test]
    fn page_shows_one_star_element_per_star_in_its_colour() {
        let reviews = part(
            StatusCode::OK,
            json!({"podname": "reviews-v3-x", "reviews": [
                {"reviewer": "Reviewer1", "text": "t", "rating": {"stars": 5, "color": "red"}},
                {"reviewer": "Reviewer2", "text": "t", "rating": {"stars": 4, "color": "red"}}]}),
        );
        let html = product(None, "p", &part(StatusCode::OK, json!({})), &reviews);
        assert_eq!(html.matches("glyphicon-star").count(), 9);
        assert!(html.contains("color:red") && html.contains("reviews-v3-x"));
        assert!(html.contains("Sign in") && html.contains("Book Details"));
    }

    #[test]
    fn failures_are_named_on_the_page() {
        let bad = |what: &str| part(StatusCode::INTERNAL_SERVER_ERROR, json!({"error": what}));
        let html = product(Some("jason"), "p", &bad("d"), &bad("r"));
        assert!(html.contains("Error fetching product details"));
        assert!(html.contains("Error fetching product reviews"));
        assert!(html.contains("jason") && !html.contains("Sign in"));
    }

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let reviews = part(
            StatusCode::OK,
            json!({"podname": "<script>", "reviews": [{"reviewer": "<b>", "text": "\"'&",
                "rating": {"stars": 99, "color": "red;background:url(x)"}}]}),
        );
        let html = product(
            Some("<i>"),
            "<u>",
            &part(StatusCode::OK, json!({"author": "<a>"})),
            &reviews,
        );
        for tag in ["<script>", "<b>", "<i>", "<u>", "<a>", "url(x)"] {
            assert!(!html.contains(tag), "{tag}");
        }
        assert_eq!(html.matches("glyphicon-star").count(), 5);
    }
}
