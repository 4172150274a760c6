//! Certificates by name, from an authority that the pod trusts.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use model::{KeyPair, Name};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// How far a clock in a pod may be behind.
const SKEW: Duration = Duration::from_secs(24 * 3600);
/// How long a certificate is good.
const LIFETIME: Duration = Duration::from_secs(48 * 3600);

/// Issues certificates. All have one key, made when the first is needed; it never leaves the
/// process and ends with it.
#[derive(Debug)]
pub(super) struct Mint {
    key: OnceLock<Option<rcgen::KeyPair>>,
}

impl Mint {
    pub const fn new() -> Self {
        Self { key: OnceLock::new() }
    }

    /// A certificate for this name, and those above it; none where the authority is of no use.
    pub fn issue(&self, issuer: &KeyPair, name: &Name, now: SystemTime) -> Option<CertifiedKey> {
        let key = self.key.get_or_init(|| rcgen::KeyPair::generate().ok()).as_ref()?;
        let authority = rcgen::KeyPair::from_pem(&issuer.key.0).ok()?;
        let authority = Issuer::from_ca_cert_pem(&issuer.chain, authority).ok()?;
        let text = name.to_string();
        let text = text.strip_suffix('.').unwrap_or(&text).to_owned();
        let mut params = CertificateParams::new([text]).ok()?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LIFETIME).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &authority).ok()?;
        let mut chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        chain.extend(super::certificates(&issuer.chain)?);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(chain, key, &ring::default_provider()).ok()
    }
}
