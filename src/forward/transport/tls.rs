//! TLS to a collector (RFC 5425, RFC 9662): its certificate is verified against the configured authorities and the configured
//! name, ours is shown when there is one. TLS 1.3 and 1.2, no 0-RTT.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::stream::Wire;
use super::{Failure, host_of};

/// Longest wait for the last word.
const FAREWELL: Duration = Duration::from_millis(500);

/// Certificates of an output.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file of the authorities whose certificates are believed.
    pub ca: PathBuf,
    /// PEM file of our certificate and its chain.
    pub certificate: Option<PathBuf>,
    /// PEM file of our key.
    pub key: Option<PathBuf>,
    /// The name the collector's certificate must have; without it the host of the address.
    pub name: Option<String>,
}

/// A stream over TLS.
pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Wire for TlsStream {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn buffered(&mut self) -> bool {
        self.conn.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }

    /// Without `close_notify` the collector cannot tell our end from one that somebody forced on us.
    fn farewell(&mut self) {
        self.conn.send_close_notify();
        // a peer that takes no bytes does not hold the end up
        let _ = self.sock.set_write_timeout(Some(FAREWELL));
        let _ = self.flush();
    }
}

/// What was read wrong, in words for the one who set it up.
pub(super) fn failure(doing: &str, error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => refusal(doing, error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::Lost(format!("{doing}: the connection ended without a word"))
        }
        None => Failure::lost(doing, error),
    }
}

fn refusal(doing: &str, error: &rustls::Error) -> Failure {
    use rustls::{CertificateError, Error};
    let words = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the collector's certificate has expired: renew it there".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the collector's certificate is for another name: set server-name to a name in it, or correct the address"
            .to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the collector's certificate is from an authority that the ca file does not hold".to_owned()
        }
        Error::InvalidCertificate(other) => format!("the collector's certificate is not good: {other:?}"),
        Error::AlertReceived(alert) => {
            format!("the collector refuses us with the TLS alert {alert:?}: it may want a client certificate it knows")
        }
        other => return Failure::lost(doing, other),
    };
    Failure::Refused(words)
}

/// The configuration of the client side.
///
/// # Errors
/// A file cannot be read or holds no certificate, by name.
pub(super) fn client(tls: &Tls) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca)? {
        let added = roots.add(certificate);
        added.map_err(|error| Failure::Refused(format!("{}: {error}", tls.ca.display())))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Refused(format!("TLS: {error}")))?
        .with_root_certificates(roots);
    let config = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                Failure::Refused(format!("{}: expected a private key in PEM: {error}", key.display()))
            })?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| Failure::Refused(format!("{}: {error}", certificate.display())))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The certificates of a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let expected = |error: &dyn std::fmt::Display| {
        Failure::Refused(format!("{}: expected certificates in PEM: {error}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| expected(&error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| expected(&error))?;
    if found.is_empty() {
        return Err(expected(&"none found"));
    }
    Ok(found)
}

/// Shakes hands on `socket`.
///
/// # Errors
/// The collector is not whom it should be, or does not want us.
pub(super) fn handshake(socket: TcpStream, address: &str, tls: &Tls) -> Result<TlsStream, Failure> {
    let wanted = tls.name.clone().unwrap_or_else(|| host_of(address).to_owned());
    let name = ServerName::try_from(wanted.clone())
        .map_err(|_| Failure::Refused(format!("{wanted:?} is no name a certificate can have")))?;
    let connection =
        ClientConnection::new(client(tls)?, name).map_err(|error| Failure::Refused(format!("TLS: {error}")))?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        let progress = stream.conn.complete_io(&mut stream.sock);
        progress.map_err(|error| failure("TLS handshake", &error))?;
    }
    stream.flush().map_err(|error| failure("TLS handshake", &error))?;
    Ok(stream)
}
