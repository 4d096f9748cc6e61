use std::path::PathBuf;

use mesh_common::testing::Authority;

use super::*;

const FILE: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: ignored}
webhooks:
- name: pilot.validation.istio.io
  clientConfig:
    service: {name: istio-galley, namespace: istio-system, path: /admitpilot}
  rules:
  - {apiGroups: [networking.istio.io], apiVersions: ['*'], operations: [CREATE], resources: ['*']}
";

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("ca", &Authority::new("a").root());
        files.write("webhook", FILE);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn settings(&self, managed_policy: bool) -> Settings {
        Settings {
            name: "istio-galley".to_owned(),
            namespace: "istio-system".to_owned(),
            service: "istio-galley".to_owned(),
            ca_file: self.path("ca"),
            file: Some(self.path("webhook")),
            managed_policy,
        }
    }
}

fn created(desired: &Desired) -> Configuration {
    match desired.step(None) {
        Step::Create(object) => *object,
        other => panic!("{other:?}"),
    }
}

fn policies(object: &Configuration) -> Vec<&str> {
    let webhooks = object.webhooks.iter().flatten();
    webhooks
        .map(|webhook| webhook.failure_policy.as_deref().unwrap_or_default())
        .collect()
}

#[test]
fn an_absent_object_is_made_and_then_left_alone() {
    let files = Files::new();
    let desired = Desired::load(&files.settings(false)).unwrap();
    let object = created(&desired);
    assert_eq!(object.metadata.name.as_deref(), Some("istio-galley"));
    assert_eq!(policies(&object), ["Fail"]);
    let webhook = &object.webhooks.as_ref().unwrap()[0];
    assert_eq!(webhook.side_effects, "None");
    assert_eq!(webhook.admission_review_versions, ["v1"]);
    assert_eq!(
        webhook.client_config.ca_bundle,
        Some(desired.bundle.clone())
    );
    assert!(matches!(desired.step(Some(&object)), Step::Nothing));
}

#[test]
fn what_others_changed_is_put_right_and_labels_stay() {
    let files = Files::new();
    let desired = Desired::load(&files.settings(false)).unwrap();
    let mut object = created(&desired);
    object.metadata.labels = Some([("mine".to_owned(), "x".to_owned())].into());
    object.metadata.resource_version = Some("7".to_owned());
    object.webhooks.as_mut().unwrap()[0].timeout_seconds = Some(1);
    let Step::Replace(replaced) = desired.step(Some(&object)) else {
        panic!("not replaced");
    };
    assert_eq!(replaced.metadata, object.metadata);
    assert_eq!(
        replaced.webhooks.as_ref().unwrap()[0].timeout_seconds,
        Some(10)
    );
    assert!(matches!(desired.step(Some(&replaced)), Step::Nothing));
}

#[test]
fn of_an_object_of_somebody_else_only_the_bundle_is_written() {
    let files = Files::new();
    let mut theirs = created(&Desired::load(&files.settings(false)).unwrap());
    theirs.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = None;
    theirs.webhooks.as_mut().unwrap()[0].timeout_seconds = Some(3);
    let settings = Settings {
        file: None,
        ..files.settings(true)
    };
    let desired = Desired::load(&settings).unwrap();
    assert!(matches!(desired.step(None), Step::Nothing));
    let Step::Patch(patch) = desired.step(Some(&theirs)) else {
        panic!("not patched");
    };
    let expected = json!({"webhooks": [{
        "name": "pilot.validation.istio.io",
        "clientConfig": {"caBundle": desired.bundle},
    }]});
    assert_eq!(patch, expected);
    theirs.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = Some(desired.bundle.clone());
    assert!(matches!(desired.step(Some(&theirs)), Step::Nothing));
    assert!(desired.fail_closed(Some(theirs)).is_none());
}

#[test]
fn a_managed_policy_goes_from_ignore_to_fail_and_never_back() {
    let files = Files::new();
    let desired = Desired::load(&files.settings(true)).unwrap();
    let object = created(&desired);
    assert_eq!(policies(&object), ["Ignore"]);
    let closed = desired.fail_closed(Some(object)).unwrap();
    assert_eq!(policies(&closed), ["Fail"]);
    assert!(matches!(desired.step(Some(&closed)), Step::Nothing));
    assert!(desired.fail_closed(Some(closed)).is_none());
    assert!(desired.fail_closed(None).is_none());
}

#[test]
fn a_new_bundle_is_written() {
    let files = Files::new();
    let before = created(&Desired::load(&files.settings(false)).unwrap());
    files.write("ca", &Authority::new("b").root());
    let desired = Desired::load(&files.settings(false)).unwrap();
    let Step::Replace(after) = desired.step(Some(&before)) else {
        panic!("not replaced");
    };
    let bundle = &after.webhooks.as_ref().unwrap()[0].client_config.ca_bundle;
    assert_eq!(bundle.as_ref(), Some(&desired.bundle));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let error = |files: &Files| Desired::load(&files.settings(false)).unwrap_err();
    files.write("webhook", "webhooks: []");
    assert!(
        error(&files)
            .to_string()
            .contains("webhook: want a Validating"),
        "{}",
        error(&files)
    );
    files.write("webhook", "{");
    assert_eq!(error(&files).class(), "content");
    files.write("webhook", &" ".repeat(4 << 20));
    assert!(
        error(&files)
            .to_string()
            .contains("more than 3145728 bytes"),
        "{}",
        error(&files)
    );
    std::fs::remove_file(files.path("webhook")).unwrap();
    assert_eq!(error(&files).class(), "read");
    files.write("ca", "no certificate");
    assert!(
        error(&files)
            .to_string()
            .starts_with("cannot load the CA bundle: "),
        "{}",
        error(&files)
    );
}
