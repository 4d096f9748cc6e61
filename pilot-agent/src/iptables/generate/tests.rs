use clap::Parser as _;

use crate::{
    args::{Action, Cli},
    env::Env,
    iptables::{
        config::{Config, Error, Family, Host},
        generate::rules,
        state::Saved,
    },
};

const SIDECAR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020";

fn try_config(flags: &str, env: &[(&str, &str)], addresses: &[&str]) -> Result<Config, Error> {
    let words = ["pilot-agent", "istio-iptables"]
        .into_iter()
        .chain(flags.split(' ').filter(|_| !flags.is_empty()));
    let Action::IstioIptables(flags) = Cli::try_parse_from(words).unwrap().command else {
        panic!("another command")
    };
    let host = Host {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        name_servers: vec![
            "10.0.0.53".parse().unwrap(),
            "10.0.0.54".parse().unwrap(),
            "fd00::53".parse().unwrap(),
        ],
        proxy_user: None,
    };
    Config::new(&flags, &Env::from_pairs(env.iter().copied()), &host)
}

fn config(flags: &str, env: &[(&str, &str)], addresses: &[&str]) -> Config {
    try_config(flags, env, addresses).unwrap()
}

/// The rules of both families as one text.
fn both(flags: &str, env: &[(&str, &str)]) -> String {
    let config = config(
        format!("{flags} --dual-stack").trim_start(),
        env,
        &["10.0.0.5", "fd00::5"],
    );
    [Family::V4, Family::V6]
        .map(|family| format!("# {family:?}\n{}", rules(&config, family).render()))
        .concat()
}

#[test]
fn typical_sidecar_is_exactly_the_known_set() {
    let config = config(SIDECAR, &[], &["10.0.0.5"]);
    assert_eq!(config.families(), [Family::V4]);
    assert_eq!(
        rules(&config, Family::V4).render(),
        "*nat
-N ISTIO_INBOUND
-N ISTIO_REDIRECT
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
"
    );
}

#[test]
fn every_option_in_both_families() {
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 16] = [
        ("empty", "", &[]),
        ("sidecar", SIDECAR, &[]),
        ("port_list", "-i * -b 8080,9090 -d 15020", &[]),
        (
            "excludes",
            "-i * -b * -d 22 -x 10.96.0.0/12,fd96::/112 -o 3306,5432",
            &[],
        ),
        ("cidr_list", "-i 10.0.0.0/8,fd00::/8 -b * -q 443", &[]),
        ("loopback_cidr", "-i 127.0.0.0/8 -b *", &[]),
        ("interfaces", "-i * -b * -c eth1,net1", &[]),
        ("virtual_interfaces", "-i * -b * -k veth0", &[]),
        (
            "virtual_interfaces_cidr",
            "-i 10.0.0.0/8 -b * -k veth0",
            &[],
        ),
        ("dns", &format!("{SIDECAR} --redirect-dns"), &[]),
        ("dns_all", &format!("{SIDECAR} --capture-all-dns"), &[]),
        (
            "tproxy",
            "-u 1337 -m TPROXY -i * -b * -d 15020 -c eth9",
            &[],
        ),
        ("drop_invalid", &format!("{SIDECAR} --drop-invalid"), &[]),
        (
            "groups_excluded",
            SIDECAR,
            &[("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "admins,202")],
        ),
        (
            "groups_included",
            SIDECAR,
            &[("ISTIO_OUTBOUND_OWNER_GROUPS", "app,303")],
        ),
        ("mark", "--proxy-mark 0x1539 -i * -b * --redirect-dns", &[]),
    ];
    for (name, flags, env) in cases {
        insta::assert_snapshot!(name, both(flags, env));
    }
}

#[test]
fn variables_stand_for_flags_and_flags_win() {
    let env = [
        ("ENVOY_PORT", "16001"),
        ("ISTIO_INBOUND_PORTS", "*"),
        ("ISTIO_SERVICE_CIDR", "*"),
        ("PROXY_UID", "7"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
    ];
    let found = config("-u 8", &env, &["10.0.0.5"]);
    assert_eq!(
        (found.proxy_port, found.proxy_uids, found.proxy_gids),
        (16001, vec!["8".to_owned()], vec!["8".to_owned()])
    );
    assert!(found.dns.is_some());
}

#[test]
fn family_follows_the_first_address() {
    assert_eq!(
        config("", &[], &["fd00::5", "10.0.0.5"]).families(),
        [Family::V6]
    );
    assert_eq!(
        config("--dual-stack", &[], &["10.0.0.5", "fd00::5"]).families(),
        [Family::V4, Family::V6]
    );
    assert!(
        try_config("", &[], &[])
            .unwrap_err()
            .to_string()
            .contains("no address")
    );
}

#[test]
fn bad_values_are_refused_by_name() {
    for (flags, text) in [
        ("-p 0", "--envoy-port: \"0\" is not a port"),
        ("-b 80,x", "--istio-inbound-ports: \"x\" is not a port"),
        ("-i 10.0.0.0/33", "--istio-service-cidr"),
        ("-x *", "--istio-service-exclude-cidr"),
        ("-m OTHER", "neither REDIRECT nor TPROXY"),
        ("-u root", "--proxy-uid: \"root\" is not a numeric id"),
        ("-c bad/name", "--istio-exclude-interfaces"),
        ("--proxy-mark 0", "--proxy-mark"),
    ] {
        let error = try_config(flags, &[], &["10.0.0.5"])
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{flags}: {error}");
    }
    let error = try_config(
        "",
        &[("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "10.0.0.0/8")],
        &["10.0.0.5"],
    )
    .unwrap_err();
    assert!(error.to_string().contains("127.0.0.0/8"));
}

#[test]
fn replacing_text_flushes_chains_and_takes_old_jumps_away() {
    let wanted = rules(&config(SIDECAR, &[], &["10.0.0.5"]), Family::V4);
    let existing = Saved::parse(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:ISTIO_INBOUND - [0:0]\n:ISTIO_OLD - [0:0]\n-A PREROUTING -p tcp -j ISTIO_INBOUND\nCOMMIT\n",
    );
    let text = wanted.render_replacing(&existing);
    assert!(
        text.starts_with("*nat\n:ISTIO_INBOUND - [0:0]\n:ISTIO_REDIRECT - [0:0]\n"),
        "{text}"
    );
    assert!(
        text.contains(
            ":ISTIO_OLD - [0:0]\n-D PREROUTING -p tcp -j ISTIO_INBOUND\n-A ISTIO_INBOUND"
        ),
        "{text}"
    );
    assert!(
        text.ends_with("-A ISTIO_OUTPUT -j ISTIO_REDIRECT\n-X ISTIO_OLD\nCOMMIT\n"),
        "{text}"
    );
}
