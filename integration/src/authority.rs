//! Certificates for a lab's servers, from authorities of the lab's own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and those above it.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// Makes one that is called so.
    pub fn new(name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Its certificate and its key.
    pub fn identity(&self) -> Identity {
        Identity { chain: self.0.pem(), key: self.0.key().serialize_pem() }
    }

    /// A server's certificate for these names.
    pub fn issue(&self, names: &[&str]) -> Result<Identity, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
        Ok(Identity { chain: leaf.pem() + &self.0.pem(), key: key.serialize_pem() })
    }
}
