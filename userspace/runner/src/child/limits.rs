//! Resource limits of the task's processes.

use super::SetupError;
use crate::Ulimit;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// What programs that call `select` can take; others raise it themselves, up to the hard limit.
const OPEN_FILES: u64 = 1024;

/// Sets them on this process, and so on all that it starts. The node's own limit of open files is not the tasks'.
pub(super) fn set(limits: &[Ulimit]) -> Result<(), SetupError> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(SetupError::io("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard)
        .map_err(SetupError::io("set the limit of open files"))?;
    for limit in limits {
        let Ulimit { name, soft, hard } = limit;
        let resource = resource(name).ok_or_else(|| SetupError::new(format!("{name} is no ulimit")))?;
        // -1 stands for none.
        let value = |limit: i64| u64::try_from(limit).unwrap_or(RLIM_INFINITY);
        setrlimit(resource, value(*soft), value(*hard)).map_err(SetupError::io(format_args!(
            "set the ulimit {name}={soft}:{hard}"
        )))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_ulimit_that_a_spec_may_have_is_known() {
        for name in crate::spec::ULIMITS {
            assert!(super::resource(name).is_some(), "{name}");
        }
        assert!(super::resource("files").is_none());
    }
}
