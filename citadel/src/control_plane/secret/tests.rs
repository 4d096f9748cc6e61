use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::ca::{Authority, Kind, TtlPolicy};
use crate::control_plane::Profile;
use crate::control_plane::tests::profile;
use crate::store::self_signed::Options;

const HOUR: Duration = Duration::from_secs(3600);

fn authority(now: SystemTime) -> Authority {
    let options = Options {
        trust_domain: profile().trust_domain,
        kind: Kind::P256,
        lifetime: HOUR * 100,
        grace_percent: 20,
        extra_roots: Vec::new(),
        read_only: false,
    };
    let root = crate::store::secret::make(&options, now).unwrap();
    let policy = TtlPolicy {
        default: HOUR,
        max: HOUR * 24,
        min: Duration::ZERO,
    };
    let bundle = crate::store::secret::read(&root, &options, now).unwrap();
    Authority::new(bundle, policy, false)
}

/// A Secret of pilot and the values it was made from.
struct Fixture {
    now: SystemTime,
    profile: Profile,
    identity: Identity,
    dns: Vec<String>,
    bundle: Arc<Bundle>,
    secret: Secret,
}

impl Fixture {
    fn new() -> Self {
        let now = SystemTime::now();
        let authority = authority(now);
        let profile = profile();
        let issued = profile.issue(&authority, "pilot", now).unwrap();
        let mut fixture = Self {
            now,
            identity: profile.identity("pilot").unwrap(),
            dns: profile.names_of("pilot"),
            bundle: authority.bundle(),
            profile,
            secret: Secret::default(),
        };
        fixture.secret = content(None, &fixture.wanted(), &issued);
        fixture
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            component: "pilot",
            owner: "uid-1",
            identity: &self.identity,
            dns: &self.dns,
            bundle: &self.bundle,
        }
    }

    fn fault(&self, secret: &Secret) -> Fault {
        check(secret, &self.wanted(), self.now).unwrap_err()
    }

    /// The reason to replace the Secret after a change.
    fn outdated(&self, change: impl FnOnce(&mut Secret)) -> &'static str {
        let mut secret = self.secret.clone();
        change(&mut secret);
        match self.fault(&secret) {
            Fault::Outdated(why) => why,
            Fault::Foreign => panic!("foreign"),
        }
    }
}

fn put(secret: &mut Secret, name: &str, text: &str) {
    let data = secret.data.as_mut().unwrap();
    data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
}

#[test]
fn a_new_secret_is_as_1_1_wrote_it_and_good_for_half_of_its_life() {
    let fixture = Fixture::new();
    let value = serde_json::to_value(&fixture.secret).unwrap();
    assert_eq!(value["type"], "istio.io/key-and-cert");
    assert_eq!(
        value["metadata"],
        json!({
            "name": "istio.istio-pilot-service-account",
            "annotations": {"istio.io/service-account.name": "istio-pilot-service-account"},
            "labels": {"istio.io/config": "true"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ServiceAccount",
                "name": "istio-pilot-service-account", "uid": "uid-1",
            }],
        })
    );
    let keys: Vec<_> = fixture.secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, ["cert-chain.pem", "key.pem", "root-cert.pem"]);
    let until = check(&fixture.secret, &fixture.wanted(), fixture.now).unwrap();
    let life = until.duration_since(fixture.now).unwrap();
    assert!(
        life <= HOUR / 2 && life >= HOUR / 2 - Duration::from_secs(2),
        "{life:?}"
    );
    assert_eq!(
        check(&fixture.secret, &fixture.wanted(), until),
        Err(Fault::Outdated("half of its lifetime is over"))
    );
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let fixture = Fixture::new();
    let mut secret = fixture.secret.clone();
    secret.type_ = Some("kubernetes.io/tls".to_owned());
    assert_eq!(fixture.fault(&secret), Fault::Foreign);
}

#[test]
fn what_is_out_of_date_is_replaced() {
    let fixture = Fixture::new();
    let other = Fixture::new();
    assert!(
        fixture
            .outdated(|secret| secret.metadata.owner_references = None)
            .contains("ServiceAccount")
    );
    assert!(
        fixture
            .outdated(|secret| put(secret, ROOTS, other.bundle.root_pem()))
            .contains("roots")
    );
    assert!(
        fixture
            .outdated(|secret| put(secret, CHAIN, ""))
            .contains("no certificate")
    );
    assert!(
        fixture
            .outdated(|secret| put(secret, KEY, "x"))
            .contains("key")
    );
    let key = String::from_utf8(part(&other.secret, KEY).to_vec()).unwrap();
    assert!(
        fixture
            .outdated(|secret| put(secret, KEY, &key))
            .contains("key")
    );
    let chain = String::from_utf8(part(&fixture.secret, CHAIN).to_vec()).unwrap();
    assert!(
        fixture
            .outdated(|secret| put(secret, CHAIN, &(chain + other.bundle.root_pem())))
            .contains("signing certificate")
    );
    let galley = fixture.profile.identity("galley").unwrap();
    let wanted = Wanted {
        identity: &galley,
        ..fixture.wanted()
    };
    assert_eq!(
        check(&fixture.secret, &wanted, fixture.now),
        Err(Fault::Outdated("its names have changed"))
    );
    let wanted = Wanted {
        dns: &fixture.dns[1..],
        ..fixture.wanted()
    };
    assert_eq!(
        check(&fixture.secret, &wanted, fixture.now),
        Err(Fault::Outdated("its names have changed"))
    );
}

#[test]
fn a_replacement_keeps_what_others_put_there() {
    let fixture = Fixture::new();
    let mut found = fixture.secret.clone();
    put(&mut found, "mine", "1");
    let owner = |kind: &str, uid: &str| OwnerReference {
        kind: kind.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    found.metadata.owner_references = Some(vec![owner(OWNER, "old"), owner("Release", "r")]);
    found.metadata.resource_version = Some("7".to_owned());
    let issued = fixture
        .profile
        .issue(&authority(fixture.now), "pilot", fixture.now)
        .unwrap();
    let secret = content(Some(found), &fixture.wanted(), &issued);
    assert_eq!(part(&secret, "mine"), b"1");
    assert_eq!(part(&secret, ROOTS), issued.bundle.root_pem().as_bytes());
    assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
    let owners = secret.metadata.owner_references.unwrap();
    let owners: Vec<_> = owners.iter().map(|owner| owner.uid.as_str()).collect();
    assert_eq!(owners, ["r", "uid-1"]);
}
