//! Where the daemon is.

use std::path::PathBuf;

/// Where the daemon is if nothing says otherwise.
pub const DEFAULT_HOST: &str = "unix:///run/essaim/api.sock";
/// The port of `tcp://` without one.
const DEFAULT_PORT: u16 = 2375;

/// Where the daemon is, as given on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HostArgs {
    /// Daemon to speak to, `unix:///PATH` or `tcp://HOST[:PORT]`; else `$ESSAIM_HOST`, `$DOCKER_HOST` or
    /// `unix:///run/essaim/api.sock`
    #[arg(short = 'H', long = "host", value_name = "HOST")]
    host: Option<String>,
}

impl HostArgs {
    /// The arguments that name this daemon.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: Some(host.into()),
        }
    }

    /// The daemon's place: the flag's, else that of the first variable which is set, else the default.
    ///
    /// # Errors
    /// The place is not of a form that is understood.
    pub fn endpoint(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Endpoint, HostError> {
        let given = |name| variable(name).filter(|host| !host.is_empty());
        let host = self
            .host
            .clone()
            .or_else(|| given("ESSAIM_HOST"))
            .or_else(|| given("DOCKER_HOST"));
        Endpoint::parse(host.as_deref().unwrap_or(DEFAULT_HOST))
    }
}

/// A daemon's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host and port; plain text, so only for trusted networks.
    Tcp(String),
}

/// A daemon's place that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--host is \"{found}\", expected unix:///PATH or tcp://HOST[:PORT]")]
pub struct HostError {
    /// What was given.
    pub found: String,
}

impl Endpoint {
    fn parse(host: &str) -> Result<Self, HostError> {
        let refused = || HostError {
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
                    None => DEFAULT_PORT,
                };
                Ok(Self::Tcp(format!("{}:{port}", authority.host())))
            }
            _ => Err(refused()),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
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
            assert_eq!(Endpoint::parse(text).ok(), expected, "{text}");
        }
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
