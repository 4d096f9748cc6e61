//! Asks the API server whether an account may read the Secrets of its namespace
//! (SubjectAccessReview).

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use mesh_common::{kubeclient::Client, list_watch::Failure, metrics::IntCounterVec};
use pilot_model::credential::Account;
use tokio::sync::Semaphore;

use super::status::Status;

/// Maximum number of concurrent reviews.
const AT_A_TIME: usize = 16;
/// Timeout of one review.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the API server.
#[derive(Clone)]
pub(super) struct Reviewer {
    api: Api<SubjectAccessReview>,
    permits: Arc<Semaphore>,
    results: IntCounterVec,
    status: Status,
}

impl Reviewer {
    /// `results` has the label `result`.
    pub(super) fn new(client: Client, results: IntCounterVec, status: Status) -> Self {
        Self {
            api: Api::all(client),
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            results,
            status,
        }
    }

    /// Whether the account may list Secrets; `None` without an answer, which the status explains.
    pub(super) async fn may_list(&self, account: &Account) -> Option<bool> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok()?;
        let review = question(account);
        let params = PostParams::default();
        let answer = tokio::time::timeout(LIMIT, self.api.create(&params, &review)).await;
        let answer = match answer {
            Ok(Ok(review)) => Ok(review.status.unwrap_or_default().allowed),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => Err(format!(
                "the API server refuses access reviews ({}): {}; the account of pilot needs \
                 create of subjectaccessreviews (authorization.k8s.io)",
                status.code, status.message
            )),
            Ok(Err(error)) => Err(Failure::from(error).to_string()),
            Err(_) => Err(Failure::Silent.to_string()),
        };
        let result = match answer {
            Ok(true) => "allowed",
            Ok(false) => "denied",
            Err(_) => "failed",
        };
        self.results.with_label_values(&[result]).inc();
        self.status.reviewed(answer.as_ref().err());
        answer.ok()
    }
}

/// Asks if the account, which is in the groups of all accounts, may list Secrets in its namespace.
fn question(account: &Account) -> SubjectAccessReview {
    let Account { namespace, name } = account;
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{name}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_string()),
                verb: Some("list".to_owned()),
                resource: Some("secrets".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
