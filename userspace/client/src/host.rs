//! Where the daemon is.

use crate::tls::TlsFiles;
use std::path::PathBuf;

/// Where the daemon is if nothing says otherwise.
pub const DEFAULT_HOST: &str = "unix:///run/essaim/docker.sock";
/// The port of `tcp://` without one.
const DEFAULT_PORT: u16 = 2375;
/// The same with TLS.
const DEFAULT_TLS_PORT: u16 = 2376;

/// Where the daemon is, as given on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HostArgs {
    /// Daemon to speak to, `unix:///PATH` or `tcp://HOST[:PORT]`; else `$ESSAIM_HOST`, `$DOCKER_HOST` or
    /// `unix:///run/essaim/docker.sock`
    #[arg(short = 'H', long = "host", value_name = "HOST")]
    host: Option<String>,
    /// Use TLS for `tcp://` and check who the daemon is; so does `$DOCKER_TLS_VERIFY`
    #[arg(long = "tlsverify")]
    tls: bool,
    /// The authorities of the daemon's certificate; else `ca.pem` in `$DOCKER_CERT_PATH` or `~/.docker`
    #[arg(long = "tlscacert", value_name = "FILE", requires = "tls")]
    authority: Option<PathBuf>,
    /// The certificate to show; else `cert.pem` there
    #[arg(long = "tlscert", value_name = "FILE", requires = "tls")]
    certificate: Option<PathBuf>,
    /// Its key; else `key.pem` there
    #[arg(long = "tlskey", value_name = "FILE", requires = "tls")]
    key: Option<PathBuf>,
}

impl HostArgs {
    /// The arguments that name this daemon.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: Some(host.into()),
            ..Self::default()
        }
    }

    /// The daemon's place: the flag's, else that of the first variable which is set, else the default.
    ///
    /// # Errors
    /// The place is not of a form that is understood.
    pub fn endpoint(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Endpoint, HostError> {
        let given = |name| variable(name).filter(|value: &String| !value.is_empty());
        let host = self
            .host
            .clone()
            .or_else(|| given("ESSAIM_HOST"))
            .or_else(|| given("DOCKER_HOST"));
        let tls = (self.tls || given("DOCKER_TLS_VERIFY").is_some()).then(|| self.files(given));
        let endpoint = Endpoint::parse(host.as_deref().unwrap_or(DEFAULT_HOST), tls)?;
        match endpoint {
            Endpoint::Unix(_) if self.tls => Err(HostError::NoTls {
                found: endpoint.to_string(),
            }),
            endpoint => Ok(endpoint),
        }
    }

    /// Where docker has them, too.
    fn files(&self, given: impl Fn(&'static str) -> Option<String>) -> TlsFiles {
        let home = || PathBuf::from(given("HOME").unwrap_or_else(|| "/".to_owned())).join(".docker");
        let folder = given("DOCKER_CERT_PATH").map_or_else(home, PathBuf::from);
        let file = |named: &Option<PathBuf>, name| named.clone().unwrap_or_else(|| folder.join(name));
        TlsFiles {
            authority: file(&self.authority, "ca.pem"),
            certificate: file(&self.certificate, "cert.pem"),
            key: file(&self.key, "key.pem"),
        }
    }
}

/// A daemon's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host and port; plain text, so only for trusted networks.
    Tcp(String),
    /// A host and port, where both sides show certificates.
    Tls {
        /// The host and port.
        address: String,
        /// What is shown and asked for.
        files: TlsFiles,
    },
}

/// A daemon's place that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is no place.
    #[error("--host is \"{found}\", expected unix:///PATH or tcp://HOST[:PORT]")]
    Place {
        /// What was given.
        found: String,
    },
    /// TLS is for TCP.
    #[error("--tlsverify is given and the daemon is at {found}, expected tcp://HOST[:PORT]")]
    NoTls {
        /// Where the daemon is.
        found: String,
    },
}

impl Endpoint {
    fn parse(host: &str, tls: Option<TlsFiles>) -> Result<Self, HostError> {
        let refused = || HostError::Place {
            found: host.to_owned(),
        };
        let (scheme, rest) = host.split_once("://").ok_or_else(refused)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" => {
                let rest = rest.trim_end_matches('/');
                let authority: http::uri::Authority = rest.parse().map_err(|_| refused())?;
                if authority.host().is_empty() || rest.contains('@') {
                    return Err(refused());
                }
                let port = match rest
                    .strip_prefix(authority.host())
                    .and_then(|port| port.strip_prefix(':'))
                {
                    Some(port) => port.parse::<u16>().map_err(|_| refused())?,
                    None if tls.is_some() => DEFAULT_TLS_PORT,
                    None => DEFAULT_PORT,
                };
                let address = format!("{}:{port}", authority.host());
                Ok(match tls {
                    Some(files) => Self::Tls { address, files },
                    None => Self::Tcp(address),
                })
            }
            _ => Err(refused()),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let cases = [
            ("unix:///run/x.sock", Some(Endpoint::Unix("/run/x.sock".into()))),
            ("tcp://h:1", Some(Endpoint::Tcp("h:1".into()))),
            ("tcp://h", Some(Endpoint::Tcp("h:2375".into()))),
            ("tcp://[::1]:7/", Some(Endpoint::Tcp("[::1]:7".into()))),
            ("tcp://", None),
            ("tcp://h:", None),
            ("tcp://h:99999", None),
            ("tcp://a@h:1", None),
            ("unix://relative", None),
            ("ssh://h", None),
            ("/run/x.sock", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Endpoint::parse(text, None).ok(), expected, "{text}");
        }
    }

    #[test]
    fn tls_is_asked_for_by_flag_or_variable_and_takes_dockers_files() {
        let variables = |name: &str| match name {
            "DOCKER_TLS_VERIFY" => Some("1".to_owned()),
            "DOCKER_CERT_PATH" => Some("/certs".to_owned()),
            _ => None,
        };
        let files = |folder: &str| TlsFiles {
            authority: format!("{folder}/ca.pem").into(),
            certificate: format!("{folder}/cert.pem").into(),
            key: format!("{folder}/key.pem").into(),
        };
        let tls = |address: &str, folder: &str| Endpoint::Tls {
            address: address.to_owned(),
            files: files(folder),
        };
        let args = HostArgs::new("tcp://h");
        assert_eq!(args.endpoint(variables), Ok(tls("h:2376", "/certs")));
        assert_eq!(args.endpoint(|_| None), Ok(Endpoint::Tcp("h:2375".to_owned())));
        let asked = HostArgs { tls: true, ..args };
        let home = |name: &str| (name == "HOME").then(|| "/home/o".to_owned());
        assert_eq!(asked.endpoint(home), Ok(tls("h:2376", "/home/o/.docker")));
        let named = HostArgs {
            key: Some("/k.pem".into()),
            ..asked
        };
        let Ok(Endpoint::Tls { files, .. }) = named.endpoint(variables) else {
            panic!("no TLS");
        };
        assert_eq!(
            (files.key, files.certificate),
            ("/k.pem".into(), "/certs/cert.pem".into())
        );
        // The variable is for all of a shell's daemons, the flag for this one.
        let unix = HostArgs::new("unix:///d");
        assert_eq!(unix.endpoint(variables), Ok(Endpoint::Unix("/d".into())));
        let refused = HostArgs { tls: true, ..unix }.endpoint(variables);
        assert!(matches!(refused, Err(HostError::NoTls { .. })), "{refused:?}");
    }

    #[test]
    fn the_flag_goes_before_the_variables_and_they_before_the_default() {
        let both = |name: &str| match name {
            "ESSAIM_HOST" => Some("unix:///e".to_owned()),
            "DOCKER_HOST" => Some("unix:///d".to_owned()),
            _ => None,
        };
        let docker = |name: &str| both(name).filter(|_| name == "DOCKER_HOST");
        let text = |endpoint: Result<Endpoint, HostError>| endpoint.unwrap().to_string();
        assert_eq!(text(HostArgs::new("unix:///f").endpoint(both)), "unix:///f");
        assert_eq!(text(HostArgs::default().endpoint(both)), "unix:///e");
        assert_eq!(text(HostArgs::default().endpoint(docker)), "unix:///d");
        assert_eq!(
            text(HostArgs::default().endpoint(|_| Some(String::new()))),
            DEFAULT_HOST
        );
    }
}
