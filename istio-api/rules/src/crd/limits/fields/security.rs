//! Fields of `security.istio.io` (CS-13, CS-14, CS-15).

use super::{NOT_EMPTY, REQUIRED, REQUIRED_NOT_EMPTY, Row, TARGETS};
use crate::crd::limits::Limit::{
    self, Elements, Items, Length, MinLength, Pattern, Properties, ProtoSpelling, Required, Rule,
};

const ELEMENTS_NOT_EMPTY: &[Limit] = &[Elements(&[MinLength(1)])];
const SERVICE_ACCOUNTS: &[Limit] = &[Items(0, 16), Elements(&[Length(0, 320)])];
/// RA-07, CS-14
const JWKS_URI: &[Limit] = &[
    ProtoSpelling,
    Length(1, 2048),
    Rule(
        "url(self).getScheme() in ['http', 'https']",
        "want an address with scheme http or https",
    ),
];

pub(super) const FIELDS: &[Row] = &[
    (
        "security.v1beta1.AuthorizationPolicy",
        "rules",
        &[Items(0, 512)],
    ),
    (
        "security.v1beta1.AuthorizationPolicy",
        "targetRefs",
        TARGETS,
    ),
    (
        "security.v1beta1.ClaimToHeader",
        "claim",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "security.v1beta1.ClaimToHeader",
        "header",
        &[Required, MinLength(1), Pattern("^[-_A-Za-z0-9]+$")],
    ),
    ("security.v1beta1.Condition", "key", REQUIRED),
    ("security.v1beta1.JWTHeader", "name", REQUIRED_NOT_EMPTY),
    ("security.v1beta1.JWTRule", "audiences", ELEMENTS_NOT_EMPTY),
    (
        "security.v1beta1.JWTRule",
        "fromCookies",
        ELEMENTS_NOT_EMPTY,
    ),
    ("security.v1beta1.JWTRule", "fromParams", ELEMENTS_NOT_EMPTY),
    ("security.v1beta1.JWTRule", "issuer", NOT_EMPTY),
    ("security.v1beta1.JWTRule", "jwksUri", JWKS_URI),
    (
        "security.v1beta1.JWTRule",
        "spaceDelimitedClaims",
        &[Items(0, 64), Elements(&[MinLength(1)])],
    ),
    (
        "security.v1beta1.PeerAuthentication",
        "portLevelMtls",
        &[
            Properties(1, u32::MAX),
            Rule(
                "self.all(key, int(key) >= 1 && int(key) <= 65535)",
                "want ports, 1 to 65535, as keys",
            ),
        ],
    ),
    (
        "security.v1beta1.RequestAuthentication",
        "jwtRules",
        &[Items(0, 4096)],
    ),
    (
        "security.v1beta1.RequestAuthentication",
        "targetRefs",
        TARGETS,
    ),
    ("security.v1beta1.Rule", "from", &[Items(0, 512)]),
    (
        "security.v1beta1.Source",
        "notServiceAccounts",
        SERVICE_ACCOUNTS,
    ),
    (
        "security.v1beta1.Source",
        "serviceAccounts",
        SERVICE_ACCOUNTS,
    ),
];
