use std::fmt;
use std::str::FromStr;

/// The names that Docker accepts besides the real-time signals, without `SIG`; the first of a number is its own.
const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The first and last real-time signals that programs may use; those before are the C library's own.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal that may be sent to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StopSignal(i32);

/// Text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no signal, expected a name such as SIGTERM, TERM or SIGRTMIN+3, or a number from 1 to {RTMAX}"
)]
pub struct SignalError {
    /// The text.
    pub found: String,
}

impl StopSignal {
    /// `SIGTERM`, what a task is asked to stop with where nothing else is said.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// `SIGKILL`, which no task can refuse.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::TERM
    }
}

/// As Docker reads it: a name in any case, with or without `SIG`, or a number.
impl FromStr for StopSignal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let refused = || SignalError {
            found: text.to_owned(),
        };
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=RTMAX).contains(&number) {
                Ok(Self(number))
            } else {
                Err(refused())
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        // Docker's list has the System V name, too.
        let name = if name == "CLD" { "CHLD" } else { name };
        let named = NAMES.iter().find(|(known, _)| *known == name);
        named
            .map(|(_, number)| *number)
            .or_else(|| real_time(name))
            .map(Self)
            .ok_or_else(refused)
    }
}

/// `RTMIN`, `RTMIN+1` and so on up, `RTMAX`, `RTMAX-1` and so on down.
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| {
        let digits = text.strip_prefix(sign)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<i32>().ok())?
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => RTMIN,
        (_, Some("")) => RTMAX,
        (Some(up), _) => RTMIN.checked_add(offset(up, '+')?)?,
        (_, Some(down)) => RTMAX.checked_sub(offset(down, '-')?)?,
        (None, None) => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_named_as_docker_accepts_it() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("SIGKILL", 9),
            ("QUIT", 3),
            ("CLD", 17),
            ("SIGIOT", 6),
            ("1", 1),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(text.parse::<StopSignal>().unwrap().number(), number, "{text}");
        }
        for text in [
            "",
            "SIG",
            "0",
            "-15",
            "65",
            "TERMINATE",
            "SIGSIGTERM",
            " TERM",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN+-1",
            "RTMIN-1",
            "RTMIN+",
        ] {
            assert_eq!(
                text.parse::<StopSignal>(),
                Err(SignalError {
                    found: text.to_owned()
                })
            );
        }
    }

    #[test]
    fn every_signal_reads_back_as_it_is_written() {
        for number in 1..=RTMAX {
            let signal: StopSignal = number.to_string().parse().unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal), "{signal}");
        }
        assert_eq!(StopSignal::default().to_string(), "SIGTERM");
    }
}
