//! Reviews of a book: without stars (v1), or with black (v2) or red stars (v3) from ratings.

use super::{base_url, object};
use crate::context::{Caller, forwarded};
use crate::server::{self, Listen};
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Settings of reviews.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub listen: Listen,
    /// Whether to get stars from ratings
    #[arg(long, env = "ENABLE_RATINGS", default_value_t = false, action = clap::ArgAction::Set)]
    pub enable_ratings: bool,
    /// Colour of the stars; the timeout for ratings is 10 s with black stars, else 2.5 s
    #[arg(long, env = "STAR_COLOR", default_value = "black")]
    pub star_color: String,
    /// Cluster name in responses
    #[arg(long, env = "CLUSTER_NAME", default_value = "null")]
    pub cluster_name: String,
    /// Domain suffix of the names of other services
    #[arg(long, env = "SERVICES_DOMAIN", default_value = "")]
    pub services_domain: String,
    /// Host name of ratings
    #[arg(long, env = "RATINGS_HOSTNAME", default_value = "ratings")]
    pub ratings_hostname: String,
    /// Port of ratings
    #[arg(long, env = "RATINGS_SERVICE_PORT", default_value_t = 9080)]
    pub ratings_port: u16,
}

struct Reviews {
    args: Args,
    ratings: String,
    caller: Caller,
}

/// `GET /reviews/{id}`, `GET /health`.
pub fn router(args: Args) -> Router {
    let ratings = base_url(
        &args.ratings_hostname,
        &args.services_domain,
        args.ratings_port,
    );
    let state = Arc::new(Reviews {
        args,
        ratings,
        caller: Caller::default(),
    });
    Router::new()
        .route("/health", get(|| async { server::health("Reviews") }))
        .route("/reviews/{id}", get(reviews))
        .with_state(state)
}

async fn reviews(
    State(state): State<Arc<Reviews>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Json<Value> {
    let stars = if state.args.enable_ratings {
        Some(state.stars(&id, forwarded(&headers)).await)
    } else {
        None
    };
    let review = |reviewer: &str, text: &str| {
        let mut review = json!({"reviewer": reviewer, "text": text});
        let rating = match &stars {
            None => return review,
            Some(None) => json!({"error": "Ratings service is currently unavailable"}),
            Some(Some(stars)) => json!({
                "stars": stars.pointer(&format!("/ratings/{reviewer}")).cloned().unwrap_or_else(|| json!(-1)),
                "color": state.args.star_color,
            }),
        };
        if let Some(members) = review.as_object_mut() {
            members.insert("rating".to_owned(), rating);
        }
        review
    };
    Json(json!({
        "id": id,
        "podname": state.args.listen.pod_name,
        "clustername": state.args.cluster_name,
        "reviews": [
            review("Reviewer1", "Two pairs of twins, one town, and nobody who asks the one question that would end it. I laughed out loud on the train."),
            review("Reviewer2", "Light, quick and cleverly built. Not his deepest play, but surely one of the shortest."),
        ],
    }))
}

impl Reviews {
    /// The response of ratings, if it is usable.
    async fn stars(&self, id: &str, headers: HeaderMap) -> Option<Value> {
        let timeout = if self.args.star_color == "black" {
            Duration::from_secs(10)
        } else {
            Duration::from_millis(2500)
        };
        // The book number must not leave its path segment.
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        let url = format!("{}/ratings/{id}", self.ratings);
        match self.caller.get(&url, headers, timeout).await {
            Ok((StatusCode::OK, body)) => object(&body),
            Ok((status, _)) => {
                tracing::warn!(status = status.as_u16(), "cannot get ratings");
                None
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot get ratings");
                None
            }
        }
    }
}
