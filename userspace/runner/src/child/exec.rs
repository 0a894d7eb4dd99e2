//! The command itself: where its program is, and its environment.

use super::SetupError;
use super::user::User;
use crate::ProcessSpec;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// Where programs are looked for where the environment says nothing else; as in Docker.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that is ready to run.
#[derive(Debug)]
pub(super) struct Command {
    program: String,
    path: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    pub(super) fn new(spec: &ProcessSpec, user: &User) -> Result<Self, SetupError> {
        let text =
            |text: String| CString::new(text).map_err(|_| SetupError::new("the command holds a zero byte"));
        let environment = environment(spec, user);
        Ok(Self {
            program: spec.argv().next().unwrap_or_default().to_owned(),
            path: environment.get("PATH").cloned().unwrap_or_default(),
            arguments: spec
                .argv()
                .map(|argument| text(argument.to_owned()))
                .collect::<Result<_, _>>()?,
            environment: environment
                .into_iter()
                .map(|(name, value)| text(format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Runs it; returns only to say why not. As execvp(3), what may not be run is passed over for what may.
    pub(super) fn exec(&self) -> SetupError {
        let mut refused = None;
        for candidate in candidates(&self.program, &self.path) {
            let Ok(path) = CString::new(candidate.as_os_str().as_encoded_bytes()) else {
                continue;
            };
            let errno = exec(&path, &self.arguments, &self.environment);
            match errno {
                // The file is there where its interpreter is missing.
                Errno::ENOENT | Errno::ENOTDIR if !candidate.exists() => {}
                errno => {
                    refused.get_or_insert((candidate, errno));
                }
            }
        }
        not_run(&self.program, refused)
    }
}

fn exec(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    match nix::unistd::execve(path, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

fn environment(spec: &ProcessSpec, user: &User) -> BTreeMap<String, String> {
    let mut environment = spec.env.clone();
    let mut missing = |name: &str, value: String| {
        environment.entry(name.to_owned()).or_insert(value);
    };
    missing("PATH", PATH.to_owned());
    missing("HOME", user.home.display().to_string());
    if let Some(hostname) = &spec.hostname {
        missing("HOSTNAME", hostname.clone());
    }
    environment
}

/// The files that a program may be.
fn candidates(program: &str, path: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    // An empty part stands for the working directory.
    path.split(':')
        .map(|part| Path::new(if part.is_empty() { "." } else { part }).join(program))
        .collect()
}

fn not_run(program: &str, refused: Option<(PathBuf, Errno)>) -> SetupError {
    let Some((path, errno)) = refused else {
        let message = if program.contains('/') {
            format!("{program} was not found in the task's root")
        } else {
            format!("{program} was not found in the directories of PATH")
        };
        return SetupError { code: 127, message };
    };
    let path = path.display();
    let (code, message) = match errno {
        Errno::ENOENT => (127, format!("{path} needs an interpreter that was not found")),
        Errno::EACCES | Errno::EPERM if Path::new(program).is_dir() => {
            (126, format!("{path} is a directory"))
        }
        Errno::EACCES | Errno::EPERM => (
            126,
            format!("the task's user may not run {path}: permission denied"),
        ),
        Errno::ENOEXEC => (126, format!("{path} is no program that this machine can run")),
        errno => (126, format!("failed to run {path}: {}", errno.desc())),
    };
    SetupError { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        let expected = ["/bin/sh", "./sh", "/usr/bin/sh"].map(PathBuf::from);
        assert_eq!(candidates("sh", "/bin::/usr/bin"), expected);
        assert_eq!(candidates("./sh", "/bin"), [PathBuf::from("./sh")]);
    }

    #[test]
    fn why_a_program_did_not_run_has_the_shells_number() {
        let path = || PathBuf::from("/bin/x");
        for (refused, code) in [
            (None, 127),
            (Some((path(), Errno::ENOENT)), 127),
            (Some((path(), Errno::EACCES)), 126),
            (Some((path(), Errno::ENOEXEC)), 126),
            (Some((path(), Errno::E2BIG)), 126),
        ] {
            assert_eq!(not_run("x", refused.clone()).code, code, "{refused:?}");
        }
    }
}
