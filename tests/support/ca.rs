//! A private certificate authority, and the server certificates it issues: good ones, expired ones, misnamed ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// From when until when a certificate holds, in days from today; whole days by UTC.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First day, e.g. -1 for yesterday.
    pub from: i64,
    /// Last day, e.g. 90; negative for one that has expired.
    pub until: i64,
}

impl Validity {
    /// Valid since yesterday and for a year.
    pub const GOOD: Self = Self { from: -1, until: 365 };
    /// Ran out two days ago.
    pub const EXPIRED: Self = Self { from: -90, until: -2 };
    /// Begins in a month.
    pub const NOT_YET: Self = Self { from: 30, until: 365 };
}

/// A certificate and its key, as PEM files that live as long as this value, a clone of it, or the [`Ca`].
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificates that the server shows: its own alone, as the CA itself signed it.
    pub chain: PathBuf,
    /// The private key, PKCS#8.
    pub key: PathBuf,
    _directory: Arc<TempDir>,
}

/// A certificate authority that only those know who are given [`Ca::pem`].
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: Arc<TempDir>,
}

impl Ca {
    /// Makes a new authority with a key of its own.
    pub fn new() -> Self {
        let mut params = params(&[], Validity { from: -400, until: 800 });
        params.distinguished_name.push(DnType::CommonName, "Mailferry test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a self-signed certificate").pem();
        let directory =
            tempfile::Builder::new().prefix("mailferry-ca-").tempdir().expect("a temporary directory");
        fs::write(directory.path().join("ca.crt"), &pem).expect("ca.crt can be written");
        Self { issuer: Issuer::new(params, key), pem, directory: Arc::new(directory) }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's own certificate, as a file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Issues a good certificate for `names`: DNS names or IP addresses.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_for(names, Validity::GOOD)
    }

    /// Issues a certificate for `names` that holds as long as `validity` says.
    pub fn issue_for(&self, names: &[&str], validity: Validity) -> Certificate {
        let mut params = params(names, validity);
        params.distinguished_name.push(DnType::CommonName, *names.first().unwrap_or(&"nobody"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        let place = fresh_directory(self.directory.path());
        let files = Certificate {
            chain: place.join("tls.crt"),
            key: place.join("tls.key"),
            _directory: Arc::clone(&self.directory),
        };
        fs::write(&files.chain, certificate.pem()).expect("tls.crt can be written");
        fs::write(&files.key, key.serialize_pem()).expect("tls.key can be written");
        files
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

fn fresh_directory(under: &Path) -> PathBuf {
    tempfile::Builder::new()
        .prefix("cert-")
        .tempdir_in(under)
        .expect("a directory for the certificate")
        .keep()
}

fn params(names: &[&str], validity: Validity) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names that a certificate can hold");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let today = today();
    let day = |offset: i64| {
        let date = today.checked_add(offset.days()).expect("a date");
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    (params.not_before, params.not_after) = (day(validity.from), day(validity.until));
    params
}

fn today() -> Date {
    Timestamp::try_from(SystemTime::now()).expect("a date of our time").to_zoned(TimeZone::UTC).date()
}
