use std::num::NonZeroU16;

/// What is asked of a task to learn whether it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A command in the task's namespaces, control group and privileges passes with exit status 0.
    Command(CommandLine),
    /// A TCP port of the task passes by taking a connection.
    Tcp {
        /// The port.
        port: NonZeroU16,
    },
    /// An HTTP server of the task passes with a status of 200 to 399.
    Http(HttpProbe),
}

/// A command with its arguments; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    program: String,
    arguments: Vec<String>,
}

/// A GET request. Redirects are not followed: they show that the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    port: NonZeroU16,
    path: String,
    host: Option<String>,
}

/// Words that are no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Port 0.
    #[error("port 0 cannot be probed, expected 1 to 65535")]
    Port,
    /// No command.
    #[error("the command is empty")]
    Empty,
    /// A word with a NUL byte, which no command can be given.
    #[error("the command has a NUL byte in {word:?}")]
    Nul {
        /// The word.
        word: String,
    },
    /// A test that begins with another word than Docker's.
    #[error("the test begins with {found:?}, expected NONE, CMD or CMD-SHELL")]
    Kind {
        /// The word.
        found: String,
    },
    /// A test with more or fewer words than its kind takes.
    #[error("a {kind} test has {found} more words, expected {expected}")]
    Words {
        /// `NONE` or `CMD-SHELL`.
        kind: &'static str,
        /// How many there are.
        found: usize,
        /// How many it takes.
        expected: usize,
    },
    /// A path that would not be one line of a request.
    #[error("path {found:?} is no path, expected a '/' first, and neither spaces nor control characters")]
    Path {
        /// The path.
        found: String,
    },
    /// A host that would not be one line of a request.
    #[error("host {found:?} is no host, expected neither spaces nor control characters")]
    Host {
        /// The host.
        found: String,
    },
}

impl Probe {
    /// Reads the words of Docker's `Healthcheck.Test`; `None` for `NONE`, which turns a check off.
    ///
    /// `CMD` is followed by a command with its arguments, `CMD-SHELL` by a line for `/bin/sh -c`.
    ///
    /// # Errors
    /// [`ProbeError`]; the empty test, which in Docker means that of the image, is one.
    pub fn from_docker(test: &[String]) -> Result<Option<Self>, ProbeError> {
        let Some((kind, rest)) = test.split_first() else {
            return Err(ProbeError::Empty);
        };
        let words = |kind, expected| {
            if rest.len() == expected {
                return Ok(());
            }
            Err(ProbeError::Words {
                kind,
                found: rest.len(),
                expected,
            })
        };
        match kind.as_str() {
            "NONE" => words("NONE", 0).map(|()| None),
            "CMD" => Self::command(rest).map(Some),
            "CMD-SHELL" => {
                words("CMD-SHELL", 1)?;
                Self::shell(&rest[0]).map(Some)
            }
            _ => Err(ProbeError::Kind { found: kind.clone() }),
        }
    }

    /// A command with its arguments.
    ///
    /// # Errors
    /// It is empty, or has a NUL byte.
    pub fn command(words: &[String]) -> Result<Self, ProbeError> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(ProbeError::Empty);
        };
        if program.is_empty() {
            return Err(ProbeError::Empty);
        }
        if let Some(word) = words.iter().find(|word| word.contains('\0')) {
            return Err(ProbeError::Nul { word: word.clone() });
        }
        Ok(Self::Command(CommandLine {
            program: program.clone(),
            arguments: arguments.to_vec(),
        }))
    }

    /// A line for the task's `/bin/sh -c`.
    ///
    /// # Errors
    /// It is empty, or has a NUL byte.
    pub fn shell(line: &str) -> Result<Self, ProbeError> {
        if line.trim().is_empty() {
            return Err(ProbeError::Empty);
        }
        Self::command(&["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()])
    }

    /// A connection to this port.
    ///
    /// # Errors
    /// The port is 0.
    pub fn tcp(port: u16) -> Result<Self, ProbeError> {
        NonZeroU16::new(port)
            .map(|port| Self::Tcp { port })
            .ok_or(ProbeError::Port)
    }

    /// A GET of this path on this port; `host` is what the request names as its host, the task's address by default.
    ///
    /// # Errors
    /// The port is 0, or path or host do not fit a request's line.
    pub fn http(port: u16, path: &str, host: Option<&str>) -> Result<Self, ProbeError> {
        let port = NonZeroU16::new(port).ok_or(ProbeError::Port)?;
        let unfit = |text: &str| text.chars().any(|c| c.is_control() || c.is_whitespace());
        if !path.starts_with('/') || unfit(path) {
            return Err(ProbeError::Path {
                found: path.to_owned(),
            });
        }
        if let Some(host) = host
            && (host.is_empty() || unfit(host))
        {
            return Err(ProbeError::Host {
                found: host.to_owned(),
            });
        }
        Ok(Self::Http(HttpProbe {
            port,
            path: path.to_owned(),
            host: host.map(str::to_owned),
        }))
    }
}

impl CommandLine {
    /// The program, by path or name.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }
}

impl HttpProbe {
    /// The port.
    pub fn port(&self) -> NonZeroU16 {
        self.port
    }

    /// The path, with its query if any.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the request names as its host, where it is not the address.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|&word| word.to_owned()).collect()
    }

    fn command(text: &[&str]) -> Probe {
        Probe::command(&words(text)).unwrap()
    }

    #[test]
    fn dockers_tests_are_understood() {
        let line = "curl -f http://localhost/ || exit 1";
        for (test, expected) in [
            (vec!["NONE"], Ok(None)),
            (vec!["CMD", "true"], Ok(Some(command(&["true"])))),
            (
                vec!["CMD", "nc", "-z", "::1", "80"],
                Ok(Some(command(&["nc", "-z", "::1", "80"]))),
            ),
            (
                vec!["CMD-SHELL", line],
                Ok(Some(command(&["/bin/sh", "-c", line]))),
            ),
            (vec![], Err(ProbeError::Empty)),
            (vec!["CMD"], Err(ProbeError::Empty)),
            (vec!["CMD", ""], Err(ProbeError::Empty)),
            (vec!["CMD-SHELL", " "], Err(ProbeError::Empty)),
            (
                vec!["NONE", "true"],
                Err(ProbeError::Words {
                    kind: "NONE",
                    found: 1,
                    expected: 0,
                }),
            ),
            (
                vec!["CMD-SHELL", "a", "b"],
                Err(ProbeError::Words {
                    kind: "CMD-SHELL",
                    found: 2,
                    expected: 1,
                }),
            ),
            (
                vec!["true"],
                Err(ProbeError::Kind {
                    found: "true".to_owned(),
                }),
            ),
            (
                vec!["CMD", "a", "b\0"],
                Err(ProbeError::Nul {
                    word: "b\0".to_owned(),
                }),
            ),
        ] {
            assert_eq!(Probe::from_docker(&words(&test)), expected, "{test:?}");
        }
    }

    #[test]
    fn a_request_cannot_be_split_through_its_path_or_host() {
        assert!(Probe::http(80, "/", None).is_ok());
        assert!(Probe::http(80, "/health?full=1", Some("web.example:8080")).is_ok());
        for path in ["", "health", "/a b", "/a\r\nX: y", "/\u{85}"] {
            assert_eq!(
                Probe::http(80, path, None),
                Err(ProbeError::Path {
                    found: path.to_owned()
                })
            );
        }
        for host in ["", "a b", "a\r\nX: y"] {
            assert_eq!(
                Probe::http(80, "/", Some(host)),
                Err(ProbeError::Host {
                    found: host.to_owned()
                })
            );
        }
    }

    #[test]
    fn port_0_cannot_be_probed() {
        assert_eq!(Probe::tcp(0), Err(ProbeError::Port));
        assert_eq!(Probe::http(0, "/", None), Err(ProbeError::Port));
    }
}
