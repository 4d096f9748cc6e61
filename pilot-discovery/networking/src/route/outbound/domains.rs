//! The names and addresses by which requests may refer to a service.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use pilot_model::{
    host::Host,
    proxy::IpMode,
    service::{Registry, Resolution, Service},
};

/// Its own name first. `dns_domain` is `<namespace>.svc.<suffix>` of the client.
pub(super) fn of_service(service: &Service, dns_domain: &str, ip_mode: IpMode) -> Vec<Arc<str>> {
    let host = service.host().as_str();
    let mut domains: Vec<String> = vec![host.to_owned()];
    if host.parse::<IpAddr>().is_err() && host != "*" {
        domains.push(format!("{host}."));
    }
    domains.extend(short_forms(host, dns_domain));
    if service.registry == Registry::Kubernetes && service.resolution == Resolution::Passthrough {
        let below: Vec<String> = domains.iter().map(|domain| format!("*.{domain}")).collect();
        domains.extend(below);
    }
    domains.extend(vips(service, ip_mode).map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }));
    domains.into_iter().map(Arc::from).collect()
}

/// The domain of a host that is not a service: only its own name.
pub(super) fn of_host(host: &Host) -> Arc<str> {
    match host.as_str().parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]").into(),
        Err(_) => host.to_arc(),
    }
}

/// Single addresses of `service` that a client of this address family can dial.
pub(crate) fn vips(service: &Service, ip_mode: IpMode) -> impl Iterator<Item = IpAddr> + '_ {
    service.addresses.iter().filter_map(move |address| {
        let ip: IpAddr = address.parse().ok()?;
        let usable = match ip_mode {
            IpMode::V4 => ip.is_ipv4(),
            IpMode::V6 => ip.is_ipv6(),
            IpMode::Dual => true,
        };
        (usable && !ip.is_unspecified()).then_some(ip)
    })
}

/// The short names that the resolver of a client in `dns_domain` would complete to `host`.
fn short_forms(host: &str, dns_domain: &str) -> Vec<String> {
    if let Some((namespace, suffix)) = dns_domain.split_once(".svc.")
        && let Some(local) = host
            .strip_suffix(suffix)
            .and_then(|h| h.strip_suffix(".svc."))
        && let Some((name, of)) = local.rsplit_once('.')
    {
        return if of == namespace {
            vec![
                name.to_owned(),
                format!("{name}.{of}.svc"),
                format!("{name}.{of}"),
            ]
        } else {
            vec![format!("{name}.{of}"), format!("{name}.{of}.svc")]
        };
    }
    let host_labels: Vec<&str> = host.split('.').collect();
    let shared = host_labels
        .iter()
        .rev()
        .zip(dns_domain.rsplit('.'))
        .take_while(|(a, b)| **a == *b)
        .count();
    let unique = host_labels.len() - shared;
    let (Some(own), Some(first_shared)) = (host_labels.get(..unique), host_labels.get(unique))
    else {
        return Vec::new();
    };
    if own.is_empty() || dns_domain.is_empty() {
        return Vec::new();
    }
    let mut forms = vec![own.join(".")];
    if own.len() == 2 {
        forms.push(format!("{}.{first_shared}", own.join(".")));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_depend_on_the_namespace_of_the_client() {
        let forms = |host, domain| short_forms(host, domain).join(" ");
        let host = "reviews.demo.svc.cluster.local";
        assert_eq!(
            forms(host, "demo.svc.cluster.local"),
            "reviews reviews.demo.svc reviews.demo"
        );
        assert_eq!(
            forms(host, "other.svc.cluster.local"),
            "reviews.demo reviews.demo.svc"
        );
        assert_eq!(forms("api.example.com", "demo.svc.cluster.local"), "");
        assert_eq!(forms("foo.local.campus.net", "local.campus.net"), "foo");
        assert_eq!(
            forms("foo.x.campus.net", "local.campus.net"),
            "foo.x foo.x.campus"
        );
        assert_eq!(forms("local.campus.net", "local.campus.net"), "");
    }
}
