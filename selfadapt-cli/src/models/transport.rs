//! How a server is spoken to: TLS in pure Rust, whose certificates, which proxy, how long it may be silent.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsConfigBuilder, parse_pem};

/// The variable that names a file of certificates to trust instead of Mozilla's, as other programs know it.
const CERTIFICATES: &str = "SSL_CERT_FILE";

/// Who asks.
const USER_AGENT: &str = concat!("selfadapt/", env!("CARGO_PKG_VERSION"));

/// A client for `url`. Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
///
/// # Errors
/// If this machine cannot do TLS, or the file of certificates cannot be read.
pub fn agent(url: &str, silence: Duration) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .accept_encoding("identity")
        .timeout_resolve(Some(silence))
        .timeout_connect(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_recv_response(Some(silence));
    if url.starts_with("https://") {
        // A redirect must not lead out of TLS again.
        config = config.https_only(true).tls_config(tls()?);
    }
    Ok(config.build().new_agent())
}

fn tls() -> Result<TlsConfig, String> {
    let mut config = with_provider(TlsConfig::builder())?;
    if let Some(path) = std::env::var_os(CERTIFICATES).filter(|path| !path.is_empty()) {
        let failed = |reason: &str| format!("{CERTIFICATES}, {}: {reason}", path.display());
        let text = std::fs::read(&path).map_err(|error| failed(&error.to_string()))?;
        let certificates: Vec<_> = parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(failed("expected certificates in PEM form, found none"));
        }
        config = config.root_certs(RootCerts::from(certificates));
    }
    Ok(config.build())
}

/// Graviola's cryptography needs a Rust compiler only, and processors made since about 2014.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn with_provider(config: TlsConfigBuilder) -> Result<TlsConfigBuilder, String> {
    if !graviola::util::is_cpu_supported() {
        return Err("https needs AES, AVX2 and ADX instructions (SHA-2 on ARM), which this processor lacks; \
                    fetch the file with another program, or from an http mirror"
            .into());
    }
    let provider = std::sync::Arc::new(rustls_graviola::default_provider());
    Ok(config.unversioned_rustls_crypto_provider(provider))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn with_provider(_: TlsConfigBuilder) -> Result<TlsConfigBuilder, String> {
    Err("https is not built for this processor; fetch the file with another program, or from an http mirror".into())
}

/// A failure in words.
pub fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the server was silent for too long".into(),
        ureq::Error::HostNotFound => "there is no such host, or no network".into(),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nobody answers at this address".into()
        }
        other if other.to_string().contains("lookup address") => {
            "there is no such host, or no network".into()
        }
        other if other.to_string().contains("peer certificate") => format!(
            "the server's certificate is not trusted ({other}); where a proxy of your institute signs with its own, name that \
             in {CERTIFICATES}"
        ),
        other => other.to_string(),
    }
}

/// A failure within a body in words.
pub fn body_words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or_else(|| error.to_string(), words)
}
