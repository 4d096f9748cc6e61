use std::fs;
use std::os::unix::fs::PermissionsExt;

use mesh_common::tls::{CertFiles, ClientAuth, ReloadingServerConfig, ServerOptions};
use mesh_core::spiffe::Identity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::harness::{Citadel, der, eventually, verifies};

#[tokio::test]
async fn each_process_gets_its_certificate() {
    let custom = "--custom-dns-names=istio-pilot-service-account.istio-system:pilot.example";
    let citadel = Citadel::start(&[custom]).await;
    for component in ["galley", "pilot", "sidecar-injector"] {
        let dir = citadel.path("certs").join(component);
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let chain = read("cert-chain.pem");
        assert!(verifies(&chain, "", &read("root-cert.pem")));
        let leaf = der(&chain);
        assert_eq!(
            Identity::from_certificate_der(&leaf).unwrap().to_string(),
            format!("spiffe://cluster.local/ns/istio-system/sa/istio-{component}-service-account")
        );
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let names: Vec<String> = leaf
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        let mut wanted = vec![
            format!("istio-{component}.istio-system.svc"),
            format!("istio-{component}.istio-system"),
            format!("istio-{component}.istio-system.svc.cluster.local"),
        ];
        if component == "pilot" {
            wanted.push("pilot.example".to_owned());
        }
        assert_eq!(names, wanted);
        let mode = fs::metadata(dir.join("key.pem"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(mode, 0o600);
        let files = CertFiles::in_dir(&dir);
        ReloadingServerConfig::load(&files, ServerOptions::grpc(ClientAuth::Required)).unwrap();
    }
    citadel.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_in_place() {
    let citadel = Citadel::start(&["--workload-cert-ttl=4s"]).await;
    let path = citadel.path("certs/pilot/cert-chain.pem");
    let first = fs::read_to_string(&path).unwrap();
    // A process that follows the files sees only complete pairs.
    let files = CertFiles::in_dir(citadel.path("certs/pilot"));
    let config =
        ReloadingServerConfig::load(&files, ServerOptions::grpc(ClientAuth::Required)).unwrap();
    let (trigger, watch) = mesh_common::drain::channel();
    let following = tokio::spawn(config.follow(watch));
    eventually("renewed", async || {
        fs::read_to_string(&path).is_ok_and(|now| now != first)
    })
    .await;
    eventually("noticed", async || config.status().borrow().reloads >= 1).await;
    drop(trigger);
    following.await.unwrap().unwrap();
    citadel.stop().await;
}
